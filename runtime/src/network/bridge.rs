//! Networks on the host: record, bridge, settings, walls, names. A bridge is ours if its alias says so; we never touch another.

use super::error::NetworkError;
use super::link::{self, Address, Which};
use super::naming::{bridge_alias, bridge_name, hardware_address, is_link_alias_of};
use super::netlink::{Family, Socket};
use super::probe::Feature;
use super::record::{self, NetworkRecord};
use super::sysctl::{self, Missing};
use super::{firewall, names};
use crate::places::Places;
use spec::value::Name;

/// Makes the network exist as recorded: its record, its bridge with address, the links of containers that are in it, kernel
/// settings, its part of the firewall, its file of names. Mends whatever of these is missing and does nothing if nothing is.
pub fn ensure_network(places: &Places, network: &NetworkRecord) -> Result<(), NetworkError> {
    let failed = |action: String| NetworkError::netlink(action, Feature::Bridge);
    let name = bridge_name(places, &network.name);
    let mut socket = open()?;
    let found = link::find(&mut socket, &name).map_err(failed(format!("find link {name}")))?;
    let alias = bridge_alias(places, &network.name);
    if found.as_ref().is_some_and(|link| link.alias != alias) {
        return Err(NetworkError::ForeignLink { link: name });
    }
    // The record comes first: a bridge without one would be nobody's.
    record::ensure_record(places, network)?;
    if found.is_none() {
        let requests = [link::create_bridge(&name, hardware_address(network.gateway)), link::set_alias(&name, &alias)];
        socket.transact(&requests).map_err(failed(format!("create bridge {name}")))?;
    }
    let bridge = link::find(&mut socket, &name).map_err(failed(format!("find bridge {name}")))?;
    let bridge = bridge.ok_or_else(|| NetworkError::NoBridge { network: network.name.clone(), bridge: name.clone() })?;
    // Without IPv6 before the address is there: it would announce itself to the containers.
    sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), "1", Missing::Ignore)?;
    sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1", Missing::Refuse)?;
    let address = Address { link: bridge.index, address: network.gateway, prefix: network.subnet.prefix() };
    let mut requests = vec![link::set_up(&name), link::add_address(&address)];
    // A bridge that is made again is empty; the links of its containers are still there.
    for link in link::links(&mut socket).map_err(failed("list links".to_owned()))? {
        if is_link_alias_of(places, &link.alias, &network.name) && link.bridge != Some(bridge.index) {
            requests.extend([link::join_bridge(link.index, bridge.index), link::set_up_port(&link.name, &link.alias)]);
        }
    }
    requests.push(link::settle(Which::Numbered(bridge.index)));
    socket.transact(&requests).map_err(failed(format!("set up bridge {name}")))?;
    if !network.internal {
        sysctl::set("ipv4/ip_forward", "1", Missing::Refuse)?;
    }
    firewall::ensure_walls(places, network)?;
    names::ensure(places, network)
}

/// Removes the network: its bridge, its part of the firewall, names, record, in this order. Fine if absent. Its containers' links must
/// be gone, or stay without a bridge. With the last network the table goes too.
pub fn remove_network(places: &Places, network: &Name) -> Result<(), NetworkError> {
    let failed = |action: String| NetworkError::netlink(action, Feature::Bridge);
    let name = bridge_name(places, network);
    let mut socket = open()?;
    if let Some(link) = link::find(&mut socket, &name).map_err(failed(format!("find link {name}")))?
        && link.alias == bridge_alias(places, network)
    {
        socket.transact(&[link::delete(link.index)]).map_err(failed(format!("delete bridge {name}")))?;
    }
    let last = record::list_networks(places)?.keys().all(|name| name == network);
    if last {
        firewall::remove_firewall(places)?
    } else {
        firewall::remove_walls(places, network)?
    }
    names::remove(places, network)?;
    // The record goes last, so that an interrupted removal is seen and done again.
    record::remove_record(places, network)
}

fn open() -> Result<Socket, NetworkError> {
    Socket::open(Family::Route).map_err(NetworkError::netlink("talk to rtnetlink", Feature::Links))
}
