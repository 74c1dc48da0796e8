//! Our nftables table: the ports that lead into containers, the way out, and the walls between networks.
//!
//! Chains and rules never change; whatever does is an element of a set or map, so that a change costs what changes, and takes
//! effect at one instant. The rules look up the name of a link in a set, which survives a bridge that is made again.
//!
//! ```text
//!  set bridges          all our bridges                     map published     proto . port             : address . port
//!  set outward          those of networks with a way out    map published-at  address . proto . port   : address . port
//!  set internal         the others
//!  set within-bridge    (bridge, bridge) of each
//! ```

use super::error::NetworkError;
use super::names;
use super::naming::bridge_name;
use super::netlink::{Family, NetlinkError, Socket};
use super::nftables::expression::{Connection, Expressions, FIRST, Field, Meta, Register, Verdict};
use super::nftables::message::{Base, Batch, DataType, Hook};
use super::nftables::read::{self, Chain};
use super::probe::Feature;
use super::record::NetworkRecord;
use super::traffic::{HostPort, Target, Traffic, host_port, published, reachable_address};
use crate::places::Places;
use spec::value::{ContainerId, Digest, Name, PortMapping, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// Where packets first pass: before connection tracking gives translated replies their loopback address back.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// The sets and maps of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Set {
    Bridges,
    Outward,
    Internal,
    WithinBridge,
    Published,
    PublishedAt,
}

impl Set {
    const ALL: [Self; 6] = [Self::Bridges, Self::Outward, Self::Internal, Self::WithinBridge, Self::Published, Self::PublishedAt];

    fn name(self) -> &'static str {
        match self {
            Self::Bridges => "bridges",
            Self::Outward => "outward",
            Self::Internal => "internal",
            Self::WithinBridge => "within-bridge",
            Self::Published => "published",
            Self::PublishedAt => "published-at",
        }
    }

    /// Types of key and data.
    fn types(self) -> (DataType, Option<DataType>) {
        let port = DataType::TRANSPORT.then(DataType::PORT);
        let target = DataType::ADDRESS.then(DataType::PORT);
        match self {
            Self::Bridges | Self::Outward | Self::Internal => (DataType::LINK_NAME, None),
            Self::WithinBridge => (DataType::LINK_NAME.then(DataType::LINK_NAME), None),
            Self::Published => (port, Some(target)),
            Self::PublishedAt => (DataType::ADDRESS.then(DataType::TRANSPORT).then(DataType::PORT), Some(target)),
        }
    }
}

/// Elements of every set and map, as the kernel has them: key to data, data empty in sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents(BTreeMap<Set, BTreeMap<Vec<u8>, Vec<u8>>>);

impl Contents {
    /// What the table should hold.
    pub(super) fn new(places: &Places, networks: &BTreeMap<Name, NetworkRecord>, published: &BTreeMap<HostPort, Target>) -> Self {
        let mut contents = Self::default();
        for network in networks.values() {
            let bridge = link_name_key(&bridge_name(places, &network.name));
            let direction = if network.internal { Set::Internal } else { Set::Outward };
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

    fn of(&self, set: Set) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.get(&set).into_iter().flatten().map(|(key, data)| (key.as_slice(), data.as_slice()))
    }

    fn has(&self, set: Set, key: &[u8], data: &[u8]) -> bool {
        self.0.get(&set).and_then(|elements| elements.get(key)).is_some_and(|found| found == data)
    }

    /// Keeps what passes.
    fn retain(&mut self, keep: impl Fn(Set) -> bool) {
        self.0.retain(|set, _| keep(*set));
    }
}

/// The table as the kernel has it, read once and asked several questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallState {
    layout: BTreeSet<String>,
    contents: Contents,
}

impl FirewallState {
    /// Reads the table of this instance in the network namespace of this thread.
    pub fn read(places: &Places) -> Result<Self, NetworkError> {
        let table = places.instance();
        let mut socket = open()?;
        let failed = || NetworkError::netlink(format!("read nftables table {table}"), Feature::Nftables);
        let Some(comment) = read::table_comment(&mut socket, &table).map_err(failed())? else {
            return Ok(Self { layout: BTreeSet::from([format!("table {table} is missing")]), contents: Contents::default() });
        };
        let mut layout = BTreeSet::new();
        if comment != layout_comment(&table) {
            layout.insert(format!("table {table} has another layout"));
        }
        let (found, wanted) = (read::chains(&mut socket, &table).map_err(failed())?, chains());
        for (name, chain) in &wanted {
            if found.get(name) != Some(chain) {
                layout.insert(format!("chain {name} of table {table} is missing or altered"));
            }
        }
        layout.extend(
            found.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("chain {name} of table {table} is not ours")),
        );
        let mut contents = Contents::default();
        for set in Set::ALL {
            match read::elements(&mut socket, &table, set.name()).map_err(failed())? {
                Some(elements) if elements.is_empty() => {}
                Some(elements) => drop(contents.0.insert(set, elements)),
                None => drop(layout.insert(format!("set {} of table {table} is missing", set.name()))),
            }
        }
        Ok(Self { layout, contents })
    }

    /// What differs from how the table, and the files with the names of containers, should be; empty if nothing does. Without
    /// networks no table is needed.
    pub fn faults(
        &self,
        places: &Places,
        networks: &BTreeMap<Name, NetworkRecord>,
        traffic: &Traffic,
    ) -> Result<BTreeSet<String>, NetworkError> {
        if networks.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut faults = self.layout.clone();
        let wanted = Contents::new(places, networks, &published(networks, traffic)?);
        for set in Set::ALL {
            let missing = wanted.of(set).filter(|(key, data)| !self.contents.has(set, key, data)).count();
            let surplus = self.contents.of(set).filter(|(key, data)| !wanted.has(set, key, data)).count();
            if missing + surplus > 0 {
                faults.insert(format!("set {} of table {}: {missing} missing, {surplus} too many", set.name(), places.instance()));
            }
        }
        faults.extend(names::differing(places, networks, traffic).into_iter().map(|network| format!("names of network {network}")));
        Ok(faults)
    }

    /// The published ports that do not lead to the container they should, by container.
    pub fn missing_ports(&self, networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> BTreeMap<ContainerId, Vec<PortMapping>> {
        let mut missing: BTreeMap<ContainerId, Vec<PortMapping>> = BTreeMap::new();
        for (id, serving) in traffic {
            let Some(address) = reachable_address(networks, serving) else { continue };
            for mapping in &serving.ports {
                let (set, key) = port_key(&host_port(mapping));
                if !self.contents.has(set, &key, &target_data(&Target { address, port: mapping.container_port })) {
                    missing.entry(id.clone()).or_default().push(*mapping);
                }
            }
        }
        missing
    }
}

/// Writes the table anew, and the names of containers, whatever was there: one transaction, in which nothing is interrupted.
pub fn rebuild_firewall(places: &Places, networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> Result<(), NetworkError> {
    rebuild(places, &Contents::new(places, networks, &published(networks, traffic)?))?;
    names::write_names(places, networks, traffic)
}

/// Removes the table; fine if it is absent.
pub fn remove_firewall(places: &Places) -> Result<(), NetworkError> {
    let table = places.instance();
    let mut batch = Batch::new(&table);
    batch.delete_table();
    match batch.commit(&mut open()?) {
        Err(error) if error.refusal() == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(NetworkError::netlink(format!("remove nftables table {table}"), Feature::Nftables)),
    }
}

/// Turns one content into another in one transaction. If the kernel shows that the table is not as it should be, it is written
/// anew as a whole.
pub(super) fn change(places: &Places, before: &Contents, after: &Contents) -> Result<(), NetworkError> {
    let table = places.instance();
    match difference(&table, before, after).commit(&mut open()?) {
        Ok(()) => Ok(()),
        Err(NetlinkError::Refused { .. }) => rebuild(places, after),
        Err(error) => Err(NetworkError::netlink(format!("change nftables table {table}"), Feature::Nftables)(error)),
    }
}

/// Makes the sets of bridges as the networks say and leaves the ports as they are. Writes the whole table, without ports, if its
/// layout is not ours.
pub(super) fn ensure_networks(places: &Places, networks: &BTreeMap<Name, NetworkRecord>) -> Result<(), NetworkError> {
    let wanted = Contents::new(places, networks, &BTreeMap::new());
    let mut found = FirewallState::read(places)?;
    if !found.layout.is_empty() {
        return rebuild(places, &wanted);
    }
    found.contents.retain(|set| !matches!(set, Set::Published | Set::PublishedAt));
    if found.contents == wanted { Ok(()) } else { change(places, &found.contents, &wanted) }
}

/// Leads the container's name server, in the namespace of this thread, to where its shim listens.
pub(super) fn redirect_resolver(places: &Places) -> Result<(), NetworkError> {
    let table = places.instance();
    let mut batch = Batch::new(&table);
    batch.ensure_table("name resolution");
    batch.create_chain("output", Some(Base { kind: "nat", hook: Hook::Output, priority: PRIORITY_DESTINATION_NAT }));
    for (protocol, name) in [(Protocol::Udp, "udp"), (Protocol::Tcp, "tcp")] {
        let rule = Expressions::new()
            .load(Field::Destination, FIRST)
            .equal(FIRST, &super::RESOLVER_ADDRESS.octets())
            .load_meta(Meta::Transport, FIRST)
            .equal(FIRST, &[protocol_number(protocol)])
            .load(Field::DestinationPort, FIRST)
            .equal(FIRST, &53u16.to_be_bytes())
            .translate_destination_to(*super::RESOLVER.ip(), super::RESOLVER.port());
        batch.append_rule("output", &format!("{name} to the shim's resolver"), &rule);
    }
    batch.commit(&mut open()?).map_err(NetworkError::netlink("redirect the container's resolver", Feature::Nftables))
}

/// Writes an empty table into the namespace of this thread, which is to end: whether the kernel knows all that the rules need.
pub(super) fn try_layout() -> Result<(), NetworkError> {
    let mut batch = Batch::new("probe");
    batch.ensure_table("");
    write_layout(&mut batch);
    batch.commit(&mut open()?).map_err(NetworkError::netlink("write an nftables table", Feature::Nftables))
}

/// Replaces the table in one transaction.
fn rebuild(places: &Places, contents: &Contents) -> Result<(), NetworkError> {
    let table = places.instance();
    let mut batch = Batch::new(&table);
    // Deleting what is absent is refused, so it is made first.
    batch.ensure_table("");
    batch.delete_table();
    batch.ensure_table(&layout_comment(&table));
    write_layout(&mut batch);
    for set in Set::ALL {
        batch.add_elements(set.name(), contents.of(set));
    }
    batch.commit(&mut open()?).map_err(NetworkError::netlink(format!("write nftables table {table}"), Feature::Nftables))
}

/// Deletions come before additions, so that a key may change what it leads to.
fn difference<'t>(table: &'t str, before: &Contents, after: &Contents) -> Batch<'t> {
    let mut batch = Batch::new(table);
    for set in Set::ALL {
        batch.delete_elements(set.name(), before.of(set).filter(|(key, data)| !after.has(set, key, data)));
        batch.add_elements(set.name(), after.of(set).filter(|(key, data)| !before.has(set, key, data)));
    }
    batch
}

/// Chains with their hooks, and rules with what they are for, in order.
fn layout() -> Vec<(&'static str, Option<Base>, Vec<(&'static str, Expressions)>)> {
    let rule = Expressions::new;
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let from = |set: Set| rule().load_meta(Meta::InputName, FIRST).is_in(set.name(), FIRST);
    let to = |set: Set| rule().load_meta(Meta::OutputName, FIRST).is_in(set.name(), FIRST);
    let within_bridge =
        || rule().load_meta(Meta::InputName, FIRST).load_meta(Meta::OutputName, Register::at(4)).is_in(Set::WithinBridge.name(), FIRST);
    let loopback = [127];
    let publish = || rule().destination_is_local().verdict(Verdict::Jump("publish"));
    vec![
        // A bridge routes packets to and from 127.0.0.0/8 (route_localnet); none may come from a container.
        (
            "spoofed",
            base("filter", Hook::Prerouting, PRIORITY_RAW),
            vec![
                (
                    "containers do not reach the host's loopback",
                    from(Set::Bridges).load(Field::DestinationFirstByte, FIRST).equal(FIRST, &loopback).verdict(Verdict::Drop),
                ),
                (
                    "nor pretend to be it",
                    from(Set::Bridges).load(Field::SourceFirstByte, FIRST).equal(FIRST, &loopback).verdict(Verdict::Drop),
                ),
            ],
        ),
        (
            "publish",
            None,
            vec![
                (
                    "ports of one address",
                    rule()
                        .load(Field::Destination, FIRST)
                        .load_meta(Meta::Transport, Register::at(1))
                        .load(Field::DestinationPort, Register::at(2))
                        .look_up(Set::PublishedAt.name(), FIRST, FIRST)
                        .translate_destination(FIRST, Register::at(1)),
                ),
                (
                    "ports of every address",
                    rule()
                        .load_meta(Meta::Transport, FIRST)
                        .load(Field::DestinationPort, Register::at(1))
                        .look_up(Set::Published.name(), FIRST, FIRST)
                        .translate_destination(FIRST, Register::at(1)),
                ),
            ],
        ),
        ("prerouting", base("nat", Hook::Prerouting, PRIORITY_DESTINATION_NAT), vec![("from others", publish())]),
        ("output", base("nat", Hook::Output, PRIORITY_DESTINATION_NAT), vec![("from this host", publish())]),
        (
            "postrouting",
            base("nat", Hook::Postrouting, PRIORITY_SOURCE_NAT),
            vec![
                (
                    "from localhost to a published port",
                    to(Set::Bridges).load(Field::SourceFirstByte, FIRST).equal(FIRST, &loopback).masquerade(),
                ),
                (
                    "from a container to a published port of its own network",
                    within_bridge().connection_is(Connection::DestinationTranslated).masquerade(),
                ),
                ("neighbours see each other as they are", within_bridge().verdict(Verdict::Return)),
                ("the way out", from(Set::Outward).masquerade()),
            ],
        ),
        (
            "forward",
            base("filter", Hook::Forward, PRIORITY_FILTER),
            vec![
                ("what was let through goes on", rule().connection_is(Connection::Known).verdict(Verdict::Accept)),
                ("neighbours", within_bridge().verdict(Verdict::Accept)),
                ("internal networks have no way out", from(Set::Internal).verdict(Verdict::Drop)),
                ("nor in", to(Set::Internal).verdict(Verdict::Drop)),
                ("published ports", to(Set::Bridges).connection_is(Connection::DestinationTranslated).verdict(Verdict::Accept)),
                ("nothing else comes in, from other networks or from outside", to(Set::Bridges).verdict(Verdict::Drop)),
            ],
        ),
    ]
}

fn write_layout(batch: &mut Batch<'_>) {
    for set in Set::ALL {
        let (key, data) = set.types();
        batch.create_set(set.name(), key, data);
    }
    let layout = layout();
    for (chain, base, _) in &layout {
        batch.create_chain(chain, *base);
    }
    for (chain, _, rules) in &layout {
        for (comment, rule) in rules {
            batch.append_rule(chain, comment, rule);
        }
    }
}

/// The chains as they are read back.
fn chains() -> BTreeMap<String, Chain> {
    let chain = |(name, base, rules): (&str, Option<Base>, Vec<(&str, Expressions)>)| {
        let hook = base.map(|base| (base.hook as u32, base.priority));
        (name.to_owned(), Chain { hook, rules: rules.iter().map(|(comment, _)| (*comment).to_owned()).collect() })
    };
    layout().into_iter().map(chain).collect()
}

/// Tells a table of this version of the rules from one of another.
fn layout_comment(table: &str) -> String {
    let mut batch = Batch::new(table);
    write_layout(&mut batch);
    format!("containers, layout {}", &Digest::of(&batch.fingerprint()).hex()[..12])
}

/// `proto . port` in one map, `address . proto . port` in the other, each component padded to a register.
fn port_key(port: &HostPort) -> (Set, Vec<u8>) {
    let [high, low] = port.port.to_be_bytes();
    let suffix = [protocol_number(port.protocol), 0, 0, 0, high, low, 0, 0];
    match port.address {
        None => (Set::Published, suffix.to_vec()),
        Some(address) => (Set::PublishedAt, [address.octets().as_slice(), &suffix].concat()),
    }
}

fn target_data(target: &Target) -> Vec<u8> {
    let [high, low] = target.port.to_be_bytes();
    [target.address.octets(), [high, low, 0, 0]].concat()
}

/// A name of a link as packets are matched by it: 16 bytes.
fn link_name_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
    }
}

fn open() -> Result<Socket, NetworkError> {
    Socket::open(Family::Netfilter).map_err(NetworkError::netlink("talk to netfilter", Feature::Nftables))
}
