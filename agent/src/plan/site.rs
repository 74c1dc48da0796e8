//! One planning: both states, arranged for looking things up.

use super::Policy;
use super::actual::{Actual, ActualContainer, Observed, Owner};
use super::draft::{Draft, resource};
use super::incarnation::Incarnation;
use spec::desired::{Attachment, Container, Desired, Kind, NetworkMode};
use spec::value::{ContainerId, Name, PortMapping, Protocol};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Incarnations of one name, oldest first.
pub(super) type Named<'a> = Vec<(&'a ContainerId, &'a Observed<ActualContainer>)>;

/// A container a port of the host leads to, on one address of the host or on all.
type Holder<'a> = (Option<Ipv4Addr>, &'a ContainerId);

/// Both states of the host, arranged for looking things up.
pub(super) struct Site<'a> {
    pub(super) desired: &'a Desired,
    pub(super) actual: &'a Actual,
    pub(super) policy: &'a Policy,
    /// What our resources are marked with.
    pub(super) owner: Owner,
    containers: BTreeMap<&'a Name, Named<'a>>,
    ports: BTreeMap<(u16, Protocol), Vec<Holder<'a>>>,
}

impl<'a> Site<'a> {
    pub(super) fn new(desired: &'a Desired, actual: &'a Actual, policy: &'a Policy) -> Self {
        let mut containers: BTreeMap<&Name, Named<'a>> = BTreeMap::new();
        let mut ports: BTreeMap<_, Vec<Holder<'a>>> = BTreeMap::new();
        for (id, observed) in &actual.containers {
            containers.entry(&id.name).or_default().push((id, observed));
            let Observed::Present(state) = observed else { continue };
            if (Incarnation { id, state }).serves() {
                for port in published(&state.applied.network, &state.applied.ports) {
                    ports.entry((port.host_port, port.protocol)).or_default().push((port.host_address, id));
                }
            }
        }
        Self { desired, actual, policy, owner: Owner::Site(policy.site.clone()), containers, ports }
    }

    /// All incarnations of a name, oldest first.
    pub(super) fn incarnations(&self, name: &Name) -> &[(&'a ContainerId, &'a Observed<ActualContainer>)] {
        self.containers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Names of all containers on the host.
    pub(super) fn container_names(&self) -> impl Iterator<Item = &'a Name> + '_ {
        self.containers.keys().copied()
    }

    /// Running containers of other names to which this port of the host leads.
    pub(super) fn holders(&self, port: PortMapping, name: &Name) -> impl Iterator<Item = &'a ContainerId> + '_ {
        let meets = move |address: Option<Ipv4Addr>| address.is_none() || port.host_address.is_none() || address == port.host_address;
        let name = name.clone();
        let same_number = self.ports.get(&(port.host_port, port.protocol)).map_or(&[] as &[_], Vec::as_slice);
        same_number.iter().filter(move |(address, id)| meets(*address) && id.name != name).map(|(_, id)| *id)
    }

    /// Whether any incarnation of this name runs.
    pub(super) fn runs(&self, name: &Name) -> bool {
        self.incarnations(name).iter().any(|(id, observed)| match observed {
            Observed::Present(state) => Incarnation { id, state }.is_alive(),
            Observed::Unreadable { .. } => false,
        })
    }

    /// Whether a container of ours has a name no manifest has: it goes.
    pub(super) fn is_unnamed(&self, id: &ContainerId) -> bool {
        let ours = matches!(self.actual.containers.get(id), Some(Observed::Present(state)) if state.owner == self.owner);
        ours && !self.desired.containers.contains_key(&id.name)
    }

    /// Says of every unreadable resource that it is left alone, unless that was said.
    pub(super) fn note_unreadable(&self, draft: &mut Draft) {
        let mut note = |kind: Kind, name: String, why: &str| {
            let resource = resource(kind, name);
            if !draft.mentions(&resource) {
                draft.note(resource, format!("could not be read ({why}); it is left alone"));
            }
        };
        self.actual.images.iter().for_each(|(key, image)| {
            if let Observed::Unreadable { why } = image {
                note(Kind::Image, key.to_string(), why);
            }
        });
        self.actual.networks.iter().for_each(|(name, network)| {
            if let Observed::Unreadable { why } = network {
                note(Kind::Network, name.to_string(), why);
            }
        });
        self.actual.volumes.iter().for_each(|(name, volume)| {
            if let Observed::Unreadable { why } = volume {
                note(Kind::Volume, name.to_string(), why);
            }
        });
        self.actual.containers.iter().for_each(|(id, container)| {
            if let Observed::Unreadable { why } = container {
                note(Kind::Container, id.name.to_string(), why);
            }
        });
    }
}

/// Ports of the host that lead to a container: none unless it is bridged.
pub(super) fn published<'a>(network: &NetworkMode, ports: &'a [PortMapping]) -> &'a [PortMapping] {
    match network {
        NetworkMode::Networks(_) => ports,
        NetworkMode::Host | NetworkMode::None => &[],
    }
}

/// Why a resource of this name cannot be ours, and what to do about it.
pub(super) fn foreign(kind: Kind, name: &str, owner: &Owner) -> String {
    let one = if kind == Kind::Image { "an" } else { "a" };
    match owner {
        Owner::Hand => {
            format!("{one} {kind} of this name was made by hand: remove it with `agent {kind} rm {name}`, or choose another name")
        }
        Owner::Site(site) => format!(
            "{one} {kind} of this name belongs to the site {site}: remove it there, choose another name, or go on as that site with \
             --site {site}"
        ),
    }
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
