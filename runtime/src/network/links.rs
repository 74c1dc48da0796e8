//! One look at the links, addresses and routes of the host, and what it tells about ours. Three dumps, however many containers there
//! are; every question after that is pure.

use super::error::NetworkError;
use super::link::{self, Address, Link, Route};
use super::naming::{alias_prefix, bridge_alias_of, bridge_name, link_alias_of, link_name_of};
use super::netlink::{Family, Socket};
use super::probe::Feature;
use super::record::NetworkRecord;
use crate::container::config::Endpoint;
use crate::places::Places;
use spec::value::{ContainerId, Name, Subnet};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

/// What was found in the network namespace it was read in.
#[derive(Debug, Clone)]
pub struct Links {
    places: Places,
    /// Its name, kept because making it takes a hash.
    instance: String,
    /// Every port of a bridge, by name: ours have names that are nobody else's, made of their aliases.
    ports: HashMap<String, Link>,
    /// The bridges of the networks asked for, or what has their names.
    bridges: BTreeMap<Name, Link>,
    /// The links with addresses or routes.
    routed: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

impl Links {
    /// Reads the network namespace of this thread. It can then be asked about these networks.
    pub fn read<'a>(places: &Places, networks: impl IntoIterator<Item = &'a Name>) -> Result<Self, NetworkError> {
        let failed = |action: &'static str| NetworkError::netlink(action, Feature::Links);
        let mut socket = Socket::open(Family::Route).map_err(failed("talk to rtnetlink"))?;
        let ports = link::ports(&mut socket).map_err(failed("list ports of bridges"))?;
        let addresses = link::addresses(&mut socket).map_err(failed("list addresses"))?;
        let routes = link::routes(&mut socket).map_err(failed("list routes"))?;
        let numbers = addresses.iter().map(|address| address.link).chain(routes.iter().filter_map(|route| route.link));
        let numbers: BTreeSet<u32> = numbers.collect();
        let mut routed = Vec::new();
        for number in numbers {
            routed.extend(link::numbered(&mut socket, number).map_err(failed("look at a link"))?);
        }
        let mut bridges = BTreeMap::new();
        for network in networks {
            let found = link::find(&mut socket, &bridge_name(places, network)).map_err(failed("look at a bridge"))?;
            bridges.extend(found.map(|bridge| (network.clone(), bridge)));
        }
        let ports = ports.into_iter().map(|link| (link.name.clone(), link)).collect();
        Ok(Self { places: places.clone(), instance: places.instance(), ports, bridges, routed, addresses, routes })
    }

    /// What is broken about a network's bridge; empty if nothing is.
    pub fn network_faults(&self, network: &NetworkRecord) -> BTreeSet<String> {
        let name = bridge_name(&self.places, &network.name);
        let Some(bridge) = self.bridges.get(&network.name) else {
            return BTreeSet::from([format!("bridge {name} is gone")]);
        };
        if bridge.alias != bridge_alias_of(&self.instance, &network.name) {
            return BTreeSet::from([format!("link {name} is not ours")]);
        }
        let mut faults = BTreeSet::new();
        if !bridge.up {
            faults.insert(format!("bridge {name} is down"));
        }
        if !self.addresses.contains(&Address { link: bridge.index, address: network.gateway, prefix: network.subnet.prefix() }) {
            faults.insert(format!("bridge {name} is without its address {}/{}", network.gateway, network.subnet.prefix()));
        }
        faults
    }

    /// The networks a container is not connected to as it should be: the host's end of its link is gone, down, not in its
    /// bridge, or the other end is down. What its own side has been made to do from inside (addresses, routes) is not seen.
    pub fn link_faults(&self, id: &ContainerId, endpoints: &[Endpoint]) -> BTreeSet<Name> {
        let sound = |endpoint: &&Endpoint| {
            let bridge = self.bridges.get(&endpoint.network).map(|bridge| bridge.index);
            let link = self.ports.get(&link_name_of(&link_alias_of(&self.instance, id, &endpoint.network)));
            link.is_some_and(|link| link.up && link.carrier && link.bridge.is_some() && link.bridge == bridge)
        };
        endpoints.iter().filter(|endpoint| !sound(endpoint)).map(|endpoint| endpoint.network.clone()).collect()
    }

    /// The subnets that links and routes not ours use. Those that are too small to be a [`Subnet`] are rounded up to one; those
    /// that are too big, such as the halves of the Internet a VPN takes, and default routes, are left out.
    pub fn foreign_subnets(&self) -> BTreeSet<Subnet> {
        let prefix = alias_prefix(&self.places);
        self.subnets_beside(|link| link.alias.starts_with(&prefix))
    }

    /// The same of what is not the links whose names begin with this.
    pub(super) fn subnets_of_others(&self, prefix: &str) -> BTreeSet<Subnet> {
        self.subnets_beside(|link| link.name.starts_with(prefix))
    }

    fn subnets_beside(&self, is_ours: impl Fn(&Link) -> bool) -> BTreeSet<Subnet> {
        let ours: BTreeSet<u32> = self.routed.iter().filter(|link| is_ours(link)).map(|link| link.index).collect();
        let addresses = self.addresses.iter().filter(|address| !ours.contains(&address.link)).map(|it| (it.address, it.prefix));
        let routes = self.routes.iter().filter(|route| !route.link.is_some_and(|link| ours.contains(&link)));
        addresses
            .chain(routes.map(|route| (route.destination, route.prefix)))
            .filter_map(|(first, prefix)| enclosing(first, prefix))
            .collect()
    }
}

/// The subnet an address with a prefix lies in.
fn enclosing(address: Ipv4Addr, prefix: u8) -> Option<Subnet> {
    let prefix = prefix.min(29);
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Subnet::new(Ipv4Addr::from(u32::from(address) & mask), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_prefixes_become_subnets_or_nothing() {
        let of = |address: &str, prefix| enclosing(address.parse().unwrap(), prefix).map(|subnet| subnet.to_string());
        assert_eq!(of("10.1.2.3", 24).as_deref(), Some("10.1.2.0/24"));
        assert_eq!(of("10.1.2.3", 32).as_deref(), Some("10.1.2.0/29"));
        assert_eq!(of("128.0.0.0", 1), None);
        assert_eq!(of("0.0.0.0", 0), None);
    }
}
