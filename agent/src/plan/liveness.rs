//! What keeps an incarnation going that stays: repairs, a start, its traffic; and what is left over beside it goes.

use super::action::{Cause, Consequence, Verb};
use super::actual::{ContainerFault, Firewall};
use super::field::Effect;
use super::incarnation::{Incarnation, Life};
use super::need::Need;
use super::network::{NetworkState, NetworkWork};
use super::room::Room;
use super::verdict::{Hindrance, InPlace, Next, Verdict, Work};
use runtime::container::config::Endpoint;
use spec::desired::Container;
use spec::value::Name;

impl<'a> Room<'a, '_> {
    /// What is done to an incarnation that stays: `update` are its endpoints if its spec changes to `spec`.
    pub(super) fn in_place(
        &self,
        name: &'a Name,
        spec: &'a Container,
        current: Incarnation<'a>,
        update: Option<Vec<Endpoint>>,
        need: Need,
    ) -> Verdict<'a> {
        let readiness = self.readiness(spec);
        let mut verdict = Verdict::nothing(Next::Same, Some(current));
        let mut causes = need.causes;
        let mut starts = false;
        match current.life(spec.restart) {
            Life::Up | Life::Done => {}
            Life::Failed(how) => {
                verdict.said.note = Some(format!("{how}; it runs again with `agent container start {name}` or a changed manifest"))
            }
            Life::Down(why) => match self.restart(name, spec, current) {
                Ok((waits, taken)) => {
                    starts = true;
                    verdict.waits = waits;
                    verdict.take(taken);
                    verdict.next = Next::Starts { id: current.id.clone(), readiness };
                    causes.push(Cause::Drift { what: why });
                }
                Err(hindrance) => verdict = Verdict::hindered(hindrance, Some(current)),
            },
        }
        let deferred_start = verdict.said.hindrance == Some(Hindrance::Deferred);
        if deferred_start {
            causes.push(Cause::Drift { what: "it does not run, and what it waits for comes first".to_owned() });
        }
        let repairs = if current.is_alive() { self.repairs(&current) } else { Vec::new() };
        causes.extend(repairs.iter().map(|fault| Cause::Drift { what: describe(fault) }));
        let promotes = current.is_alive() && !current.state.serving;
        if promotes {
            causes.push(Cause::Drift { what: format!("{} runs and its name and ports do not lead to it", current.id) });
        }
        let changes_live = current.is_alive() && (need.effect >= Some(Effect::Live) || !repairs.is_empty() || promotes);
        let verb = match (&update, repairs.is_empty() && !promotes) {
            (Some(_), _) => Verb::Update,
            (None, false) => Verb::Repair,
            (None, true) => Verb::Start,
        };
        let consequence = match (starts || deferred_start, changes_live) {
            (true, _) => Consequence::Restart,
            (false, true) => Consequence::LiveUpdate,
            (false, false) => Consequence::None,
        };
        if !causes.is_empty() {
            verdict.said.change = Some((verb, consequence, causes));
        }
        if update.is_some() || !repairs.is_empty() || starts || promotes {
            verdict.work = Work::InPlace(InPlace { current, update, repairs, starts, promotes, readiness });
        }
        verdict
    }

    /// Faults that no other step mends: the shim first, for the others talk to it.
    fn repairs(&self, current: &Incarnation<'_>) -> Vec<ContainerFault> {
        let mended_with_network = |name: &Name| {
            matches!(
                self.networks.get(name).map(|verdict| &verdict.state),
                Some(NetworkState::Usable { work: NetworkWork::Mend { repair: true, .. }, .. })
            )
        };
        let stays = |fault: &&ContainerFault| match fault {
            ContainerFault::Link { network } => !mended_with_network(network),
            ContainerFault::Ports { .. } => self.site.actual.firewall == Firewall::Intact,
            ContainerFault::Limits { .. } | ContainerFault::Shim => true,
        };
        let mut found: Vec<ContainerFault> = current.state.faults.iter().filter(stays).cloned().collect();
        found.sort_by_key(|fault| *fault != ContainerFault::Shim);
        found
    }
}

impl<'a> Verdict<'a> {
    /// What an interrupted change left beside the incarnation that counts goes.
    pub(super) fn clear_away(&mut self, others: Vec<Incarnation<'a>>) {
        let left = others.iter().map(|one| Cause::Drift { what: format!("an interrupted change left {}: it is removed", one.id) });
        let left: Vec<Cause> = left.collect();
        if !left.is_empty() {
            let (_, _, causes) = self.said.change.get_or_insert((Verb::Repair, Consequence::None, Vec::new()));
            causes.extend(left);
        }
        self.leftovers = others;
    }
}

fn describe(fault: &ContainerFault) -> String {
    match fault {
        ContainerFault::Limits { found } => format!("its limits are {found}"),
        ContainerFault::Link { network } => format!("its link to network/{network} is broken"),
        ContainerFault::Ports { missing } => {
            let ports: Vec<String> = missing.iter().map(ToString::to_string).collect();
            format!("ports do not lead to it: {}", ports.join(", "))
        }
        ContainerFault::Shim => "its shim is gone".to_owned(),
    }
}
