//! IPv4 subnets of networks.

use super::{ValueError, digits, serde_as_text};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network in CIDR form, host bits zero, prefix 8 to 29: room for a gateway, a broadcast address and containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// A subnet from its first address and prefix length; `None` if host bits are set or the prefix is out of range.
    pub fn new(network: Ipv4Addr, prefix: u8) -> Option<Self> {
        let subnet = Self { network, prefix };
        ((8..=29).contains(&prefix) && u32::from(network) & !subnet.mask() == 0).then_some(subnet)
    }

    /// The network address, host bits zero.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The broadcast address, host bits one.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !self.mask())
    }

    /// The first host address: the gateway unless the network names another.
    pub fn first_host(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    /// Whether the address lies in this subnet.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.network)
    }

    /// Whether any address lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Addresses a container may have: all but network and broadcast address, in order. The gateway is among them.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (u32::from(self.network) + 1..u32::from(self.broadcast())).map(Ipv4Addr::from)
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }
}

impl FromStr for Subnet {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let not_a_subnet =
            || ValueError::with_hint(format!("{text:?} is not an IPv4 subnet"), "write it in CIDR form, such as 10.20.0.0/24");
        let (address, prefix) = text.split_once('/').ok_or_else(not_a_subnet)?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().map_err(|_| not_a_subnet())?, digits(prefix).ok_or_else(not_a_subnet)?);
        if !(8..=29).contains(&prefix) {
            return Err(ValueError::new(format!("subnet {text} has prefix /{prefix}, only /8 to /29 leave room for containers")));
        }
        Self::new(address, prefix).ok_or_else(|| {
            let network = Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - u32::from(prefix))));
            ValueError::with_hint(format!("subnet {text} has host bits set"), format!("write {network}/{prefix}"))
        })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.network, self.prefix))
    }
}

serde_as_text!(Subnet);
