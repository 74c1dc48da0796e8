//! What leads where: the published ports of the host and the names of containers, to the containers that serve them.
//!
//! A change is one nftables transaction: every packet sees all of the old or all of the new, so that a port moves from one
//! incarnation to the next without a gap. Its cost follows what changes, not what is there.

use super::conntrack;
use super::error::NetworkError;
use super::firewall::{self, Contents};
use super::names;
use super::record::{NetworkRecord, read_network, readable_networks};
use crate::container::config::Endpoint;
use crate::places::Places;
use spec::value::{ContainerId, Name, PortMapping, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The containers that serve: at most one incarnation of a name, by its id.
pub type Traffic = BTreeMap<ContainerId, Serving>;

/// What leads to one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Serving {
    /// Its places on networks. Ports lead to the first one whose network is not internal.
    pub endpoints: Vec<Endpoint>,
    /// Ports of the host. A container that is only on internal networks has none in effect, as with Docker.
    pub ports: Vec<PortMapping>,
}

/// A change of it: what leads to each of these containers from now on, nothing if `None`. The others stay as they are.
pub type TrafficChange = BTreeMap<ContainerId, Option<Serving>>;

/// A port of the host, as packets are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    /// Only at this address; at every address of the host if `None`.
    pub address: Option<Ipv4Addr>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// Where in a container a port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// The container's address.
    pub address: Ipv4Addr,
    /// The port there.
    pub port: u16,
}

/// Makes ports and names lead where they do after a change, given that they lead where `before` says. What it costs follows the
/// change, and the names on its networks. If the kernel shows that it is not as `before` says, the table is mended as by
/// [`super::rebuild_firewall`].
pub fn set_traffic(places: &Places, before: &Traffic, change: &TrafficChange) -> Result<(), NetworkError> {
    let ending: Traffic = change.keys().filter_map(|id| before.get_key_value(id)).map(|(id, it)| (id.clone(), it.clone())).collect();
    let beginning: Traffic = change.iter().filter_map(|(id, serving)| Some((id.clone(), serving.clone()?))).collect();
    let networks = networks_of(places, ending.values().chain(beginning.values()))?;
    let (old, new) = (published(&networks, &ending)?, published(&networks, &beginning)?);
    if old != new {
        let whole = || {
            let networks = readable_networks(places)?;
            let all = after(before, change).map(|(id, serving)| (id.clone(), serving.clone())).collect();
            published(&networks, &all).map(|ports| Contents::new(places, &networks, &ports))
        };
        let mut staying = before.iter().filter(|(id, _)| !change.contains_key(*id)).flat_map(|(_, serving)| &serving.ports);
        if staying.any(|port| new.contains_key(&host_port(port))) {
            // A port that seems to be taken: looking at all of them tells by whom, if it is.
            whole()?;
        }
        let contents = |ports| Contents::new(places, &networks, ports);
        firewall::change(places, &contents(&old), &contents(&new), whole)?;
    }
    // Whoever resolves a name finds the ports ready.
    names::change(places, &networks, before, change)?;
    conntrack::forget(&moved_flows(&old, &new))
}

/// Who serves after a change.
pub(super) fn after<'a>(before: &'a Traffic, change: &'a TrafficChange) -> impl Iterator<Item = (&'a ContainerId, &'a Serving)> {
    let staying = before.iter().filter(|(id, _)| !change.contains_key(*id));
    staying.chain(change.iter().filter_map(|(id, serving)| Some((id, serving.as_ref()?))))
}

/// The networks these are on, as far as their records can be read.
fn networks_of<'a>(places: &Places, serving: impl Iterator<Item = &'a Serving>) -> Result<BTreeMap<Name, NetworkRecord>, NetworkError> {
    let names: BTreeSet<&Name> = serving.flat_map(|serving| &serving.endpoints).map(|endpoint| &endpoint.network).collect();
    Ok(names.into_iter().filter_map(|name| Some((name.clone(), read_network(places, name).ok()??))).collect())
}

/// Where each published port leads.
pub(super) fn published(networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> Result<BTreeMap<HostPort, Target>, NetworkError> {
    let mut published: BTreeMap<HostPort, (Target, &ContainerId)> = BTreeMap::new();
    for (id, serving) in traffic {
        let Some(address) = reachable_address(networks, serving) else { continue };
        for mapping in &serving.ports {
            let target = Target { address, port: mapping.container_port };
            match published.insert(host_port(mapping), (target, id)) {
                Some((_, other)) if other != id => {
                    return Err(NetworkError::PortConflict { port: *mapping, first: other.clone(), second: id.clone() });
                }
                _ => {}
            }
        }
    }
    Ok(published.into_iter().map(|(port, (target, _))| (port, target)).collect())
}

/// Where published ports of a container lead: its first endpoint with a way out.
pub(super) fn reachable_address(networks: &BTreeMap<Name, NetworkRecord>, serving: &Serving) -> Option<Ipv4Addr> {
    serving.endpoints.iter().find(|endpoint| networks.get(&endpoint.network).is_some_and(|network| !network.internal)).map(|it| it.address)
}

/// How packets to a published port are matched. `0.0.0.0` is every address, as for listening sockets.
pub(super) fn host_port(mapping: &PortMapping) -> HostPort {
    HostPort {
        address: mapping.host_address.filter(|address| !address.is_unspecified()),
        protocol: mapping.protocol,
        port: mapping.host_port,
    }
}

/// UDP flows that a change redirects: to a target that no longer serves, or to a port nobody served. A flow keeps its
/// translation as long as packets come, so that a steady sender would never see the change. TCP connections are left to end by
/// themselves.
fn moved_flows(old: &BTreeMap<HostPort, Target>, new: &BTreeMap<HostPort, Target>) -> BTreeSet<conntrack::Flows> {
    let udp = |port: &HostPort| port.protocol == Protocol::Udp;
    let ended = old
        .iter()
        .filter(|(port, target)| udp(port) && new.get(port) != Some(target))
        .map(|(_, target)| conntrack::Flows::From { address: target.address, port: target.port });
    let begun = new
        .keys()
        .filter(|port| udp(port) && !old.contains_key(port))
        .map(|port| conntrack::Flows::To { address: port.address, port: port.port });
    ended.chain(begun).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, subnet: &str, internal: bool) -> (Name, NetworkRecord) {
        let subnet: spec::value::Subnet = subnet.parse().unwrap();
        let name: Name = name.parse().unwrap();
        let record = NetworkRecord {
            name: name.clone(),
            subnet,
            gateway: subnet.first_host(),
            internal,
            labels: BTreeMap::new(),
            annotations: serde_json::Value::Null,
        };
        (name, record)
    }

    fn serving(endpoints: &[(&str, &str)], ports: &[&str]) -> Serving {
        let endpoint = |(network, address): &(&str, &str)| Endpoint {
            network: network.parse().unwrap(),
            address: address.parse().unwrap(),
            aliases: BTreeSet::new(),
        };
        Serving { endpoints: endpoints.iter().map(endpoint).collect(), ports: ports.iter().map(|port| port.parse().unwrap()).collect() }
    }

    #[test]
    fn ports_lead_to_the_first_network_with_a_way_out() {
        let networks = BTreeMap::from([network("back", "10.1.0.0/24", true), network("front", "10.2.0.0/24", false)]);
        let traffic = Traffic::from([
            ("web@1".parse().unwrap(), serving(&[("back", "10.1.0.2"), ("front", "10.2.0.2")], &["0.0.0.0:80:8080"])),
            ("db@1".parse().unwrap(), serving(&[("back", "10.1.0.3")], &["5432:5432"])),
        ]);
        let published = published(&networks, &traffic).unwrap();
        let port = HostPort { address: None, protocol: Protocol::Tcp, port: 80 };
        assert_eq!(published, BTreeMap::from([(port, Target { address: "10.2.0.2".parse().unwrap(), port: 8080 })]));
    }

    #[test]
    fn one_port_cannot_lead_to_two_containers() {
        let networks = BTreeMap::from([network("front", "10.2.0.0/24", false)]);
        let traffic = Traffic::from([
            ("a@1".parse().unwrap(), serving(&[("front", "10.2.0.2")], &["80:80"])),
            ("b@1".parse().unwrap(), serving(&[("front", "10.2.0.3")], &["80:80"])),
        ]);
        let error = published(&networks, &traffic).unwrap_err().to_string();
        assert_eq!(error, "port 80:80/tcp is published by a@1 and by b@1");
    }

    #[test]
    fn only_udp_flows_are_forgotten() {
        let port = |protocol| HostPort { address: None, protocol, port: 53 };
        let target = |last| Target { address: Ipv4Addr::new(10, 0, 0, last), port: 5353 };
        let old = BTreeMap::from([(port(Protocol::Udp), target(2)), (port(Protocol::Tcp), target(2))]);
        let new = BTreeMap::from([(port(Protocol::Udp), target(3)), (port(Protocol::Tcp), target(3))]);
        assert_eq!(moved_flows(&old, &new), BTreeSet::from([conntrack::Flows::From { address: target(2).address, port: 5353 }]));
        assert_eq!(moved_flows(&BTreeMap::new(), &new), BTreeSet::from([conntrack::Flows::To { address: None, port: 53 }]));
        assert_eq!(moved_flows(&new, &new), BTreeSet::new());
    }
}
