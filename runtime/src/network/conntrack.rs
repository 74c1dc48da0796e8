//! Forgetting UDP flows whose way has changed: found through ctnetlink with a filter in the kernel (Linux 5.8), then deleted one by
//! one, because deleting by filter came years later.

use super::attributes::{Attributes, find};
use super::error::NetworkError;
use super::netlink::{Family, NLM_F_ACK, Request, Socket};
use super::nftables::FAMILY_IP;
use super::probe::Feature;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const SUBSYSTEM_CONNTRACK: u16 = 1 << 8;
/// `struct nfgenmsg`.
const HEADER: [u8; 4] = [FAMILY_IP, 0, 0, 0];
const TUPLE_ORIGINAL: u16 = 1;
/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;

/// Which UDP flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flows {
    /// Those answered from this address and port.
    From {
        /// The container's address.
        address: Ipv4Addr,
        /// Its port.
        port: u16,
    },
    /// Those first sent to this port.
    To {
        /// At this address of the host, or any.
        address: Option<Ipv4Addr>,
        /// The host's port.
        port: u16,
    },
}

/// Forgets the flows: the next packet of each is looked at as if it were the first. One pass over the connection table each.
pub(super) fn forget(flows: &BTreeSet<Flows>) -> Result<(), NetworkError> {
    if flows.is_empty() {
        return Ok(());
    }
    let failed = || NetworkError::netlink("forget UDP flows of moved ports", Feature::Conntrack);
    let mut socket = Socket::open(Family::Netfilter).map_err(failed())?;
    for flows in flows {
        let found = socket.dump(&find_request(flows)).map_err(failed())?;
        let deletions: Vec<Request> = found.iter().filter_map(|answer| delete_request(answer.payload.get(4..)?)).collect();
        match socket.transact(&deletions) {
            // It ended by itself in between.
            Err(error) if error.refusal() == Some(libc::ENOENT) => {}
            other => other.map_err(failed())?,
        }
    }
    Ok(())
}

fn delete_request(attributes: &[u8]) -> Option<Request> {
    let payload = Attributes::after_header(&HEADER).bytes(TUPLE_ORIGINAL | NESTED, find(attributes, TUPLE_ORIGINAL)?).into_bytes();
    Some(Request { kind: SUBSYSTEM_CONNTRACK | 2, flags: NLM_F_ACK, payload })
}

fn find_request(flows: &Flows) -> Request {
    const TUPLE_REPLY: u16 = 2;
    const FILTER: u16 = 25;
    const FILTER_ORIGINAL: u16 = 1;
    const FILTER_REPLY: u16 = 2;
    // CTA_FILTER_F_* of the kernel's net/netfilter/nf_internals.h: which parts of the tuple count.
    const SOURCE: u32 = 1 << 0;
    const DESTINATION: u32 = 1 << 1;
    const PROTOCOL: u32 = 1 << 3;
    const SOURCE_PORT: u32 = 1 << 4;
    const DESTINATION_PORT: u32 = 1 << 5;

    let (tuple, original, reply, attributes) = match *flows {
        Flows::From { address, port } => (TUPLE_REPLY, 0, SOURCE | PROTOCOL | SOURCE_PORT, tuple(Some((1, address)), (2, port))),
        Flows::To { address, port } => {
            let destination = if address.is_some() { DESTINATION } else { 0 };
            (TUPLE_ORIGINAL, destination | PROTOCOL | DESTINATION_PORT, 0, tuple(address.map(|address| (2, address)), (3, port)))
        }
    };
    let flags = |bits: u32| bits.to_ne_bytes();
    let filter = Attributes::new().bytes(FILTER_ORIGINAL, &flags(original)).bytes(FILTER_REPLY, &flags(reply));
    let payload = Attributes::after_header(&HEADER).nested(tuple, &attributes).nested(FILTER, &filter).into_bytes();
    Request { kind: SUBSYSTEM_CONNTRACK | 1, flags: 0, payload }
}

/// `CTA_TUPLE_IP` with an address, `CTA_TUPLE_PROTO` with UDP and a port.
fn tuple(address: Option<(u16, Ipv4Addr)>, port: (u16, u16)) -> Attributes {
    const IP: u16 = 1;
    const PROTOCOL: u16 = 2;
    const PROTOCOL_NUMBER: u16 = 1;
    let protocol = Attributes::new().u8(PROTOCOL_NUMBER, libc::IPPROTO_UDP as u8).u16(port.0, port.1);
    let ip = address.map_or(Attributes::new(), |(kind, address)| Attributes::new().bytes(kind, &address.octets()));
    Attributes::new().nested(IP, &ip).nested(PROTOCOL, &protocol)
}
