//! Subnets of networks and addresses of containers: the lowest that are free.

use super::actual::{Actual, Observed};
use runtime::container::config::Endpoint;
use spec::desired::Attachment;
use spec::value::{ContainerId, Name, Subnet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The network of containers that name none.
pub(super) const DEFAULT_NETWORK: &str = "default";

/// Where subnets come from, in order. 172.17.0.0/16 is kept for `default`, where Docker's users look for it.
fn pool(is_default: bool) -> impl Iterator<Item = Subnet> {
    let wide = (if is_default { 17 } else { 18 }..=31u8).filter_map(|second| Subnet::new(Ipv4Addr::new(172, second, 0, 0), 16));
    let ten = (0..=255u8).flat_map(|second| (0..=255u8).filter_map(move |third| Subnet::new(Ipv4Addr::new(10, second, third, 0), 24)));
    let home = (0..=255u8).filter_map(|third| Subnet::new(Ipv4Addr::new(192, 168, third, 0), 24));
    wide.chain(ten).chain(home)
}

/// Subnets that are taken, by whom, and those still to be had.
pub(super) struct Subnets {
    taken: BTreeMap<Subnet, String>,
    /// The pool as far as it has not been refused: what is taken stays taken while a plan is made.
    rest: Box<dyn Iterator<Item = Subnet>>,
}

impl Subnets {
    /// All that the host has: our networks, and what links and routes of others use.
    pub(super) fn new(actual: &Actual) -> Self {
        let mut taken: BTreeMap<Subnet, String> =
            actual.foreign_subnets.iter().map(|subnet| (*subnet, "a link or route of the host".to_owned())).collect();
        for (name, network) in &actual.networks {
            if let Observed::Present(network) = network {
                taken.insert(network.subnet, format!("network/{name}"));
            }
        }
        Self { taken, rest: Box::new(pool(false)) }
    }

    /// Takes this one. Errors: who has it, or a part of it.
    pub(super) fn take(&mut self, subnet: Subnet, name: &Name) -> Result<(), String> {
        match self.holder(subnet) {
            Some((other, holder)) => Err(format!("subnet {subnet} overlaps {other} of {holder}: choose another")),
            None => {
                self.taken.insert(subnet, format!("network/{name}"));
                Ok(())
            }
        }
    }

    /// Gives one back: its network is made anew.
    pub(super) fn release(&mut self, subnet: Subnet) {
        self.taken.remove(&subnet);
    }

    /// Takes the first free one that contains all of these addresses; if none does and they are a mere wish, the first free one.
    pub(super) fn choose(&mut self, name: &Name, within: &[Ipv4Addr]) -> Option<Subnet> {
        let is_default = name.as_str() == DEFAULT_NETWORK;
        let is_free = |subnet: &Subnet, taken: &BTreeMap<Subnet, String>| taken.keys().all(|other| !subnet.overlaps(*other));
        let chosen = if is_default || !within.is_empty() {
            pool(is_default).find(|subnet| within.iter().all(|address| subnet.contains(*address)) && is_free(subnet, &self.taken))
        } else {
            None
        };
        let chosen = chosen.or_else(|| self.rest.by_ref().find(|subnet| is_free(subnet, &self.taken)))?;
        self.taken.insert(chosen, format!("network/{name}"));
        Some(chosen)
    }

    fn holder(&self, subnet: Subnet) -> Option<(Subnet, &str)> {
        self.taken.iter().find(|(other, _)| subnet.overlaps(**other)).map(|(other, holder)| (*other, holder.as_str()))
    }
}

/// Who has which address of which network, and which are promised by a manifest.
#[derive(Clone, Default)]
pub(super) struct Addresses {
    networks: BTreeMap<Name, Taken>,
}

#[derive(Clone, Default)]
struct Taken {
    held: BTreeMap<Ipv4Addr, ContainerId>,
    promised: BTreeSet<Ipv4Addr>,
    /// Every address up to this one is known not to be free.
    searched: Option<Ipv4Addr>,
}

/// Where an address may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) subnet: Subnet,
    pub(super) gateway: Ipv4Addr,
}

impl Range {
    /// Whether a container may have this address.
    pub(super) fn admits(self, address: Ipv4Addr) -> bool {
        let edges = [self.subnet.network(), self.subnet.broadcast(), self.gateway];
        self.subnet.contains(address) && !edges.contains(&address)
    }
}

impl Addresses {
    /// Remembers that this container has this address; every incarnation and every owner counts.
    pub(super) fn hold(&mut self, endpoint: &Endpoint, id: &ContainerId) {
        self.networks.entry(endpoint.network.clone()).or_default().held.insert(endpoint.address, id.clone());
    }

    /// Remembers an address a manifest names: it is given to nobody else.
    pub(super) fn promise(&mut self, network: &Name, address: Ipv4Addr) {
        self.networks.entry(network.clone()).or_default().promised.insert(address);
    }

    /// Forgets who is on a network: it is made anew and all of them go.
    pub(super) fn clear(&mut self, network: &Name) {
        if let Some(taken) = self.networks.get_mut(network) {
            taken.held.clear();
            taken.searched = None;
        }
    }

    /// Who has this address.
    pub(super) fn holder(&self, network: &Name, address: Ipv4Addr) -> Option<&ContainerId> {
        self.networks.get(network)?.held.get(&address)
    }

    /// The address of a new endpoint: the one the manifest names, else the lowest that is free.
    /// Errors: why there is none. `yields` tells whether a present holder gives the address up in time.
    pub(super) fn assign(
        &mut self,
        network: &Name,
        attachment: &Attachment,
        range: Range,
        id: &ContainerId,
        yields: impl Fn(&ContainerId) -> bool,
    ) -> Result<Endpoint, String> {
        let taken = self.networks.entry(network.clone()).or_default();
        let address = match attachment.address {
            Some(address) if !range.admits(address) => {
                return Err(format!("address {address} cannot be had on network/{network}, which is {}", range.subnet));
            }
            Some(address) => match taken.held.get(&address) {
                Some(holder) if !yields(holder) => {
                    return Err(format!("address {address} on network/{network} belongs to container/{}: choose another", holder.name));
                }
                Some(_) | None => address,
            },
            None => taken.lowest_free(range).ok_or_else(|| format!("network/{network} has no free address left in {}", range.subnet))?,
        };
        let endpoint = Endpoint { network: network.clone(), address, aliases: attachment.aliases.clone() };
        taken.held.insert(address, id.clone());
        Ok(endpoint)
    }
}

impl Taken {
    fn lowest_free(&mut self, range: Range) -> Option<Ipv4Addr> {
        let first = self.searched.map_or(u32::from(range.subnet.first_host()), |address| u32::from(address) + 1);
        let mut hosts = (first..u32::from(range.subnet.broadcast())).map(Ipv4Addr::from);
        let found = hosts.find(|address| range.admits(*address) && !self.held.contains_key(address) && !self.promised.contains(address))?;
        self.searched = Some(found);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn subnets(foreign: &[&str]) -> Subnets {
        let foreign_subnets = foreign.iter().map(|subnet| subnet.parse().unwrap()).collect();
        Subnets::new(&Actual { foreign_subnets, ..Actual::default() })
    }

    #[test]
    fn wide_subnets_come_first_then_small_ones() {
        let mut subnets = subnets(&["172.16.0.0/12", "10.0.0.0/16"]);
        assert_eq!(subnets.choose(&name("a"), &[]).unwrap().to_string(), "10.1.0.0/24");
        assert_eq!(subnets.choose(&name("b"), &[]).unwrap().to_string(), "10.1.1.0/24");
    }

    #[test]
    fn the_last_resort_is_192_168_and_then_there_is_none() {
        let mut some = subnets(&["172.16.0.0/12", "10.0.0.0/8"]);
        assert_eq!(some.choose(&name("a"), &[]).unwrap().to_string(), "192.168.0.0/24");
        let mut none = subnets(&["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"]);
        assert_eq!(none.choose(&name("a"), &[]), None);
        assert_eq!(none.choose(&name("default"), &[]), None);
    }

    #[test]
    fn only_default_gets_172_17() {
        let mut subnets = subnets(&[]);
        assert_eq!(subnets.choose(&name("a"), &[]).unwrap().to_string(), "172.18.0.0/16");
        assert_eq!(subnets.choose(&name("default"), &[]).unwrap().to_string(), "172.17.0.0/16");
    }

    #[test]
    fn a_smaller_subnet_within_a_taken_one_is_taken() {
        let mut subnets = subnets(&["192.168.1.0/24"]);
        assert!(subnets.take("192.168.1.128/25".parse().unwrap(), &name("a")).is_err());
        assert!(subnets.take("192.168.2.0/24".parse().unwrap(), &name("a")).is_ok());
        let why = subnets.take("192.168.0.0/16".parse().unwrap(), &name("b")).unwrap_err();
        assert_eq!(why, "subnet 192.168.0.0/16 overlaps 192.168.1.0/24 of a link or route of the host: choose another");
    }

    #[test]
    fn the_edges_of_a_subnet_and_its_gateway_are_no_addresses() {
        let range = Range { subnet: "10.0.0.0/29".parse().unwrap(), gateway: [10, 0, 0, 3].into() };
        let admitted: Vec<u8> = (0..=8).filter(|last| range.admits([10, 0, 0, *last].into())).collect();
        assert_eq!(admitted, [1, 2, 4, 5, 6]);
    }
}
