//! Published ports: sorted, and each host port given once.

use super::Resolver;
use super::index::Index;
use crate::desired::{Desired, Kind};
use crate::diagnostic::Problems;
use crate::manifest::{Container, PortEntry, Spec, TextOrMap};
use crate::parse::{Document, Spot};
use crate::value::{Name, PortMapping, PortRange, Protocol};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Most ports a container may publish: each is an element of a kernel map, and a range is quickly mistyped.
const PORTS_MAX: usize = 4_096;

impl Resolver<'_> {
    /// Sorted, without duplicates.
    pub(super) fn ports(&mut self, document: &Document, container: &Container) -> Vec<PortMapping> {
        let mut ports = Vec::new();
        let spot = document.spec().key("ports");
        for (entry, at) in container.ports.iter().flatten().zip(spot.items()) {
            match entry {
                TextOrMap::Short(range) => ports.extend(range.mappings().map(normal)),
                TextOrMap::Long(long) => {
                    for (field, port) in [("hostPort", long.host_port), ("containerPort", long.container_port)] {
                        if port == 0 {
                            self.report(at.key(field).error("port 0 cannot be published"));
                        }
                    }
                    ports.push(normal(PortMapping {
                        host_address: long.host_address.map(|address| address.0),
                        host_port: long.host_port,
                        container_port: long.container_port,
                        protocol: long.protocol.unwrap_or_default(),
                    }));
                }
            }
            if ports.len() > PORTS_MAX {
                self.report(at.error(format!("more than {PORTS_MAX} ports are published")));
                return Vec::new();
            }
        }
        ports.sort();
        ports.dedup();
        ports
    }
}

/// `0.0.0.0` is every address, as is no address at all.
fn normal(port: PortMapping) -> PortMapping {
    PortMapping { host_address: port.host_address.filter(|address| !address.is_unspecified()), ..port }
}

/// The address a host port is taken on, every one if `None`, and by whom.
type Holder<'a> = (Option<Ipv4Addr>, &'a Name);

/// Reports host ports that are given more than once: the same protocol and number, on the same address or with every
/// address on either side.
pub(super) fn check_conflicts(index: &Index<'_>, desired: &Desired, problems: &mut Problems) {
    let mut holders: BTreeMap<(Protocol, u16), Vec<Holder<'_>>> = BTreeMap::new();
    for (name, container) in &desired.containers {
        let mut reported = None;
        for port in &container.ports {
            let holders = holders.entry((port.protocol, port.host_port)).or_default();
            let clash = |address: Option<Ipv4Addr>| address.is_none() || port.host_address.is_none() || address == port.host_address;
            let holder = holders.iter().find(|(address, _)| clash(*address)).map(|(_, holder)| *holder);
            // Of two clashing ranges the first port says it all.
            if let Some(holder) = holder.filter(|holder| reported != Some(*holder)) {
                reported = Some(holder);
                conflict(index, name, holder, port, problems);
            }
            holders.push((port.host_address, name));
        }
    }
}

fn conflict(index: &Index<'_>, name: &Name, holder: &Name, port: &PortMapping, problems: &mut Problems) {
    let (Some(this), Some(that)) = (index.find(Kind::Container, name), index.find(Kind::Container, holder)) else { return };
    let number = format!("{}/{}", port.host_port, port.protocol);
    if name == holder {
        let message = format!("container {name} publishes port {number} twice");
        return problems.push(spot(this, port, Pick::Last).error(message).related(spot(this, port, Pick::First).place(), "published here"));
    }
    let problem = spot(this, port, Pick::First).error(format!("port {number} of the host is published by container {holder} already"));
    problems.push(problem.related(spot(that, port, Pick::First).place(), "published here"));
}

/// Which of several entries with one host port.
#[derive(Clone, Copy)]
enum Pick {
    First,
    Last,
}

/// The entry of a container that publishes this host port.
fn spot<'a>(document: &'a Document, port: &PortMapping, pick: Pick) -> Spot<'a> {
    let ports = document.spec().key("ports");
    let Some(Spec::Container(container)) = document.manifest.as_ref().map(|manifest| &manifest.spec) else { return ports };
    let publishes = |entry: &TextOrMap<PortRange, PortEntry>| match entry {
        TextOrMap::Short(range) => range.mappings().any(|other| (other.host_port, other.protocol) == (port.host_port, port.protocol)),
        TextOrMap::Long(long) => (long.host_port, long.protocol.unwrap_or_default()) == (port.host_port, port.protocol),
    };
    let entries = container.ports.as_deref().unwrap_or_default();
    let found = match pick {
        Pick::First => entries.iter().position(publishes),
        Pick::Last => entries.iter().rposition(publishes),
    };
    found.map_or(ports, |index| ports.item(index))
}
