//! The decision on one container: the first of these that applies.
//!
//! ```text
//! not ours, unreadable ──► blocked         stopped by a user ──► held, untouched
//! not there            ──► create          a field that takes a new one, another image ──► replace
//! a live field         ──► update          ended, broken, left over ──► start, repair, clear away
//! ```
//!
//! A change that is hindered leaves what is there as it was applied, and keeps that going.

use super::action::{Cause, Consequence, Verb};
use super::actual::{Observed, Owner};
use super::draft::resource;
use super::field::Effect;
use super::incarnation::{self, Hands, Incarnation, Roles};
use super::need::{Need, runs_image};
use super::network::NetworkVerdict;
use super::room::Room;
use super::site::{attachments, foreign};
use super::verdict::{Hindrance, Next, Said, Successor, Verdict, Work, share_address};
use spec::desired::{Container, Kind, UpdateOrder};
use spec::value::{Name, RestartPolicy};

impl<'a> Room<'a, '_> {
    /// What becomes of one container; whatever it waits for has been decided.
    pub(super) fn one(&mut self, name: &'a Name, wanted: &'a Container) -> Verdict<'a> {
        let blocked = |why| Verdict::hindered(Hindrance::Blocked(why), None);
        let mine = match incarnation::ours(self.site.incarnations(name), &self.site.owner) {
            Ok(mine) => mine,
            Err(Hands::Unreadable { id, why }) => return blocked(format!("{id} could not be read: {why}")),
            Err(Hands::Foreign { owner }) => return blocked(foreign(Kind::Container, name.as_str(), &owner)),
        };
        let image = self.images.state(&wanted.image);
        let is_desired = |one: &Incarnation<'_>| *one.state.applied == *wanted && runs_image(one, image);
        match Roles::assign(&mine, is_desired) {
            None => self.create(name, wanted),
            Some(roles) if roles.held => self.hold(name, wanted, &roles),
            Some(roles) => self.existing(name, wanted, &roles),
        }
    }

    fn create(&mut self, name: &'a Name, wanted: &'a Container) -> Verdict<'a> {
        let location = self.site.desired.origins.find(&resource(Kind::Container, name), "").cloned();
        let change = Some((Verb::Create, Consequence::None, vec![Cause::New { location }]));
        match self.fresh(name, wanted, None) {
            Ok((fresh, waits, taken)) => {
                let next = Next::Starts { id: fresh.id.clone(), readiness: fresh.readiness };
                let mut verdict = Verdict::nothing(next, None);
                verdict.work = Work::Create(fresh);
                verdict.waits = waits;
                verdict.take(taken);
                verdict.said.change = change;
                verdict.said.warning = self.fleeting(wanted);
                verdict
            }
            Err(hindrance) => {
                let shown = if hindrance == Hindrance::Deferred { change } else { None };
                let mut verdict = Verdict::hindered(hindrance, None);
                verdict.said.change = shown;
                verdict
            }
        }
    }

    /// A held container is left exactly as it is; what would change is told.
    fn hold(&self, name: &Name, wanted: &Container, roles: &Roles<'a>) -> Verdict<'a> {
        let mut verdict = Verdict::nothing(Next::Never("is stopped by hand"), Some(roles.current));
        let need = self.need(name, wanted, &roles.current);
        let fields: Vec<String> = need.causes.iter().filter_map(field_of).collect();
        let then = if need.causes.is_empty() {
            String::new()
        } else if fields.is_empty() {
            "; then it is replaced".to_owned()
        } else {
            format!("; then changed: {}", fields.join(", "))
        };
        verdict.said.note = Some(format!("stopped by hand and left so until `agent container start {name}`{then}"));
        verdict
    }

    fn existing(&mut self, name: &'a Name, wanted: &'a Container, roles: &Roles<'a>) -> Verdict<'a> {
        let need = self.need(name, wanted, &roles.current);
        let attempt = match need.effect {
            _ if need.is_pending => Err(Hindrance::Deferred),
            Some(Effect::Replace) => return self.replace(name, wanted, roles, need),
            Some(Effect::Live | Effect::Record) => self.updated(name, wanted, &roles.current).map(Some),
            None => Ok(None),
        };
        match attempt {
            Ok(update) => {
                let (endpoints, taken) = update.unzip();
                let mut verdict = self.in_place(name, wanted, roles.current, endpoints, need);
                verdict.take(taken.unwrap_or_default());
                verdict.clear_away(roles.others.clone());
                verdict
            }
            Err(hindrance) => self.kept_going_without(name, roles.current, hindrance, need),
        }
    }

    /// The change is hindered: what is there is kept going as it was applied.
    fn kept_going_without(&self, name: &'a Name, current: Incarnation<'a>, hindrance: Hindrance, need: Need) -> Verdict<'a> {
        let applied: &'a Container = &current.state.applied;
        let mut verdict = self.in_place(name, applied, current, None, Need::nothing());
        let is_job = applied.restart == RestartPolicy::No;
        if let Work::InPlace(work) = &mut verdict.work {
            work.starts &= !is_job;
        }
        let drift = verdict.said.change.take().filter(|_| !is_job || current.is_alive());
        let kept_going = drift.map(|(_, _, causes)| causes).unwrap_or_default();
        verdict.next = Verdict::hindered(hindrance.clone(), None).next;
        verdict.said = Said { hindrance: Some(hindrance.clone()), ..Said::default() };
        verdict.said.change = match hindrance {
            Hindrance::Deferred => {
                let (verb, consequence) = deferred_verb(&need, &current, self.site.desired.containers[name].update);
                Some((verb, consequence, need.causes.into_iter().chain(kept_going).collect()))
            }
            Hindrance::Blocked(_) if kept_going.is_empty() => None,
            Hindrance::Blocked(_) => Some((Verb::Repair, Consequence::LiveUpdate, kept_going)),
        };
        verdict
    }

    fn replace(&mut self, name: &'a Name, wanted: &'a Container, roles: &Roles<'a>, need: Need) -> Verdict<'a> {
        let old = roles.current;
        let image = self.images.state(&wanted.image);
        let readiness = self.readiness(wanted);
        let is_replaced = |network: &Name| self.networks.get(network).is_some_and(NetworkVerdict::is_replaced);
        let goes_with_network = old.state.endpoints.iter().any(|endpoint| is_replaced(&endpoint.network));
        let comes_with_network = attachments(wanted).any(|(network, _)| is_replaced(network));
        let fits = |one: &Incarnation<'a>| {
            let is_wanted = *one.state.applied == *wanted && runs_image(one, image);
            is_wanted && one.is_hopeful() && one.id.generation > old.id.generation && !comes_with_network && self.is_at_home(wanted, one)
        };
        let made = roles.others.iter().rfind(|one| fits(one)).copied();
        let prepared = match made {
            Some(made) => self.requirements(name, wanted, Some(old)).map(|(waits, taken)| (Successor::Made(made), waits, taken)),
            None => self.fresh(name, wanted, Some(old)).map(|(fresh, waits, taken)| (Successor::Fresh(fresh), waits, taken)),
        };
        let (new, waits, taken) = match prepared {
            Ok(prepared) => prepared,
            Err(hindrance) => return self.kept_going_without(name, old, hindrance, need),
        };
        let order = if share_address(new.endpoints(), &old.state.endpoints) { UpdateOrder::StopFirst } else { wanted.update };
        let order = if goes_with_network { UpdateOrder::StopFirst } else { order };
        let consequence = interruption(&old, order);
        let mut causes = need.causes;
        if let Some(made) = made {
            causes.push(Cause::Drift { what: format!("an interrupted change left {}: it is carried on with that", made.id) });
        }
        let mut verdict = Verdict::nothing(Next::Starts { id: new.id().clone(), readiness }, Some(old));
        verdict.work = Work::Replace { old, new, order, readiness };
        verdict.waits = waits;
        verdict.take(taken);
        verdict.leftovers = roles.others.iter().filter(|one| made.is_none_or(|made| made.id != one.id)).copied().collect();
        verdict.said.change = Some((Verb::Replace, consequence, causes));
        verdict.said.warning = self.fleeting(wanted);
        verdict
    }

    /// What is written to a volume that only the image names goes with the container: said before something is lost. Who runs one by
    /// hand replaces nothing.
    fn fleeting(&self, wanted: &Container) -> Option<String> {
        let Some(Observed::Present(image)) = self.site.actual.images.get(&wanted.image) else { return None };
        let is_bare = |path: &&String| !wanted.mounts.iter().any(|mount| mount.target().as_str() == path.trim_end_matches('/'));
        let bare: Vec<&str> = image.volumes.iter().filter(is_bare).map(String::as_str).collect();
        let is_run = matches!(&self.site.owner, Owner::Site(site) if site.is_of_run());
        (!bare.is_empty() && !is_run).then(|| format!("what is kept in {} goes when it is replaced: mount a volume there", bare.join(", ")))
    }
}

/// What replacing an incarnation in this order means for what runs.
fn interruption(old: &Incarnation<'_>, order: UpdateOrder) -> Consequence {
    match (old.is_alive(), order) {
        (false, _) => Consequence::None,
        (true, UpdateOrder::StartFirst) => Consequence::Replace,
        (true, UpdateOrder::StopFirst) => Consequence::Downtime,
    }
}

fn deferred_verb(need: &Need, current: &Incarnation<'_>, order: UpdateOrder) -> (Verb, Consequence) {
    match need.effect {
        Some(Effect::Replace) => (Verb::Replace, interruption(current, order)),
        Some(Effect::Live | Effect::Record) => (Verb::Update, Consequence::LiveUpdate),
        None => (Verb::Start, Consequence::Restart),
    }
}

fn field_of(cause: &Cause) -> Option<String> {
    match cause {
        Cause::Field { field, .. } => Some(field.clone()),
        Cause::New { .. } | Cause::Unnamed | Cause::Destroyed | Cause::Drift { .. } | Cause::Publish { .. } | Cause::Follows { .. } => None,
    }
}
