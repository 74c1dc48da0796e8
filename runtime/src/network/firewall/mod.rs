//! Our nftables table: the ports that lead into containers, the way out, and the walls between networks.
//!
//! Chains and rules never change; whatever does is an element of a set or map, so that a change costs what changes, and takes
//! effect at one instant. The rules look up the name of a link in a set, which survives a bridge that is made again.
//!
//! ```text
//!  set bridges          all our bridges                     map published     proto . port             : address . port
//!  set outward          those of networks with a way out    map published-at  address . proto . port   : address . port
//!  set internal         the others
//!  set within-bridge    bridge . bridge of each
//!  set neighbours       subnet . bridge of each
//! ```

mod contents;
mod layout;

pub(super) use contents::Contents;

use super::error::NetworkError;
use super::names;
use super::naming::bridge_name;
use super::netlink::{Family, NetlinkError, Socket};
use super::nftables::message::Batch;
use super::nftables::read;
use super::probe::Feature;
use super::record::{NetworkRecord, readable_networks};
use super::traffic::{Target, Traffic, host_port, published, reachable_address};
use crate::places::Places;
use contents::{Set, difference, port_key, target_data};
use layout::{chains, layout_comment, write_layout, write_resolver, write_way_out};
use spec::value::{ContainerId, Name, PortMapping};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

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
        if comment != layout_comment() {
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
                Some(elements) => contents.set(set, elements),
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

/// Mends the table, and the files with the names of containers. Elements that differ are changed in one transaction, and nothing
/// is done if none does. Only a table whose chains, rules or sets are not ours is replaced as a whole: also in one transaction,
/// but a packet on its way through the old rules at that instant may find their sets empty and a new connection be refused
/// (seen twice in a thousand replacements, under 17,000 new connections a second; never when elements change).
///
/// Without a network there is no table: the last one takes it along, and whoever mends it meanwhile must not bring it back.
pub fn rebuild_firewall(places: &Places, networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> Result<(), NetworkError> {
    if networks.is_empty() {
        return remove_firewall(places);
    }
    converge(places, &Contents::new(places, networks, &published(networks, traffic)?))?;
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

/// Turns what is different between two contents into one transaction, without looking at what is there. If the kernel shows that
/// it is not what was thought, that is looked at after all, and the table made to hold the `whole`.
pub(super) fn change(
    places: &Places,
    before: &Contents,
    after: &Contents,
    whole: impl FnOnce() -> Result<Contents, NetworkError>,
) -> Result<(), NetworkError> {
    match difference(&places.instance(), before, after).commit(&mut open()?) {
        Err(NetlinkError::Refused { .. }) => converge(places, &whole()?),
        other => other.map_err(changing(places)),
    }
}

/// Makes the table hold this, whatever is there.
fn converge(places: &Places, wanted: &Contents) -> Result<(), NetworkError> {
    let found = FirewallState::read(places)?;
    if !found.layout.is_empty() {
        return replace(places, wanted);
    }
    difference(&places.instance(), &found.contents, wanted).commit(&mut open()?).map_err(changing(places))
}

/// Makes the walls of one network as its record says. Writes the whole table, without ports, if it is not as it should be.
pub(super) fn ensure_walls(places: &Places, network: &NetworkRecord) -> Result<(), NetworkError> {
    let networks = BTreeMap::from([(network.name.clone(), network.clone())]);
    settle_walls(places, &network.name, &Contents::new(places, &networks, &BTreeMap::new()))
}

/// Removes the walls of one network. Ports that lead into it stay until the traffic changes.
pub(super) fn remove_walls(places: &Places, network: &Name) -> Result<(), NetworkError> {
    settle_walls(places, network, &Contents::default())
}

/// Changes only what is about this network's bridge: the records of others may not even be readable now.
fn settle_walls(places: &Places, network: &Name, wanted: &Contents) -> Result<(), NetworkError> {
    let state = FirewallState::read(places)?;
    if !state.layout.is_empty() {
        let mut all = readable_networks(places)?;
        if *wanted == Contents::default() {
            all.remove(network);
        }
        return replace(places, &Contents::new(places, &all, &BTreeMap::new()));
    }
    let found = state.contents.about(&bridge_name(places, network));
    difference(&places.instance(), &found, wanted).commit(&mut open()?).map_err(changing(places))
}

/// A table that is there as long as this is held: the kernel removes it with the socket, however its holder ends.
#[derive(Debug)]
pub(super) struct Wall {
    table: String,
    socket: Socket,
}

/// Names tried for such a table: as many as builds of agents that share this network and the number of their process.
const TABLE_NAMES_MAX: u32 = 16;

/// Lets links whose names begin with this prefix reach what the host reaches, and nothing reach them.
pub(super) fn lead_out(prefix: &str) -> Result<Wall, NetworkError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut socket = open()?;
    let mut attempts = 0;
    loop {
        // One a build: a table that is owned cannot be shared.
        let table = format!("agent-build-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut batch = Batch::new(&table);
        write_way_out(&mut batch, prefix);
        attempts += 1;
        match batch.commit(&mut socket) {
            Ok(()) => return Ok(Wall { table, socket }),
            // Somebody of the same number, in another namespace of processes, has it.
            Err(error) if matches!(error.refusal(), Some(libc::EEXIST | libc::EPERM)) && attempts < TABLE_NAMES_MAX => {}
            Err(error) => return Err(NetworkError::netlink(format!("write nftables table {table}"), Feature::Nftables)(error)),
        }
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        let mut batch = Batch::new(&self.table);
        batch.delete_table();
        // Sooner done than by closing the socket, which waits for packets under way; what fails here is done by that.
        let _ = batch.commit(&mut self.socket);
    }
}

/// Leads the container's name server, in the namespace of this thread, to where its shim listens.
pub(super) fn redirect_resolver(places: &Places) -> Result<(), NetworkError> {
    let table = places.instance();
    let mut batch = Batch::new(&table);
    write_resolver(&mut batch);
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
fn replace(places: &Places, contents: &Contents) -> Result<(), NetworkError> {
    let table = places.instance();
    let mut batch = Batch::new(&table);
    // Deleting what is absent is refused, so it is made first.
    batch.ensure_table("");
    batch.delete_table();
    batch.ensure_table(&layout_comment());
    write_layout(&mut batch);
    for set in Set::ALL {
        batch.add_elements(set.name(), set.shape(), contents.of(set));
    }
    batch.commit(&mut open()?).map_err(NetworkError::netlink(format!("write nftables table {table}"), Feature::Nftables))
}

fn open() -> Result<Socket, NetworkError> {
    Socket::open(Family::Netfilter).map_err(NetworkError::netlink("talk to netfilter", Feature::Nftables))
}

fn changing(places: &Places) -> impl FnOnce(NetlinkError) -> NetworkError {
    NetworkError::netlink(format!("change nftables table {}", places.instance()), Feature::Nftables)
}
