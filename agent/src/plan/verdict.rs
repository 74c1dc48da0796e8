//! What becomes of each container, decided before a single step is written: left, changed in place, replaced, or blocked.
//!
//! One by one in the order of `dependsOn`, so that whoever waits for another knows what becomes of it.

use super::action::{Cause, Consequence, Verb};
use super::actual::{ContainerFault, Observed};
use super::addresses::Addresses;
use super::container::Room;
use super::draft::{Draft, resource};
use super::gate::{Hindrance, Next, Wait};
use super::image::Images;
use super::incarnation::Incarnation;
use super::network::{self, Networks, Obstacle};
use super::order::{self, Waits};
use super::requirement::Taken;
use super::site::{Site, published};
use super::volume::VolumeState;
use runtime::container::config::Endpoint;
use spec::desired::{Attachment, Container, DependencyCondition, Kind, NetworkMode, UpdateOrder};
use spec::value::{ContainerId, Digest, Name};
use std::collections::BTreeMap;

/// What becomes of one container.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    /// What is done.
    pub(super) work: Work<'a>,
    /// What is waited for before something is started.
    pub(super) waits: Vec<Wait>,
    /// What others give up for it first.
    pub(super) taken: Taken,
    /// Incarnations left over from an interrupted change: removed.
    pub(super) leftovers: Vec<Incarnation<'a>>,
    /// What its dependents may count on.
    pub(super) next: Next,
    /// The incarnation that counts, as it is now.
    pub(super) now: Option<Incarnation<'a>>,
    /// For people.
    pub(super) said: Said,
}

/// What is said of a container.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) change: Option<(Verb, Consequence, Vec<Cause>)>,
    pub(super) hindrance: Option<Hindrance>,
    pub(super) note: Option<String>,
}

/// What is done to a container.
#[derive(Debug)]
pub(super) enum Work<'a> {
    /// Nothing.
    Nothing,
    /// It is made and started.
    Create(Fresh),
    /// Another takes its place.
    Replace { old: Incarnation<'a>, new: Successor<'a>, order: UpdateOrder, readiness: DependencyCondition },
    /// It stays, and is changed, mended or started.
    InPlace(InPlace<'a>),
}

/// An incarnation that is made.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) id: ContainerId,
    pub(super) image: Digest,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) readiness: DependencyCondition,
}

/// Who takes an incarnation's place.
#[derive(Debug)]
pub(super) enum Successor<'a> {
    /// A new one.
    Fresh(Fresh),
    /// One an interrupted replacement has made already.
    Made(Incarnation<'a>),
}

/// What is done to an incarnation that stays.
#[derive(Debug)]
pub(super) struct InPlace<'a> {
    pub(super) current: Incarnation<'a>,
    /// Its endpoints after an update, if it is updated.
    pub(super) update: Option<Vec<Endpoint>>,
    pub(super) repairs: Vec<ContainerFault>,
    pub(super) starts: bool,
    /// Whether it runs and its traffic does not lead to it yet.
    pub(super) promotes: bool,
    pub(super) readiness: DependencyCondition,
}

/// All containers' verdicts.
pub(super) struct Verdicts<'a> {
    /// In the order in which their steps are written.
    pub(super) order: Vec<&'a Name>,
    pub(super) by_name: BTreeMap<&'a Name, Verdict<'a>>,
}

/// Decides on networks and containers together: a network is replaced only if every container on it can go with it.
pub(super) fn decide<'a>(site: &Site<'a>, images: &Images<'a>, volumes: &BTreeMap<Name, VolumeState>) -> (Networks, Verdicts<'a>) {
    let mut networks = network::decide(site);
    let addresses = present_addresses(site);
    let order = order(site);
    loop {
        let mut addresses = addresses.clone();
        networks.iter().filter(|(_, verdict)| verdict.is_replaced()).for_each(|(name, _)| addresses.clear(name));
        let mut room = Room { site, images, volumes, networks: &networks, addresses, decided: BTreeMap::new() };
        for name in &order.sorted {
            let verdict = room.one(name, &site.desired.containers[*name]);
            room.decided.insert(name, verdict);
        }
        for name in &order.circular {
            let why = "containers depend on each other in a circle: let one of them begin without the others";
            room.decided.insert(name, Verdict::hindered(Hindrance::Blocked(why.to_owned()), None));
        }
        let decided = room.decided;
        let obstacles = obstacles(site, &networks, &decided);
        if !network::keep(&mut networks, obstacles) {
            return (networks, Verdicts { order: order.sorted, by_name: decided });
        }
    }
}

/// `dependsOn`, and whoever takes over a port after whoever gives it up, unless that would be a circle.
fn order<'a>(site: &Site<'a>) -> order::Order<&'a Name> {
    let containers = &site.desired.containers;
    let mut waits: Waits<&Name> = containers.iter().map(|(name, container)| (name, container.depends_on.keys().collect())).collect();
    for (name, container) in containers {
        for port in published(&container.network, &container.ports) {
            for holder in site.holders(*port, name) {
                let Some((holder, _)) = containers.get_key_value(&holder.name) else { continue };
                if !order::reaches(&waits, &holder, &name) {
                    waits.entry(name).or_default().insert(holder);
                }
            }
        }
    }
    order::sort(&waits)
}

fn present_addresses(site: &Site<'_>) -> Addresses {
    let mut addresses = Addresses::default();
    for (id, observed) in &site.actual.containers {
        if let Observed::Present(state) = observed {
            state.endpoints.iter().for_each(|endpoint| addresses.hold(endpoint, id));
        }
    }
    for container in site.desired.containers.values() {
        for (network, attachment) in attachments(container) {
            if let Some(address) = attachment.address {
                addresses.promise(network, address);
            }
        }
    }
    addresses
}

/// Why networks that are to be replaced cannot be: someone on them cannot go with them.
fn obstacles(site: &Site<'_>, networks: &Networks, decided: &BTreeMap<&Name, Verdict<'_>>) -> BTreeMap<Name, Obstacle> {
    let mut found = BTreeMap::new();
    for (name, _) in networks.iter().filter(|(_, verdict)| verdict.is_replaced()) {
        let obstacle = site.actual.containers.iter().find_map(|(id, observed)| match observed {
            Observed::Unreadable { .. } => {
                Some(Obstacle::Stays(format!("container/{} could not be read and may be connected to it", id.name)))
            }
            Observed::Present(state) if !state.endpoints.iter().any(|endpoint| endpoint.network == *name) => None,
            Observed::Present(state) if state.owner != site.owner => Some(Obstacle::Stays(format!(
                "it has to be made again with its containers, and container/{} on it is not of this site: disconnect or remove it",
                id.name
            ))),
            Observed::Present(_) => decided.get(&id.name).and_then(|verdict| verdict.obstacle(id)),
        });
        if let Some(obstacle) = obstacle {
            found.insert(name.clone(), obstacle);
        }
    }
    found
}

/// How a container is on its networks; nothing unless bridged.
pub(super) fn attachments(container: &Container) -> impl Iterator<Item = (&Name, &Attachment)> {
    match &container.network {
        NetworkMode::Networks(networks) => Some(networks),
        NetworkMode::Host | NetworkMode::None => None,
    }
    .into_iter()
    .flatten()
}

impl<'a> Verdict<'a> {
    pub(super) fn nothing(next: Next, now: Option<Incarnation<'a>>) -> Self {
        Self { work: Work::Nothing, waits: Vec::new(), taken: Taken::default(), leftovers: Vec::new(), next, now, said: Said::default() }
    }

    pub(super) fn hindered(hindrance: Hindrance, now: Option<Incarnation<'a>>) -> Self {
        let next = match hindrance {
            Hindrance::Blocked(_) => Next::Never("is blocked"),
            Hindrance::Deferred => Next::Later,
        };
        let mut verdict = Self::nothing(next, now);
        verdict.said.hindrance = Some(hindrance);
        verdict
    }

    /// Why a network this incarnation is on cannot be made again.
    fn obstacle(&self, id: &ContainerId) -> Option<Obstacle> {
        if self.leftovers.iter().any(|leftover| leftover.id == id) {
            return None;
        }
        match (&self.said.hindrance, &self.work) {
            (_, Work::Replace { .. }) => None,
            (Some(Hindrance::Blocked(why)), _) => {
                Some(Obstacle::Stays(format!("it has to be made again with its containers, and container/{} is blocked: {why}", id.name)))
            }
            (Some(Hindrance::Deferred), _) | (None, Work::InPlace(_)) => Some(Obstacle::Waits),
            (None, Work::Nothing | Work::Create(_)) => Some(Obstacle::Stays(format!(
                "it has to be made again with its containers, and container/{} is stopped by hand: start or remove it",
                id.name
            ))),
        }
    }

    /// Writes what becomes of it for people.
    pub(super) fn describe(&self, name: &Name, draft: &mut Draft) {
        let id = resource(Kind::Container, name);
        if let Some((verb, consequence, causes)) = &self.said.change {
            draft.change(id.clone(), *verb, *consequence, causes.clone());
        }
        match &self.said.hindrance {
            Some(Hindrance::Blocked(why)) => draft.block(id.clone(), why.clone()),
            Some(Hindrance::Deferred) => draft.make_provisional(),
            None => {}
        }
        if let Some(note) = &self.said.note {
            draft.note(id, note.clone());
        }
    }
}

/// Whether two incarnations have an address in common: the links of the old one keep it until it is removed.
pub(super) fn share_address(some: &[Endpoint], others: &[Endpoint]) -> bool {
    let same = |a: &Endpoint, b: &Endpoint| a.network == b.network && a.address == b.address;
    some.iter().any(|one| others.iter().any(|other| same(one, other)))
}

impl Successor<'_> {
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Fresh(fresh) => &fresh.endpoints,
            Self::Made(made) => &made.state.endpoints,
        }
    }

    pub(super) fn id(&self) -> &ContainerId {
        match self {
            Self::Fresh(fresh) => &fresh.id,
            Self::Made(made) => made.id,
        }
    }
}
