//! Published ports as written. The short form is a [`crate::value::PortRange`].

use super::Address;
use crate::value::Protocol;
use schemars::JsonSchema;
use serde::Deserialize;

/// The long form of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Port")]
pub struct PortEntry {
    /// Address of the host to listen on; every address unless said.
    pub host_address: Option<Address>,
    /// Port of the host.
    #[schemars(range(min = 1))]
    pub host_port: u16,
    /// Port in the container.
    #[schemars(range(min = 1))]
    pub container_port: u16,
    /// `tcp` (the default) or `udp`.
    pub protocol: Option<Protocol>,
}
