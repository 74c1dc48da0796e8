//! What of the kernel's network features is missing: tried for real, in a network namespace that ends with the question.

use super::conntrack::{self, Flows};
use super::error::NetworkError;
use super::link::{self, Pair};
use super::netlink::{Family, Socket};
use super::{firewall, namespace};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// What networks need of the kernel; each may be a module that is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Network namespaces and rtnetlink.
    Links,
    /// `CONFIG_BRIDGE`, module `bridge`.
    Bridge,
    /// `CONFIG_VETH`, module `veth`.
    Veth,
    /// `CONFIG_NF_TABLES` with NAT, masquerade and fib: modules `nf_tables`, `nft_nat`, `nft_masq`, `nft_fib_ipv4`, `nft_ct`.
    Nftables,
    /// `CONFIG_NF_CT_NETLINK`, module `nf_conntrack_netlink`.
    Conntrack,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Links => "network namespaces",
            Self::Bridge => "bridges (module bridge)",
            Self::Veth => "veth links (module veth)",
            Self::Nftables => "nftables with NAT (modules nf_tables, nft_nat, nft_masq, nft_fib_ipv4, nft_ct)",
            Self::Conntrack => "connection tracking over netlink (module nf_conntrack_netlink)",
        })
    }
}

/// The features that do not work, each with the kernel's answer. Needs root; takes some ten milliseconds.
pub fn missing_features() -> Vec<(Feature, NetworkError)> {
    let failed = |action, source| NetworkError::Namespace { action, id: "a probe".to_owned(), source };
    let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        if let Err(source) = namespace::unshare_network() {
            return vec![(Feature::Links, failed("make", source))];
        }
        let tried = [
            (Feature::Bridge, try_bridge()),
            (Feature::Veth, try_veth()),
            (Feature::Nftables, firewall::try_layout()),
            (Feature::Conntrack, try_conntrack()),
        ];
        tried.into_iter().filter_map(|(feature, result)| Some((feature, result.err()?))).collect()
    });
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(missing)) => missing,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(source) => vec![(Feature::Links, failed("start a thread for", source))],
    }
}

fn try_bridge() -> Result<(), NetworkError> {
    let failed = || NetworkError::netlink("create a bridge", Feature::Bridge);
    Socket::open(Family::Route)
        .and_then(|mut socket| socket.transact(&[link::create_bridge("probe", [2, 0, 0, 0, 0, 1])]))
        .map_err(failed())
}

fn try_veth() -> Result<(), NetworkError> {
    let path = Path::new("/proc/thread-self/ns/net");
    let here = File::open(path).map_err(NetworkError::file("open", path))?;
    // Bridge 0 is none: a link without one.
    let pair = Pair { name: "probe0", bridge: 0, namespace: here.as_fd(), peer: "probe1", peer_hardware: [2, 0, 0, 0, 0, 2] };
    let failed = || NetworkError::netlink("create a veth pair", Feature::Veth);
    Socket::open(Family::Route).and_then(|mut socket| socket.transact(&[link::create_pair(&pair)])).map_err(failed())
}

fn try_conntrack() -> Result<(), NetworkError> {
    conntrack::forget(&BTreeSet::from([Flows::To { address: None, port: 9 }]))
}
