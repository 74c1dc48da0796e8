//! Steps on the way up: networks, then containers in the order of `dependsOn`.
//!
//! ```text
//! create          make ──► start ──► await
//! start first     make ──► start aside ──► await ──► switch traffic ──► stop old ──► remove old
//! stop first      make ──► stop old ──► start ──► await ──► remove old
//! same address    make ──► stop old ──► remove old ──► start ──► await
//! with a network  make ──► stop old ──► remove old ──► network goes and comes ──► start ──► await
//! in place        repair shim ──► update ──► repair ──► start ──► await
//! ```

use super::action::{self, Action, Cause, Consequence, Traffic, Verb};
use super::actual::{ContainerFault, Firewall, Observed};
use super::draft::{Draft, resource};
use super::incarnation::Incarnation;
use super::network::{NetworkState, NetworkVerdict, NetworkWork, Networks};
use super::site::{Site, attachments};
use super::verdict::{Fresh, InPlace, Successor, Verdict, Verdicts, Wait, Work, share_address};
use super::volume::VolumeState;
use spec::desired::{Container, DependencyCondition, Kind, ResourceId, UpdateOrder};
use spec::value::{ContainerId, Mount, Name};
use std::collections::BTreeMap;

/// What containers stand on: steps written before theirs.
pub(super) struct Ground<'b> {
    pub(super) firewall: Option<usize>,
    pub(super) volumes: &'b BTreeMap<Name, VolumeState>,
}

/// What the steps on the way up have done, for those on the way down.
#[derive(Default)]
pub(super) struct Done {
    /// The step after which each changed container is what it should be.
    pub(super) ready: BTreeMap<Name, usize>,
    /// The step that removes an incarnation.
    pub(super) gone: BTreeMap<ContainerId, usize>,
    /// The step that stops an incarnation whose removal comes later.
    pub(super) stopped: BTreeMap<ContainerId, usize>,
}

/// Writes our nftables table anew if it is broken: everything that is made in it comes after. What goes may go before: of the last
/// network nothing comes back.
pub(super) fn firewall(site: &Site<'_>, draft: &mut Draft) -> Option<usize> {
    match site.actual.firewall {
        Firewall::Intact => None,
        Firewall::Broken => {
            let what = "the nftables table is not as it was written".to_owned();
            draft.change(action::firewall(), Verb::Repair, Consequence::LiveUpdate, vec![Cause::Drift { what }]);
            Some(draft.step(&action::firewall(), Action::RepairFirewall, Vec::new()))
        }
    }
}

struct Writer<'a, 'b> {
    site: &'b Site<'a>,
    ground: &'b Ground<'b>,
    draft: &'b mut Draft,
    done: Done,
    /// The step after which a network can be used.
    linked: BTreeMap<&'b Name, usize>,
    /// New incarnations made before their network was made again.
    made: BTreeMap<&'a Name, usize>,
    started: BTreeMap<ContainerId, usize>,
    awaited: BTreeMap<(ContainerId, u8), usize>,
}

/// Writes the steps of networks and containers, and what becomes of them for people.
pub(super) fn write<'a>(site: &Site<'a>, networks: &Networks, verdicts: &Verdicts<'a>, ground: &Ground<'_>, draft: &mut Draft) -> Done {
    networks.iter().for_each(|(name, verdict)| verdict.describe(name, draft));
    verdicts.by_name.iter().for_each(|(name, verdict)| verdict.describe(name, draft));
    let (linked, made, started, awaited) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut writer = Writer { site, ground, draft, done: Done::default(), linked, made, started, awaited };
    for (name, verdict) in networks {
        writer.network(name, verdict);
    }
    let moved: Vec<(&Name, &NetworkVerdict)> = networks.iter().filter(|(_, verdict)| verdict.is_replaced()).collect();
    if !moved.is_empty() {
        writer.move_networks(&moved, verdicts);
    }
    for name in &verdicts.order {
        if let Some(verdict) = verdicts.by_name.get(name) {
            writer.container(name, verdict);
        }
    }
    writer.done
}

impl<'a, 'b> Writer<'a, 'b> {
    fn network(&mut self, name: &'b Name, verdict: &NetworkVerdict) {
        let id = resource(Kind::Network, name);
        let first: Vec<usize> = self.ground.firewall.into_iter().collect();
        match &verdict.state {
            NetworkState::Usable { range, work: NetworkWork::Create } => {
                let action = Action::CreateNetwork {
                    name: name.clone(),
                    network: verdict.network.clone(),
                    subnet: range.subnet,
                    gateway: range.gateway,
                    owner: verdict.owner.clone(),
                };
                let step = self.draft.step(&id, action, first);
                self.linked.insert(name, step);
            }
            NetworkState::Usable { work: NetworkWork::Mend { repair, update }, .. } => {
                let mut last = first;
                if *repair {
                    last = vec![self.draft.step(&id, Action::RepairNetwork { name: name.clone() }, last)];
                }
                if *update {
                    let action = Action::UpdateNetwork { name: name.clone(), network: verdict.network.clone() };
                    last = vec![self.draft.step(&id, action, last)];
                }
                last.first().and_then(|step| self.linked.insert(name, *step));
            }
            NetworkState::Later { .. } => self.draft.make_provisional(),
            NetworkState::Usable { work: NetworkWork::Nothing, .. } | NetworkState::Replaced { .. } | NetworkState::Blocked { .. } => {}
        }
    }

    /// Makes the successors of all containers on these networks, takes the old ones down, dependents first, and makes the
    /// networks again.
    fn move_networks(&mut self, moved: &[(&'b Name, &NetworkVerdict)], verdicts: &Verdicts<'a>) {
        let is_on = |endpoints: &[runtime::container::config::Endpoint]| {
            endpoints.iter().any(|endpoint| moved.iter().any(|(network, _)| **network == endpoint.network))
        };
        let mut made = Vec::new();
        let mut leaving: Vec<(ResourceId, Incarnation<'a>)> = Vec::new();
        for name in &verdicts.order {
            let Some(verdict) = verdicts.by_name.get(name) else { continue };
            let id = resource(Kind::Container, name);
            let leftovers = verdict.leftovers.iter().filter(|one| is_on(&one.state.endpoints));
            leaving.extend(leftovers.map(|one| (id.clone(), *one)));
            let Work::Replace { old, new, .. } = &verdict.work else { continue };
            if !is_on(&old.state.endpoints) {
                continue;
            }
            if let Successor::Fresh(fresh) = new {
                let step = self.make(name, fresh);
                self.made.insert(name, step);
                made.push(step);
            }
            leaving.push((id, *old));
        }
        for (id, observed) in &self.site.actual.containers {
            let Observed::Present(state) = observed else { continue };
            if self.site.is_unnamed(id) && is_on(&state.endpoints) {
                let (unnamed, one) = (resource(Kind::Container, &id.name), Incarnation { id, state });
                let consequence = if self.site.runs(&id.name) { Consequence::Downtime } else { Consequence::None };
                let what = "is made again, and it is connected to it".to_owned();
                let networks = moved.iter().filter(|(name, _)| state.endpoints.iter().any(|endpoint| endpoint.network == **name));
                let follows = networks.map(|(name, _)| Cause::Follows { resource: resource(Kind::Network, name), what: what.clone() });
                let causes = [Cause::Unnamed].into_iter().chain(follows).collect();
                self.draft.change(unnamed.clone(), Verb::Remove, consequence, causes);
                leaving.push((unnamed, one));
            }
        }
        let mut gone = Vec::new();
        let mut dependents: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
        for (id, one) in leaving.into_iter().rev() {
            let before = dependents.get(&one.id.name).into_iter().flatten().copied();
            let step = self.take_down(&id, &one, made.iter().copied().chain(before).collect());
            one.state.applied.depends_on.keys().for_each(|name| dependents.entry(name).or_default().push(step));
            gone.push(step);
        }
        for (name, verdict) in moved {
            let Some(range) = verdict.range() else { continue };
            let id = resource(Kind::Network, name);
            let after = gone.iter().copied().chain(self.ground.firewall).collect();
            let removed = self.draft.step(&id, Action::RemoveNetwork { name: (*name).clone() }, after);
            let action = Action::CreateNetwork {
                name: (*name).clone(),
                network: verdict.network.clone(),
                subnet: range.subnet,
                gateway: range.gateway,
                owner: verdict.owner.clone(),
            };
            let step = self.draft.step(&id, action, vec![removed]);
            self.linked.insert(name, step);
        }
    }

    /// Stops an incarnation if it runs and removes it.
    fn take_down(&mut self, id: &ResourceId, one: &Incarnation<'_>, after: Vec<usize>) -> usize {
        let stopped = self.stop(id, one, after);
        let removed = self.draft.step(id, Action::RemoveContainer { id: one.id.clone() }, stopped);
        self.done.gone.insert(one.id.clone(), removed);
        removed
    }

    /// Stops an incarnation if it runs; returns what comes before whatever follows.
    fn stop(&mut self, id: &ResourceId, one: &Incarnation<'_>, after: Vec<usize>) -> Vec<usize> {
        if one.is_alive() && !self.done.stopped.contains_key(one.id) {
            vec![self.draft.step(id, Action::StopContainer { id: one.id.clone() }, after)]
        } else {
            after
        }
    }

    fn container(&mut self, name: &'a Name, verdict: &Verdict<'a>) {
        let id = resource(Kind::Container, name);
        match &verdict.work {
            Work::Nothing => self.clear_away(&id, verdict, Vec::new()),
            Work::Create(fresh) => {
                let made = self.make(name, fresh);
                let after = self.ways_clear(name, verdict, vec![made]);
                let started = self.start(&id, &fresh.id, Traffic::Now, after);
                let ready = self.await_after(&fresh.id, fresh.readiness, vec![started]);
                self.done.ready.insert(name.clone(), ready);
            }
            Work::Replace { old, new, order, readiness } => {
                let made = match new {
                    Successor::Fresh(fresh) => match self.made.get(name) {
                        Some(step) => vec![*step],
                        None => vec![self.make(name, fresh)],
                    },
                    Successor::Made(_) => Vec::new(),
                };
                self.clear_away(&id, verdict, Vec::new());
                let gone = verdict.leftovers.iter().filter_map(|one| self.done.gone.get(one.id).copied());
                let prepared = made.into_iter().chain(gone).chain(self.linked(&self.site.desired.containers[name])).collect();
                let after = self.ways_clear(name, verdict, prepared);
                let replacement = Replacement { old, new, readiness: *readiness };
                let ready = match (order, old.is_alive()) {
                    (UpdateOrder::StartFirst, true) => self.start_first(&id, &replacement, after),
                    (UpdateOrder::StartFirst, false) | (UpdateOrder::StopFirst, _) => self.stop_first(&id, &replacement, after),
                };
                self.done.ready.insert(name.clone(), ready);
            }
            Work::InPlace(work) => {
                let spec = &self.site.desired.containers[name];
                let prepared = self.linked(spec).into_iter().chain(self.ground.firewall).collect();
                let mut first = self.ways_clear(name, verdict, prepared);
                for leftover in verdict.leftovers.iter().filter(|_| work.starts) {
                    if share_address(&leftover.state.endpoints, &work.current.state.endpoints) && !self.done.gone.contains_key(leftover.id)
                    {
                        first.push(self.take_down(&id, leftover, Vec::new()));
                    }
                }
                let ready = self.in_place(&id, spec, work, first);
                self.done.ready.insert(name.clone(), ready);
                self.clear_away(&id, verdict, vec![ready]);
            }
        }
    }

    /// Adds what else comes before a container runs or changes: its dependencies, and others giving up what it takes.
    /// Containers that have to make way are stopped only when all the rest is prepared.
    fn ways_clear(&mut self, name: &Name, verdict: &Verdict<'_>, prepared: Vec<usize>) -> Vec<usize> {
        let mut first: Vec<usize> = prepared.into_iter().chain(self.awaits(&verdict.waits)).collect();
        first.extend(verdict.taken.after.iter().filter_map(|name| self.done.ready.get(name).copied()));
        let mut freed = Vec::new();
        for id in &verdict.taken.stops_first {
            let known = self.done.gone.get(id).or_else(|| self.done.stopped.get(id)).copied();
            if let (None, Some(holder)) = (known, self.present(id).filter(Incarnation::is_alive)) {
                let action = Action::StopContainer { id: id.clone() };
                let resource = self.gives_way(holder.id, name);
                let step = self.draft.step(&resource, action, first.clone());
                self.done.stopped.insert(id.clone(), step);
                freed.push(step);
            }
            freed.extend(known);
        }
        for id in &verdict.taken.removes_first {
            let known = self.done.gone.get(id).copied();
            if let (None, Some(holder)) = (known, self.present(id)) {
                let resource = self.gives_way(holder.id, name);
                let after = first.iter().copied().chain(self.done.stopped.get(id).copied()).collect();
                freed.push(self.take_down(&resource, &holder, after));
            }
            freed.extend(known);
        }
        first.extend(freed);
        first
    }

    fn present(&self, id: &ContainerId) -> Option<Incarnation<'a>> {
        match self.site.actual.containers.get_key_value(id) {
            Some((id, Observed::Present(state))) => Some(Incarnation { id, state }),
            Some((_, Observed::Unreadable { .. })) | None => None,
        }
    }

    /// Says that a container no manifest names goes before its time.
    fn gives_way(&mut self, id: &ContainerId, to: &Name) -> ResourceId {
        let holder = resource(Kind::Container, &id.name);
        let what = "takes over a port or an address of it".to_owned();
        let follows = Cause::Follows { resource: resource(Kind::Container, to), what };
        let consequence = if self.site.runs(&id.name) { Consequence::Downtime } else { Consequence::None };
        self.draft.change(holder.clone(), Verb::Remove, consequence, vec![Cause::Unnamed, follows]);
        holder
    }

    fn clear_away(&mut self, id: &ResourceId, verdict: &Verdict<'_>, after: Vec<usize>) {
        for leftover in verdict.leftovers.iter().filter(|one| !self.done.gone.contains_key(one.id)).copied().collect::<Vec<_>>() {
            self.take_down(id, &leftover, after.clone());
        }
    }

    fn make(&mut self, name: &'a Name, fresh: &Fresh) -> usize {
        let spec = &self.site.desired.containers[name];
        let volumes = spec.mounts.iter().filter_map(|mount| match mount {
            Mount::Volume { name, .. } => match self.ground.volumes.get(name) {
                Some(VolumeState::Usable { made_by }) => *made_by,
                Some(VolumeState::Blocked) | None => None,
            },
            Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
        });
        let after = volumes.chain(self.linked(spec)).chain(self.ground.firewall).collect();
        let (id, image, endpoints) = (fresh.id.clone(), fresh.image, fresh.endpoints.clone());
        self.draft.step(
            &resource(Kind::Container, name),
            Action::CreateContainer { id, spec: Box::new(spec.clone()), image, endpoints },
            after,
        )
    }

    fn start(&mut self, id: &ResourceId, container: &ContainerId, traffic: Traffic, after: Vec<usize>) -> usize {
        let step = self.draft.step(id, Action::StartContainer { id: container.clone(), traffic }, after);
        self.started.insert(container.clone(), step);
        step
    }

    fn start_first(&mut self, id: &ResourceId, replacement: &Replacement<'_, '_>, after: Vec<usize>) -> usize {
        let Replacement { old, new, readiness } = replacement;
        let started = match new {
            Successor::Made(made) if made.is_alive() => after,
            Successor::Made(_) | Successor::Fresh(_) => vec![self.start(id, new.id(), Traffic::AfterSwitch, after)],
        };
        let ready = self.await_after(new.id(), *readiness, started);
        let action = Action::SwitchTraffic { from: Some(old.id.clone()), to: new.id().clone() };
        let switched = self.draft.step(id, action, vec![ready]);
        self.take_down(id, old, vec![switched]);
        switched
    }

    fn stop_first(&mut self, id: &ResourceId, replacement: &Replacement<'_, '_>, after: Vec<usize>) -> usize {
        let Replacement { old, new, readiness } = replacement;
        let stopped = match self.done.gone.get(old.id) {
            Some(gone) => after.into_iter().chain([*gone]).collect(),
            None if share_address(new.endpoints(), &old.state.endpoints) => vec![self.take_down(id, old, after)],
            None => self.stop(id, old, after),
        };
        let started = match new {
            Successor::Made(made) if made.is_alive() => {
                let action = Action::SwitchTraffic { from: Some(old.id.clone()), to: made.id.clone() };
                self.draft.step(id, action, stopped)
            }
            Successor::Made(_) | Successor::Fresh(_) => self.start(id, new.id(), Traffic::Now, stopped),
        };
        let ready = self.await_after(new.id(), *readiness, vec![started]);
        if !self.done.gone.contains_key(old.id) {
            let removed = self.draft.step(id, Action::RemoveContainer { id: old.id.clone() }, vec![ready]);
            self.done.gone.insert(old.id.clone(), removed);
        }
        ready
    }

    fn in_place(&mut self, id: &ResourceId, spec: &Container, work: &InPlace<'_>, first: Vec<usize>) -> usize {
        let container = work.current.id;
        let mut last = first;
        let (shim, rest): (Vec<_>, Vec<_>) = work.repairs.iter().partition(|fault| **fault == ContainerFault::Shim);
        for fault in shim {
            last = vec![self.repair(id, container, fault, last)];
        }
        if let Some(endpoints) = &work.update {
            let (spec, endpoints) = (Box::new(spec.clone()), endpoints.clone());
            last = vec![self.draft.step(id, Action::UpdateContainer { id: container.clone(), spec, endpoints }, last)];
        }
        for fault in rest {
            last = vec![self.repair(id, container, fault, last)];
        }
        if work.starts {
            let started = self.start(id, container, Traffic::Now, last);
            last = vec![self.await_after(container, work.readiness, vec![started])];
        }
        if work.promotes {
            let ready = self.await_after(container, work.readiness, last);
            last = vec![self.draft.step(id, Action::SwitchTraffic { from: None, to: container.clone() }, vec![ready])];
        }
        last.pop().unwrap_or_default()
    }

    fn repair(&mut self, id: &ResourceId, container: &ContainerId, fault: &ContainerFault, after: Vec<usize>) -> usize {
        self.draft.step(id, Action::RepairContainer { id: container.clone(), fault: fault.clone() }, after)
    }

    /// Steps after which this container's networks can be used.
    fn linked(&self, spec: &Container) -> Vec<usize> {
        attachments(spec).filter_map(|(network, _)| self.linked.get(network).copied()).collect()
    }

    /// Steps after which these dependencies have come far enough. One that only has to be started is not waited for to be
    /// healthy: its probe may need whoever waits for it.
    fn awaits(&mut self, waits: &[Wait]) -> Vec<usize> {
        let mut found = Vec::with_capacity(waits.len());
        for wait in waits {
            let ready = self.done.ready.get(&wait.name).copied();
            let started = self.started.get(&wait.id).copied();
            found.push(match (wait.until, started, ready) {
                (DependencyCondition::Started, Some(started), _) => self.await_after(&wait.id, wait.until, vec![started]),
                (DependencyCondition::Healthy, Some(_), Some(ready)) => ready,
                (_, _, ready) => self.await_after(&wait.id, wait.until, ready.into_iter().collect()),
            });
        }
        found
    }

    fn await_after(&mut self, id: &ContainerId, until: DependencyCondition, after: Vec<usize>) -> usize {
        let key = (id.clone(), until as u8);
        if let Some(step) = self.awaited.get(&key) {
            return *step;
        }
        let action = Action::AwaitContainer { id: id.clone(), until };
        let step = self.draft.step(&resource(Kind::Container, &id.name), action, after);
        self.awaited.insert(key, step);
        step
    }
}

/// Who follows whom.
struct Replacement<'a, 'b> {
    old: &'b Incarnation<'a>,
    new: &'b Successor<'a>,
    readiness: DependencyCondition,
}
