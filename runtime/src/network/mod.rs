//! Networks of containers: bridges, links, addresses, published ports, and the names containers know each other by.
//!
//! ```text
//!  host namespace                                        namespace of web@1, pinned at <run>/containers/web@1/netns
//!  ┌──────────────────────────────────────────────┐      ┌────────────────────────────────────────┐
//!  │ ha-shop  bridge 172.18.0.1/16 ── hv-1a2b3c… ─┼──────┼─ eth0 172.18.0.2/16  default → gateway │
//!  │ table ip host-agent: ports, masquerade,      │      │ table ip host-agent:                   │
//!  │                      isolation               │      │   127.0.0.11:53 → :10053 (the shim)    │
//!  └──────────────────────────────────────────────┘      └────────────────────────────────────────┘
//! ```
//!
//! Everything is level-triggered: each call makes the host look as told, whatever it found. What is ours is told by a mark: the
//! alias of a link, the name of the nftables table. Nothing else is ever changed, except that the first network with a way out
//! sets `net.ipv4.ip_forward` to 1 and that it stays so, because nobody can know who else has come to rely on it.
//!
//! Build steps have networks of another kind, which the kernel itself takes away: [`Sandboxes`].
//!
//! Limits of what a table of ours can do: a `drop` in another table (such as a FORWARD policy of Docker or a host firewall)
//! is final, and an `accept` of ours cannot lift it.

mod attributes;
mod bridge;
mod change;
mod connect;
mod conntrack;
mod error;
mod firewall;
pub mod ipam;
mod link;
mod links;
mod names;
mod namespace;
mod naming;
mod netlink;
mod nftables;
mod probe;
mod record;
mod sandbox;
mod sysctl;
#[cfg(test)]
mod tests;
mod traffic;

pub use bridge::{ensure_network, remove_network};
pub use change::ChangeWatch;
pub use connect::{connect, disconnect};
pub use error::NetworkError;
pub use firewall::{FirewallState, rebuild_firewall, remove_firewall};
pub use links::Links;
pub use names::{DnsRecords, write_names};
pub use naming::bridge_name;
pub use netlink::NetlinkError;
pub use probe::{Feature, missing_features};
pub use record::{NetworkRecord, list_networks, read_network};
pub use sandbox::{InUse, Sandboxes};
pub use traffic::{Serving, Traffic, TrafficChange, set_traffic};

/// Where the DNS responder of a container's shim listens, in the container's namespace, on UDP and TCP.
pub const RESOLVER: std::net::SocketAddrV4 = std::net::SocketAddrV4::new(RESOLVER_ADDRESS, 10053);
/// The name server in a container's `resolv.conf`; its port 53 leads to [`RESOLVER`].
pub const RESOLVER_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);
