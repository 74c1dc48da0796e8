//! Published ports as written.

use super::Address;
use crate::value::{PortMapping, Protocol, ValueError};
use schemars::JsonSchema;
use serde::Deserialize;

/// The short form, `[address:]host:container[/protocol]`; a range stands for many ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortPorts(pub Vec<PortMapping>);

impl std::str::FromStr for ShortPorts {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        PortMapping::parse_list(text).map(Self)
    }
}

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
