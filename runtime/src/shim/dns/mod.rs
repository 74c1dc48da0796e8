//! The container's name server: answers for the names on its networks, forwards the rest from the host's namespace.
//!
//! It listens inside the container's network namespace at [`ADDRESS`]; the network room leads 127.0.0.11:53 there, so that a
//! container may use port 53 itself. Nothing here trusts a packet, from either side.
//!
//! ```text
//!  query ──► known name ─────────────► answer
//!        ├─► single label, unknown ──► NXDOMAIN (never leaves the host)
//!        ├─► all networks internal ──► NXDOMAIN
//!        └─► else ──► a nameserver of the host's resolv.conf, as it is ──► its answer, as it is
//! ```

pub mod answer;
pub mod forward;
pub mod namespace;
pub mod records;
pub mod responder;
pub mod tcp;
pub mod upstream;

pub use crate::network::RESOLVER as ADDRESS;

/// Where the host keeps its nameservers, resolv.conf(5).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Longest query taken: one question with EDNS options; RFC 1035 allows 255 bytes of name.
pub const QUERY_BYTES_MAX: usize = 1232;
