//! What the sets and maps of our table hold, as bytes. Pure: no I/O.

use super::super::naming::bridge_name;
use super::super::nftables::message::{Batch, Component, Shape};
use super::super::nftables::read::Elements;
use super::super::record::NetworkRecord;
use super::super::traffic::{HostPort, Target};
use crate::places::Places;
use spec::value::{Name, Protocol};
use std::collections::BTreeMap;

/// The sets and maps of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// All our bridges.
    Bridges,
    /// Those of networks with a way out.
    Outward,
    /// The others.
    Internal,
    /// Each bridge with itself: packets that stay in it.
    WithinBridge,
    /// Each subnet with its bridge: packets from a container to its own network.
    Neighbours,
    /// Ports of every address of the host.
    Published,
    /// Ports of one address.
    PublishedAt,
}

impl Set {
    /// In the order they are written.
    pub(super) const ALL: [Self; 7] =
        [Self::Bridges, Self::Outward, Self::Internal, Self::WithinBridge, Self::Neighbours, Self::Published, Self::PublishedAt];

    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bridges => "bridges",
            Self::Outward => "outward",
            Self::Internal => "internal",
            Self::WithinBridge => "within-bridge",
            Self::Neighbours => "neighbours",
            Self::Published => "published",
            Self::PublishedAt => "published-at",
        }
    }

    /// What its keys are made of.
    pub(super) fn key(self) -> &'static [Component] {
        match self {
            Self::Bridges | Self::Outward | Self::Internal => &[Component::LinkName],
            Self::WithinBridge => &[Component::LinkName, Component::LinkName],
            Self::Neighbours => &[Component::Address, Component::LinkName],
            Self::Published => &[Component::Transport, Component::Port],
            Self::PublishedAt => &[Component::Address, Component::Transport, Component::Port],
        }
    }

    /// What it holds.
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Bridges | Self::Outward | Self::Internal | Self::WithinBridge => Shape::Keys,
            Self::Neighbours => Shape::Ranges,
            Self::Published | Self::PublishedAt => Shape::Map(&[Component::Address, Component::Port]),
        }
    }
}

/// Elements of every set and map, as the kernel has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::network) struct Contents(BTreeMap<Set, Elements>);

impl Contents {
    /// What the table should hold.
    pub(in crate::network) fn new(
        places: &Places,
        networks: &BTreeMap<Name, NetworkRecord>,
        published: &BTreeMap<HostPort, Target>,
    ) -> Self {
        let mut contents = Self::default();
        for network in networks.values() {
            let bridge = link_name_key(&bridge_name(places, &network.name));
            let direction = if network.internal { Set::Internal } else { Set::Outward };
            let neighbours = |address: std::net::Ipv4Addr| [&address.octets(), bridge.as_slice()].concat();
            contents.insert(Set::Neighbours, neighbours(network.subnet.network()), neighbours(network.subnet.broadcast()));
            contents.insert(Set::WithinBridge, [bridge.clone(), bridge.clone()].concat(), Vec::new());
            contents.insert(direction, bridge.clone(), Vec::new());
            contents.insert(Set::Bridges, bridge, Vec::new());
        }
        for (port, target) in published {
            let (set, key) = port_key(port);
            contents.insert(set, key, target_data(target));
        }
        contents
    }

    fn insert(&mut self, set: Set, key: Vec<u8>, data: Vec<u8>) {
        self.0.entry(set).or_default().insert(key, data);
    }

    /// The elements of one set.
    pub(super) fn of(&self, set: Set) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.get(&set).into_iter().flatten().map(|(key, data)| (key.as_slice(), data.as_slice()))
    }

    /// Whether a key is there and leads where it should.
    pub(super) fn has(&self, set: Set, key: &[u8], data: &[u8]) -> bool {
        self.0.get(&set).and_then(|elements| elements.get(key)).is_some_and(|found| found == data)
    }

    /// Takes over what the kernel has of one set.
    pub(super) fn set(&mut self, set: Set, elements: Elements) {
        if !elements.is_empty() {
            self.0.insert(set, elements);
        }
    }

    /// What of it is about one bridge, whose name is the last component of every such key.
    #[must_use]
    pub(super) fn about(mut self, bridge: &str) -> Self {
        let name = link_name_key(bridge);
        self.0.retain(|set, elements| {
            match set {
                Set::Bridges | Set::Outward | Set::Internal | Set::WithinBridge | Set::Neighbours => {
                    elements.retain(|key, _| key.ends_with(&name));
                }
                Set::Published | Set::PublishedAt => elements.clear(),
            }
            !elements.is_empty()
        });
        self
    }
}

/// Deletions come before additions, so that a key may change what it leads to.
pub(super) fn difference<'t>(table: &'t str, before: &Contents, after: &Contents) -> Batch<'t> {
    let mut batch = Batch::new(table);
    for set in Set::ALL {
        batch.delete_elements(set.name(), set.shape(), before.of(set).filter(|(key, data)| !after.has(set, key, data)));
        batch.add_elements(set.name(), set.shape(), after.of(set).filter(|(key, data)| !before.has(set, key, data)));
    }
    batch
}

/// `proto . port` in one map, `address . proto . port` in the other, each component padded to a register.
pub(super) fn port_key(port: &HostPort) -> (Set, Vec<u8>) {
    let [high, low] = port.port.to_be_bytes();
    let suffix = [protocol_number(port.protocol), 0, 0, 0, high, low, 0, 0];
    match port.address {
        None => (Set::Published, suffix.to_vec()),
        Some(address) => (Set::PublishedAt, [address.octets().as_slice(), &suffix].concat()),
    }
}

/// `address . port`
pub(super) fn target_data(target: &Target) -> Vec<u8> {
    let [high, low] = target.port.to_be_bytes();
    [target.address.octets(), [high, low, 0, 0]].concat()
}

/// A name of a link as packets are matched by it: 16 bytes.
fn link_name_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

/// As in the header of IP.
pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
    }
}
