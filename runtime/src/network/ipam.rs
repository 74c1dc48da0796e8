//! Choosing subnets and addresses. Pure: no I/O; the same question has the same answer.

use spec::value::Subnet;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// A range of addresses cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// First address of the first subnet.
    pub first: Ipv4Addr,
    /// Subnets in it.
    pub count: u32,
    /// Prefix length of each.
    pub prefix: u8,
}

/// The pools of Docker, in its order: 172.17 to 172.31 as /16, then 192.168 as /20.
pub const POOLS: [Pool; 2] = [
    Pool { first: Ipv4Addr::new(172, 17, 0, 0), count: 15, prefix: 16 },
    Pool { first: Ipv4Addr::new(192, 168, 0, 0), count: 16, prefix: 20 },
];

impl Pool {
    /// Its subnets, in order.
    pub fn subnets(self) -> impl Iterator<Item = Subnet> {
        let size = 1u32 << (32 - u32::from(self.prefix.clamp(1, 32)));
        (0..self.count)
            .filter_map(move |index| Subnet::new(Ipv4Addr::from(u32::from(self.first).checked_add(index.checked_mul(size)?)?), self.prefix))
    }
}

/// The first subnet of the pools that overlaps none of those in use; `None` if there is none.
pub fn free_subnet(pools: &[Pool], used: &BTreeSet<Subnet>) -> Option<Subnet> {
    pools.iter().flat_map(|pool| pool.subnets()).find(|subnet| !used.iter().any(|other| other.overlaps(*subnet)))
}

/// The lowest host address of the subnet that is neither in use nor the gateway; `None` if there is none.
pub fn free_address(subnet: Subnet, gateway: Ipv4Addr, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    subnet.hosts().find(|address| *address != gateway && !used.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(texts: &[&str]) -> BTreeSet<Subnet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_free_subnet_is_chosen() {
        assert_eq!(free_subnet(&POOLS, &subnets(&[])).unwrap().to_string(), "172.17.0.0/16");
        assert_eq!(free_subnet(&POOLS, &subnets(&["172.17.5.0/24"])).unwrap().to_string(), "172.18.0.0/16");
        assert_eq!(free_subnet(&POOLS, &subnets(&["172.16.0.0/12"])).unwrap().to_string(), "192.168.0.0/20");
        assert_eq!(free_subnet(&POOLS, &subnets(&["172.16.0.0/12", "192.168.0.0/17"])).unwrap().to_string(), "192.168.128.0/20");
        assert_eq!(free_subnet(&POOLS, &subnets(&["172.16.0.0/12", "192.168.0.0/16"])), None);
    }

    #[test]
    fn the_lowest_free_address_is_chosen() {
        let subnet: Subnet = "10.0.0.0/29".parse().unwrap();
        let gateway = subnet.first_host();
        let mut used = BTreeSet::new();
        let mut given = Vec::new();
        while let Some(address) = free_address(subnet, gateway, &used) {
            used.insert(address);
            given.push(address.to_string());
        }
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        used.remove(&"10.0.0.4".parse().unwrap());
        assert_eq!(free_address(subnet, gateway, &used).unwrap().to_string(), "10.0.0.4");
    }

    #[test]
    fn a_gateway_in_the_middle_is_left_out() {
        let subnet: Subnet = "10.0.0.0/29".parse().unwrap();
        assert_eq!(free_address(subnet, "10.0.0.1".parse().unwrap(), &BTreeSet::new()).unwrap().to_string(), "10.0.0.2");
        assert_eq!(free_address(subnet, "10.0.0.2".parse().unwrap(), &BTreeSet::new()).unwrap().to_string(), "10.0.0.1");
    }
}
