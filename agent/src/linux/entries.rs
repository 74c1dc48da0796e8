//! What a plan means for the ledger: before it is carried out, and after. Images enter it when they are obtained, since only
//! then it is known what they were built on.

use crate::host::{Outcome, Report};
use crate::plan::action::{Action, Plan};
use crate::plan::actual::Owner;
use serde::Serialize;
use spec::desired::{Kind, ResourceId};
use spec::value::Name;

/// What an action does to a resource.
enum Effect {
    /// Makes it, as this.
    Creates(serde_json::Value),
    /// Changes it to this.
    Changes(serde_json::Value),
    /// Takes it away.
    Removes,
}

/// One line of the ledger, its times and site still to be added.
pub(super) enum Line {
    /// About to be created, as this.
    Creating(ResourceId, serde_json::Value),
    /// There, as this.
    Present(ResourceId, serde_json::Value),
    /// About to be removed.
    Removing(ResourceId),
    /// Gone, or never begun.
    Gone(ResourceId),
}

/// What is remembered before a plan is carried out.
pub(super) fn before(plan: &Plan) -> Vec<Line> {
    let effects = plan.steps.iter().filter_map(|step| effect(&step.action));
    let line = |(resource, effect): (ResourceId, Effect)| match effect {
        // It was seen not to be there. Whoever had it before has lost it otherwise, by hand perhaps.
        Effect::Creates(applied) => vec![Line::Gone(resource.clone()), Line::Creating(resource, applied)],
        Effect::Removes => vec![Line::Removing(resource)],
        Effect::Changes(_) => Vec::new(),
    };
    effects.flat_map(line).collect()
}

/// What is remembered after. Of what failed nothing is known: it stays as it was announced, and the next plan looks. What was removed
/// stays announced too, until all that went with it is cleared up: a kill in between must not be forgotten.
pub(super) fn after(plan: &Plan, report: &Report) -> Vec<Line> {
    let ended = plan.steps.iter().zip(&report.outcomes);
    let effects = ended.filter_map(|(step, outcome)| effect(&step.action).map(|(resource, effect)| (resource, effect, outcome)));
    let line = |(resource, effect, outcome): (ResourceId, Effect, &Outcome)| match (effect, outcome) {
        (Effect::Creates(applied) | Effect::Changes(applied), Outcome::Done) => Some(Line::Present(resource, applied)),
        (Effect::Removes, Outcome::Done) => None,
        (Effect::Creates(_), Outcome::Skipped) => Some(Line::Gone(resource)),
        (Effect::Creates(_) | Effect::Changes(_) | Effect::Removes, Outcome::Failed(_) | Outcome::Skipped) => None,
    };
    effects.filter_map(line).collect()
}

fn effect(action: &Action) -> Option<(ResourceId, Effect)> {
    let named = |kind, name: &Name| ResourceId { kind, name: name.to_string() };
    Some(match action {
        Action::CreateNetwork { owner: Owner::Hand, .. } => return None,
        Action::CreateNetwork { name, network, .. } => (named(Kind::Network, name), Effect::Creates(json(network))),
        Action::UpdateNetwork { name, network } => (named(Kind::Network, name), Effect::Changes(json(network))),
        Action::RemoveNetwork { name } => (named(Kind::Network, name), Effect::Removes),
        Action::CreateVolume { name, volume } => (named(Kind::Volume, name), Effect::Creates(json(volume))),
        Action::UpdateVolume { name, volume } => (named(Kind::Volume, name), Effect::Changes(json(volume))),
        Action::RemoveVolume { name } => (named(Kind::Volume, name), Effect::Removes),
        Action::CreateContainer { id, spec, .. } => {
            (ResourceId { kind: Kind::Container, name: id.to_string() }, Effect::Creates(json(spec)))
        }
        Action::UpdateContainer { id, spec, .. } => {
            (ResourceId { kind: Kind::Container, name: id.to_string() }, Effect::Changes(json(spec)))
        }
        Action::RemoveContainer { id } => (ResourceId { kind: Kind::Container, name: id.to_string() }, Effect::Removes),
        Action::ForgetImage { key } => (ResourceId { kind: Kind::Image, name: key.to_string() }, Effect::Removes),
        Action::ObtainImage { .. }
        | Action::PushImage { .. }
        | Action::RepairNetwork { .. }
        | Action::StartContainer { .. }
        | Action::AwaitContainer { .. }
        | Action::SwitchTraffic { .. }
        | Action::RepairContainer { .. }
        | Action::StopContainer { .. }
        | Action::RepairFirewall => return None,
    })
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("manifests have text keys and finite numbers")
}
