//! `kind: Network`: subnets that fit together.

use super::Resolver;
use super::index::Index;
use crate::desired::{Desired, Kind, Network};
use crate::diagnostic::Problems;
use crate::manifest::{self, Metadata};
use crate::parse::Document;
use crate::value::{Name, Subnet};
use std::net::Ipv4Addr;

/// The host's own network, made by the agent for containers that name none.
pub(super) const DEFAULT_NETWORK: &str = "default";

impl Resolver<'_> {
    pub(super) fn network(&mut self, document: &Document, name: Name, metadata: &Metadata, network: &manifest::Network) {
        let spec = document.spec();
        if name.as_str() == DEFAULT_NETWORK {
            let problem = document.spot().error("network default is made by the agent itself");
            self.report(problem.help("choose another name; a container that names no network is on default".to_owned()));
        }
        if let Some(problem) = network.subnet.and_then(unusable) {
            self.report(spec.key("subnet").error(problem).help("use a private range, such as 10.20.0.0/24".to_owned()));
        }
        let gateway = network.gateway.map(|gateway| gateway.0);
        if let Some(gateway) = gateway.filter(|_| !document.spec().lost("subnet")) {
            let spot = spec.key("gateway");
            match network.subnet {
                None => self.report(spot.error("a gateway needs a subnet").help("add subnet, such as 10.20.0.0/24".to_owned())),
                Some(subnet) => {
                    if let Some(problem) = not_a_host(subnet, gateway) {
                        self.report(spot.error(format!("gateway {problem}")).related(spec.key("subnet").place(), "the subnet"));
                    }
                }
            }
        }
        let labels = self.labels(document, metadata, network.labels.as_ref());
        let internal = network.internal.unwrap_or_default();
        self.desired.networks.insert(name, Network { subnet: network.subnet, gateway, internal, labels });
    }
}

/// Why this is no subnet for containers.
fn unusable(subnet: Subnet) -> Option<String> {
    let reserved = [
        (Ipv4Addr::new(0, 0, 0, 0), "reserved for \"this network\""),
        (Ipv4Addr::LOCALHOST, "the host's loopback"),
        (Ipv4Addr::new(169, 254, 0, 0), "reserved for link-local addresses"),
    ];
    let multicast = subnet.network().octets()[0] >= 224;
    let reason = reserved.iter().find(|(address, _)| subnet.contains(*address) || same_block(subnet, *address)).map(|(_, reason)| *reason);
    reason.or(multicast.then_some("multicast or reserved")).map(|reason| format!("subnet {subnet} is {reason}"))
}

/// Whether the subnet lies in the reserved block of this address: a /8, of link-local addresses the /16.
fn same_block(subnet: Subnet, address: Ipv4Addr) -> bool {
    let (ours, theirs) = (subnet.network().octets(), address.octets());
    ours[0] == theirs[0] && (theirs[0] != 169 || ours[1] == theirs[1])
}

/// Why no interface on the subnet can have this address.
pub(super) fn not_a_host(subnet: Subnet, address: Ipv4Addr) -> Option<String> {
    if !subnet.contains(address) {
        return Some(format!("{address} is outside subnet {subnet}"));
    }
    let special = [(subnet.network(), "network"), (subnet.broadcast(), "broadcast")];
    special.iter().find(|(other, _)| *other == address).map(|(_, what)| format!("{address} is the {what} address of subnet {subnet}"))
}

/// Reports every pair of networks whose subnets overlap.
pub(super) fn check_overlaps(index: &Index<'_>, desired: &Desired, problems: &mut Problems) {
    let mut subnets: Vec<(Subnet, &Name)> = desired.networks.iter().filter_map(|(name, network)| Some((network.subnet?, name))).collect();
    subnets.sort();
    // In order of first addresses, a subnet overlaps some earlier one exactly if it overlaps the one that reaches furthest.
    let mut furthest: Option<(Subnet, &Name)> = None;
    for (subnet, name) in subnets {
        if let Some((other, other_name)) = furthest.filter(|(other, _)| other.overlaps(subnet))
            && let (Some(this), Some(that)) = (index.find(Kind::Network, name), index.find(Kind::Network, other_name))
        {
            let (this, that) = (this.spec().key("subnet"), that.spec().key("subnet"));
            let message = format!("subnet {subnet} of network {name} overlaps {other} of network {other_name}");
            problems.push(this.error(message).related(that.place(), "overlaps this one"));
        }
        if furthest.is_none_or(|(other, _)| subnet.broadcast() > other.broadcast()) {
            furthest = Some((subnet, name));
        }
    }
}
