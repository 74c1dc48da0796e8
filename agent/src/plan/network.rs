//! What becomes of networks: subnets are chosen, broken bridges mended; a changed subnet takes a new network with new containers.

use super::action::{Cause, Consequence, Verb};
use super::actual::{Actual, ActualNetwork, Observed, Owner};
use super::addresses::{Addresses, DEFAULT_NETWORK, Range, Subnets};
use super::draft::{Draft, resource};
use super::field::{self, Difference, Effect};
use super::site::{Site, foreign};
use runtime::container::config::Endpoint;
use spec::desired::{Attachment, Kind, Network, NetworkMode, ResourceId};
use spec::value::{ContainerId, Name, Subnet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// What becomes of one network, and where its addresses lie after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NetworkState {
    /// Containers can be on it.
    Usable { range: Range, work: NetworkWork },
    /// It goes and comes again elsewhere, and every container on it with it.
    Replaced { range: Range },
    /// It is to be replaced, once what is on it can go with it: the next plan sees to it.
    Later { range: Range },
    /// Nothing is done to it, and nothing that needs it.
    Blocked { why: String },
}

/// What is done to a network that is or becomes usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkWork {
    /// It is as it should be.
    Nothing,
    /// It is made.
    Create,
    /// It is mended, its record follows, or both.
    Mend { repair: bool, update: bool },
}

/// A network the site wants, with its verdict.
#[derive(Debug, Clone)]
pub(super) struct NetworkVerdict {
    pub(super) network: Network,
    pub(super) owner: Owner,
    pub(super) state: NetworkState,
    verb: Verb,
    consequence: Consequence,
    pub(super) causes: Vec<Cause>,
}

/// Every network the site wants.
pub(super) type Networks = BTreeMap<Name, NetworkVerdict>;

impl NetworkVerdict {
    /// Where its addresses lie; `None` if it is blocked.
    pub(super) fn range(&self) -> Option<Range> {
        match &self.state {
            NetworkState::Usable { range, .. } | NetworkState::Replaced { range } | NetworkState::Later { range } => Some(*range),
            NetworkState::Blocked { .. } => None,
        }
    }

    /// Whether it goes and comes again.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self.state, NetworkState::Replaced { .. })
    }

    /// Writes what becomes of it for people.
    pub(super) fn describe(&self, name: &Name, draft: &mut Draft) {
        let id = resource(Kind::Network, name);
        match &self.state {
            NetworkState::Blocked { why } => draft.block(id, why.clone()),
            NetworkState::Usable { work: NetworkWork::Nothing, .. } => {}
            NetworkState::Usable { .. } | NetworkState::Replaced { .. } | NetworkState::Later { .. } => {
                draft.change(id, self.verb, self.consequence, self.causes.clone());
            }
        }
    }
}

/// Decides on every network of the site, and on `default` if a container wants it.
pub(super) fn decide(site: &Site<'_>) -> Networks {
    let shared: Option<(Name, Network)> = wanted_default(site);
    let shared = shared.iter().map(|(name, network)| (name, network, true));
    let wanted: Vec<_> = site.desired.networks.iter().map(|(name, network)| (name, network, false)).chain(shared).collect();
    let mut subnets = Subnets::new(site.actual);
    // Given subnets are taken before any is chosen.
    let (given, chosen): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, network, _)| network.subnet.is_some());
    let mut networks = external(site);
    for (name, network, is_shared) in given.into_iter().chain(chosen) {
        networks.insert(name.clone(), one(site, name, network, is_shared, &mut subnets));
    }
    networks
}

/// Networks that others make. They are as they are; what is broken of them is mended for who is on them.
fn external(site: &Site<'_>) -> Networks {
    let external = site.desired.external.iter().filter(|resource| resource.kind == Kind::Network);
    let names = external.filter_map(|resource| resource.name.parse::<Name>().ok());
    let mut networks = Networks::new();
    for name in names {
        let verdict = match site.actual.networks.get(&name) {
            Some(Observed::Present(present)) => one(site, &name, &present.applied, true, &mut Subnets::new(site.actual)),
            Some(Observed::Unreadable { why }) => absent(format!("its record could not be read: {why}")),
            None => absent(format!("there is no network {name}: make it with `agent network create {name}`")),
        };
        networks.insert(name, verdict);
    }
    networks
}

/// A network of others that cannot be used.
fn absent(why: String) -> NetworkVerdict {
    NetworkVerdict {
        network: Network { subnet: None, gateway: None, internal: false, labels: BTreeMap::new() },
        owner: Owner::Hand,
        state: NetworkState::Blocked { why },
        verb: Verb::Update,
        consequence: Consequence::None,
        causes: Vec::new(),
    }
}

/// Where a network lies that is made by hand: its subnet and gateway.
pub fn place_of_network(actual: &Actual, name: &Name, network: &Network) -> Result<(Subnet, Ipv4Addr), String> {
    let mut subnets = Subnets::new(actual);
    let within: Vec<Ipv4Addr> = network.gateway.into_iter().collect();
    let subnet = match network.subnet {
        Some(subnet) => subnets.take(subnet, name).map(|()| subnet)?,
        None => subnets.choose(name, &within).ok_or("no subnet is free: name one")?,
    };
    range(subnet, network.gateway).map(|range| (range.subnet, range.gateway))
}

/// The place of a container on a network that it joins by hand. Errors: why there is none.
pub fn endpoint_on(actual: &Actual, network: &Name, attachment: &Attachment, id: &ContainerId) -> Result<Endpoint, String> {
    let Some(Observed::Present(present)) = actual.networks.get(network) else { return Err(format!("network/{network} cannot be read")) };
    let mut addresses = Addresses::default();
    for (holder, observed) in &actual.containers {
        if let Observed::Present(state) = observed {
            state.endpoints.iter().for_each(|endpoint| addresses.hold(endpoint, holder));
        }
    }
    let range = Range { subnet: present.subnet, gateway: present.gateway };
    addresses.assign(network, attachment, range, id, |_| false)
}

/// The host-wide network, if a container names it and the site does not define it. It belongs to nobody: no site removes it.
fn wanted_default(site: &Site<'_>) -> Option<(Name, Network)> {
    let wants = |mode: &NetworkMode| match mode {
        NetworkMode::Networks(networks) => networks.keys().find(|name| name.as_str() == DEFAULT_NETWORK).cloned(),
        NetworkMode::Host | NetworkMode::None => None,
    };
    let name = site.desired.containers.values().find_map(|container| wants(&container.network))?;
    let network = match site.actual.networks.get(&name) {
        Some(Observed::Present(network)) => network.applied.clone(),
        Some(Observed::Unreadable { .. }) | None => Network { subnet: None, gateway: None, internal: false, labels: BTreeMap::new() },
    };
    (!site.desired.networks.contains_key(&name)).then_some((name, network))
}

fn one(site: &Site<'_>, name: &Name, network: &Network, is_shared: bool, subnets: &mut Subnets) -> NetworkVerdict {
    let id = resource(Kind::Network, name);
    let owner = if is_shared { Owner::Hand } else { site.owner.clone() };
    let verdict = |state, verb, consequence, causes| NetworkVerdict {
        network: network.clone(),
        owner: owner.clone(),
        state,
        verb,
        consequence,
        causes,
    };
    let blocked = |why| verdict(NetworkState::Blocked { why }, Verb::Update, Consequence::None, Vec::new());
    match site.actual.networks.get(name) {
        Some(Observed::Unreadable { why }) => blocked(format!("its record could not be read: {why}")),
        Some(Observed::Present(present)) if present.owner != site.owner && !is_shared => {
            blocked(foreign(Kind::Network, name.as_str(), &present.owner))
        }
        None => match place(site, name, network, subnets) {
            Ok(range) => {
                let cause = Cause::New { location: site.desired.origins.find(&id, "").cloned() };
                verdict(NetworkState::Usable { range, work: NetworkWork::Create }, Verb::Create, Consequence::None, vec![cause])
            }
            Err(why) => blocked(why),
        },
        Some(Observed::Present(present)) => {
            let differences = differences(present, network);
            let moves = differences.iter().any(|difference| difference.effect == Effect::Replace);
            let repair = !present.faults.is_empty();
            let update = !differences.is_empty();
            let live = differences.iter().any(|difference| difference.effect == Effect::Live) || repair;
            let mut causes: Vec<Cause> = differences.into_iter().map(|difference| difference.cause(site.desired, &id)).collect();
            if moves {
                return match move_to(present, name, network, subnets) {
                    Ok(range) => verdict(NetworkState::Replaced { range }, Verb::Replace, Consequence::Downtime, causes),
                    Err(why) => blocked(why),
                };
            }
            causes.extend(present.faults.iter().map(|fault| Cause::Drift { what: fault.clone() }));
            let range = Range { subnet: present.subnet, gateway: present.gateway };
            let work = if repair || update { NetworkWork::Mend { repair, update } } else { NetworkWork::Nothing };
            let verb = if update { Verb::Update } else { Verb::Repair };
            let consequence = if live { Consequence::LiveUpdate } else { Consequence::None };
            verdict(NetworkState::Usable { range, work }, verb, consequence, causes)
        }
    }
}

/// Field differences, with what a new subnet or gateway really takes: nothing where the present one already is as desired.
fn differences(present: &ActualNetwork, network: &Network) -> Vec<Difference> {
    let subnet_moves = network.subnet.is_some_and(|subnet| subnet != present.subnet);
    let gateway_moves = network.gateway.is_some_and(|gateway| gateway != present.gateway);
    let mut found = field::differences(field::NETWORK, &present.applied, network);
    for difference in &mut found {
        let moves = (difference.field == "subnet" && subnet_moves) || (difference.field == "gateway" && gateway_moves);
        if moves {
            difference.effect = Effect::Replace;
        }
    }
    found
}

/// Where a new network lies. One that was lost goes where the containers that were on it still are, if it may.
fn place(site: &Site<'_>, name: &Name, network: &Network, subnets: &mut Subnets) -> Result<Range, String> {
    if let Some(subnet) = network.subnet {
        subnets.take(subnet, name)?;
        return range(subnet, network.gateway);
    }
    let within: BTreeSet<Ipv4Addr> = match network.gateway {
        Some(gateway) => BTreeSet::from([gateway]),
        None => survivors(site, name),
    };
    let within: Vec<Ipv4Addr> = within.into_iter().collect();
    let subnet = subnets.choose(name, &within).ok_or("no subnet is free: name one with `subnet`")?;
    range(subnet, network.gateway)
}

fn move_to(present: &ActualNetwork, name: &Name, network: &Network, subnets: &mut Subnets) -> Result<Range, String> {
    subnets.release(present.subnet);
    let subnet = network.subnet.unwrap_or(present.subnet);
    let taken = subnets.take(subnet, name).and_then(|()| range(subnet, network.gateway));
    if taken.is_err() {
        // It stays where it is: nobody else may have that.
        subnets.take(present.subnet, name)?;
    }
    taken
}

fn range(subnet: Subnet, gateway: Option<Ipv4Addr>) -> Result<Range, String> {
    let gateway = gateway.unwrap_or_else(|| subnet.first_host());
    let fits = subnet.contains(gateway) && gateway != subnet.network() && gateway != subnet.broadcast();
    if fits { Ok(Range { subnet, gateway }) } else { Err(format!("gateway {gateway} does not lie in subnet {subnet}: name both")) }
}

/// Addresses containers still have on a network that is gone.
fn survivors(site: &Site<'_>, name: &Name) -> BTreeSet<Ipv4Addr> {
    let present = site.actual.containers.values().filter_map(|observed| match observed {
        Observed::Present(state) => Some(&state.endpoints),
        Observed::Unreadable { .. } => None,
    });
    present.flatten().filter(|endpoint| endpoint.network == *name).map(|endpoint| endpoint.address).collect()
}

/// Why a network cannot be replaced in this plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Something on it cannot go with it: what, and why.
    Stays(String),
    /// Something on it can go with it only in a later plan.
    Waits,
}

/// Keeps networks where they are that cannot take all of their containers along. Returns whether any was kept.
pub(super) fn keep(networks: &mut Networks, obstacles: BTreeMap<Name, Obstacle>) -> bool {
    let mut kept = false;
    for (name, obstacle) in obstacles {
        let Some(verdict) = networks.get_mut(&name) else { continue };
        if let NetworkState::Replaced { range } = verdict.state {
            kept = true;
            verdict.state = match obstacle {
                Obstacle::Stays(why) => NetworkState::Blocked { why },
                Obstacle::Waits => NetworkState::Later { range },
            };
        }
    }
    kept
}

/// The cause a container has that goes with its network.
pub(super) fn follows(name: &Name, range: Range) -> Cause {
    let resource: ResourceId = resource(Kind::Network, name);
    Cause::Follows { resource, what: format!("made again with subnet {} and gateway {}", range.subnet, range.gateway) }
}
