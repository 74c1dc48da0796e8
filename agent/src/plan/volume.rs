//! What becomes of volumes before containers: they are made, their labels follow. They are never removed here.

use super::action::{Action, Cause, Consequence, Verb};
use super::actual::Observed;
use super::draft::{Draft, resource};
use super::field;
use super::site::{Site, foreign};
use spec::desired::Kind;
use spec::value::Name;
use std::collections::BTreeMap;

/// Whether a volume can be mounted.
pub(super) enum VolumeState {
    /// It can, once this step (if any) is done.
    Usable { made_by: Option<usize> },
    /// It cannot; why is said of the volume itself.
    Blocked,
}

/// Decides on and writes the steps of every volume of the site.
pub(super) fn plan(site: &Site<'_>, draft: &mut Draft) -> BTreeMap<Name, VolumeState> {
    let mut states: BTreeMap<_, _> = site.desired.volumes.keys().map(|name| (name.clone(), one(site, name, draft))).collect();
    let external = site.desired.external.iter().filter(|resource| resource.kind == Kind::Volume);
    for name in external.filter_map(|resource| resource.name.parse::<Name>().ok()) {
        let state = external_state(site, &name, draft);
        states.insert(name, state);
    }
    states
}

/// One that others make is used as it is.
fn external_state(site: &Site<'_>, name: &Name, draft: &mut Draft) -> VolumeState {
    match site.actual.volumes.get(name) {
        Some(Observed::Present(_)) => VolumeState::Usable { made_by: None },
        Some(Observed::Unreadable { why }) => blocked(draft, name, format!("its record could not be read: {why}")),
        None => blocked(draft, name, format!("there is no volume {name}: make it with `agent volume create {name}`")),
    }
}

fn one(site: &Site<'_>, name: &Name, draft: &mut Draft) -> VolumeState {
    let id = resource(Kind::Volume, name);
    let wanted = &site.desired.volumes[name];
    match site.actual.volumes.get(name) {
        None => {
            let cause = Cause::New { location: site.desired.origins.find(&id, "").cloned() };
            let step = draft.step(&id, Action::CreateVolume { name: name.clone(), volume: wanted.clone() }, Vec::new());
            draft.change(id, Verb::Create, Consequence::None, vec![cause]);
            VolumeState::Usable { made_by: Some(step) }
        }
        Some(Observed::Unreadable { why }) => blocked(draft, name, format!("its record could not be read: {why}")),
        Some(Observed::Present(volume)) if volume.owner != site.owner => {
            blocked(draft, name, foreign(Kind::Volume, name.as_str(), &volume.owner))
        }
        Some(Observed::Present(volume)) => {
            let differences = field::differences(field::VOLUME, &volume.applied, wanted);
            if !differences.is_empty() {
                let causes = differences.into_iter().map(|difference| difference.cause(site.desired, &id)).collect();
                draft.step(&id, Action::UpdateVolume { name: name.clone(), volume: wanted.clone() }, Vec::new());
                draft.change(id, Verb::Update, Consequence::None, causes);
            }
            VolumeState::Usable { made_by: None }
        }
    }
}

fn blocked(draft: &mut Draft, name: &Name, why: String) -> VolumeState {
    let id = resource(Kind::Volume, name);
    draft.block(id, why);
    VolumeState::Blocked
}
