//! Steps on the way down, last of all: containers no manifest names, dependents first, then their networks, images and volumes.
//!
//! Nothing goes while something of the new set is not there yet: what works is not taken away for something that cannot work.

use super::Volumes;
use super::action::{Action, Consequence, Verb};
use super::actual::{ActualContainer, Observed};
use super::draft::{Draft, resource};
use super::incarnation::Incarnation;
use super::network::Networks;
use super::order::{self, Waits};
use super::site::Site;
use super::up::Done;
use super::verdict::{Verdicts, Work};
use spec::desired::{ImageKey, Kind, ResourceId};
use spec::value::{ContainerId, Mount, Name};
use std::collections::{BTreeMap, BTreeSet};

/// Whether removals are carried out in this plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removals {
    /// They are.
    Now,
    /// A later plan removes.
    Later,
    /// Not before what is blocked is there.
    Blocked,
}

struct Writer<'a, 'b> {
    site: &'b Site<'a>,
    draft: &'b mut Draft,
    done: Done,
    removals: Removals,
    /// All that the removals come after: the new set.
    new_set: Vec<usize>,
    /// Containers that are on the host after this plan, with what they hold on to; by identity before it.
    staying: BTreeMap<ContainerId, Staying>,
    /// Whether some container could not be read: nobody knows what it holds on to.
    unreadable: Option<&'b ContainerId>,
}

/// What a container that stays holds on to.
struct Staying {
    networks: BTreeSet<Name>,
    volumes: BTreeSet<Name>,
}

/// Writes the removals of whatever the site owns and no manifest names.
pub(super) fn write<'a>(site: &Site<'a>, networks: &Networks, verdicts: &Verdicts<'a>, done: Done, draft: &mut Draft) {
    let removals = match (draft.is_provisional(), draft.blocks_containers()) {
        (_, true) => Removals::Blocked,
        (true, false) => Removals::Later,
        (false, false) => Removals::Now,
    };
    let new_set = done.ready.values().copied().collect();
    let staying = staying(site, verdicts, &done);
    let unreadable = site.actual.containers.iter().find(|(_, observed)| matches!(observed, Observed::Unreadable { .. })).map(|(id, _)| id);
    let mut writer = Writer { site, draft, done, removals, new_set, staying, unreadable };
    writer.containers();
    for (name, observed) in &site.actual.networks {
        if let Observed::Present(network) = observed
            && network.owner == site.owner
            && !networks.contains_key(name)
        {
            writer.network(name);
        }
    }
    for (key, observed) in &site.actual.images {
        if let Observed::Present(image) = observed
            && image.owner == site.owner
            && !site.desired.images.contains_key(key)
        {
            writer.image(key, &image.digest);
        }
    }
    for (name, observed) in &site.actual.volumes {
        if let Observed::Present(volume) = observed
            && volume.owner == site.owner
            && !site.desired.volumes.contains_key(name)
            && !site.desired.external.contains(&resource(Kind::Volume, name))
        {
            writer.volume(name);
        }
    }
}

/// Containers that stay, and what they hold on to after the steps on the way up.
fn staying(site: &Site<'_>, verdicts: &Verdicts<'_>, done: &Done) -> BTreeMap<ContainerId, Staying> {
    let mut found = BTreeMap::new();
    for (id, observed) in &site.actual.containers {
        let Observed::Present(state) = observed else { continue };
        if done.gone.contains_key(id) || site.is_unnamed(id) {
            continue;
        }
        let updated = verdicts.by_name.get(&id.name).and_then(|verdict| match &verdict.work {
            Work::InPlace(work) if work.current.id == id => work.update.as_ref(),
            Work::InPlace(_) | Work::Nothing | Work::Create(_) | Work::Replace { .. } => None,
        });
        let endpoints = updated.unwrap_or(&state.endpoints);
        let networks = endpoints.iter().map(|endpoint| endpoint.network.clone()).collect();
        found.insert(id.clone(), Staying { networks, volumes: volumes(state) });
    }
    found
}

fn volumes(state: &ActualContainer) -> BTreeSet<Name> {
    let named = state.applied.mounts.iter().filter_map(|mount| match mount {
        Mount::Volume { name, .. } => Some(name.clone()),
        Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
    });
    named.collect()
}

impl<'a> Writer<'a, '_> {
    /// Says what becomes of a resource no manifest names; whether it goes in this plan.
    fn goes(&mut self, id: &ResourceId, consequence: Consequence) -> bool {
        match self.removals {
            Removals::Now | Removals::Later if self.draft.changes(id) => {}
            Removals::Now | Removals::Later => self.draft.change(id.clone(), Verb::Remove, consequence, vec![self.site.policy.why_gone()]),
            Removals::Blocked => {
                let why = self.site.policy.why_gone();
                self.draft.block(id.clone(), format!("{why}; it is removed once no container of the site is blocked"));
            }
        }
        self.removals == Removals::Now
    }

    fn containers(&mut self) {
        let mut leaving: BTreeMap<&'a Name, Vec<Incarnation<'a>>> = BTreeMap::new();
        for name in self.site.container_names() {
            for (id, observed) in self.site.incarnations(name) {
                if let (Observed::Present(state), true) = (observed, self.site.is_unnamed(id)) {
                    leaving.entry(name).or_default().push(Incarnation { id, state });
                }
            }
        }
        // Whoever depends on another goes before it: the other waits for its dependents.
        let mut waits: Waits<&Name> = leaving.keys().map(|name| (*name, BTreeSet::new())).collect();
        for (name, incarnations) in &leaving {
            for dependency in incarnations.iter().flat_map(|one| one.state.applied.depends_on.keys()) {
                if leaving.contains_key(dependency) && dependency != *name {
                    waits.entry(dependency).or_default().insert(name);
                }
            }
        }
        let order = order::sort(&waits);
        let mut gone_by_name: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
        for name in order.sorted.into_iter().chain(order.circular) {
            let incarnations = &leaving[name];
            let id = resource(Kind::Container, name);
            let consequence = if self.site.runs(name) { Consequence::Downtime } else { Consequence::None };
            if !self.goes(&id, consequence) {
                continue;
            }
            let dependents = waits[name].iter().filter_map(|dependent| gone_by_name.get(*dependent)).flatten().copied();
            let after: Vec<usize> = dependents.chain(self.new_set.iter().copied()).collect();
            let gone = incarnations.iter().map(|one| self.container(&id, one, after.clone())).collect();
            gone_by_name.insert(name, gone);
        }
    }

    fn container(&mut self, id: &ResourceId, one: &Incarnation<'_>, mut after: Vec<usize>) -> usize {
        if let Some(gone) = self.done.gone.get(one.id) {
            return *gone;
        }
        match self.done.stopped.get(one.id) {
            Some(stopped) => after.push(*stopped),
            None if one.is_alive() => after = vec![self.draft.step(id, Action::StopContainer { id: one.id.clone() }, after)],
            None => {}
        }
        let removed = self.draft.step(id, Action::RemoveContainer { id: one.id.clone() }, after);
        self.done.gone.insert(one.id.clone(), removed);
        removed
    }

    /// What comes before the removal of something that containers held on to.
    fn after_containers(&self) -> Vec<usize> {
        self.done.gone.values().chain(&self.new_set).copied().collect()
    }

    fn network(&mut self, name: &Name) {
        let id = resource(Kind::Network, name);
        let gone = self.site.policy.why_gone();
        if let Some(unreadable) = self.unreadable {
            let why = format!("{gone}; container/{} could not be read and may be connected to it", unreadable.name);
            return self.draft.block(id, why);
        }
        if let Some((holder, _)) = self.staying.iter().find(|(_, staying)| staying.networks.contains(name)) {
            let why = format!("{gone}; it is removed once container/{} is not connected to it", holder.name);
            return self.draft.block(id, why);
        }
        if self.goes(&id, Consequence::None) {
            let after = self.after_containers();
            self.draft.step(&id, Action::RemoveNetwork { name: name.clone() }, after);
        }
    }

    fn image(&mut self, key: &ImageKey, digest: &spec::value::Digest) {
        let id = resource(Kind::Image, key);
        // A reference is everybody's: it stays while a container of someone else runs it.
        let of_others = |observed: &Observed<ActualContainer>| match observed {
            Observed::Present(state) => state.owner != self.site.owner && state.image == *digest,
            Observed::Unreadable { .. } => true,
        };
        let shared = match key {
            ImageKey::Reference(_) => self.site.actual.containers.values().any(of_others),
            ImageKey::Named(_) => false,
        };
        if shared {
            return self.draft.note(id, format!("{}; it stays while a container of someone else runs it", self.site.policy.why_gone()));
        }
        if self.goes(&id, Consequence::None) {
            let after = self.after_containers();
            self.draft.step(&id, Action::ForgetImage { key: key.clone() }, after);
        }
    }

    fn volume(&mut self, name: &Name) {
        let id = resource(Kind::Volume, name);
        match self.site.policy.volumes {
            Volumes::Keep => {
                let gone = self.site.policy.why_gone();
                return self.draft.note(id, format!("{gone}; it stays with its data until `agent volume rm {name}`"));
            }
            Volumes::Remove => {}
        }
        if let Some(unreadable) = self.unreadable {
            return self.draft.block(id, format!("container/{} could not be read and may use it", unreadable.name));
        }
        if let Some((holder, _)) = self.staying.iter().find(|(_, staying)| staying.volumes.contains(name)) {
            return self.draft.block(id, format!("container/{} uses it: remove that first", holder.name));
        }
        if self.goes(&id, Consequence::None) {
            let after = self.after_containers();
            self.draft.step(&id, Action::RemoveVolume { name: name.clone() }, after);
        }
    }
}
