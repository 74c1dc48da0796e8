//! What can go wrong with networks.

use super::netlink::NetlinkError;
use super::probe::Feature;
use spec::value::{ContainerId, Name, PortMapping, Subnet};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Why a network operation did not work. Nothing half-made stays behind that the next call of the same would not mend.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused something over netlink.
    #[error("{action}")]
    Netlink {
        /// What was tried on what: `create bridge ha-shop`.
        action: String,
        /// Why it did not work.
        #[source]
        source: NetlinkError,
    },
    /// The kernel cannot do it at all.
    #[error("{action}: the kernel lacks {feature}")]
    Unsupported {
        /// What was tried on what.
        action: String,
        /// What is missing.
        feature: Feature,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// A link has the name of one of ours and is not ours.
    #[error("link {link} exists and is not ours: remove or rename it")]
    ForeignLink {
        /// Its name.
        link: String,
    },
    /// A container is to be on a network that has no record.
    #[error("network {network} does not exist")]
    NoNetwork {
        /// Its name.
        network: Name,
    },
    /// A container is to be on a network whose bridge is gone, or not ours; the network must be mended first.
    #[error("bridge {bridge} of network {network} is gone")]
    NoBridge {
        /// The network.
        network: Name,
        /// The name of its bridge.
        bridge: String,
    },
    /// An endpoint cannot be on its network.
    #[error("address {address} is not a free host address of network {network}, subnet {subnet}")]
    Address {
        /// The address.
        address: Ipv4Addr,
        /// The network.
        network: Name,
        /// Its subnet.
        subnet: Subnet,
    },
    /// No subnet or link is left for a build step.
    #[error("no subnet is left for the network of a build step")]
    NoBlock,
    /// Two containers are to serve one port of the host.
    #[error("port {port} is published by {first} and by {second}")]
    PortConflict {
        /// The port.
        port: PortMapping,
        /// One of them.
        first: ContainerId,
        /// The other.
        second: ContainerId,
    },
    /// A file could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A network's record is not one.
    #[error("read the network record {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A namespace could not be made or entered.
    #[error("{action} the network namespace of {id}")]
    Namespace {
        /// What was tried.
        action: &'static str,
        /// The container.
        id: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl NetworkError {
    /// Names what was tried, and the feature it needs, to be blamed if the kernel does not know it.
    pub(super) fn netlink(action: impl Into<String>, feature: Feature) -> impl FnOnce(NetlinkError) -> Self {
        let action = action.into();
        move |source| match source.refusal() {
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => Self::Unsupported { action, feature, source },
            _ => Self::Netlink { action, source },
        }
    }

    pub(super) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
