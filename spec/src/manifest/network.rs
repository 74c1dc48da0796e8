//! `kind: Network`: a bridge that containers share.

use super::{Address, Pairs};
use crate::value::Subnet;
use schemars::JsonSchema;
use serde::Deserialize;

/// A network. Containers on it find each other by name; containers on different networks do not reach each other.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Network")]
pub struct Network {
    /// Whether it is made by others, and used as it is: nothing else is said of it then, and it is never changed or removed.
    pub external: Option<bool>,
    /// How it is made; a bridge is the only way.
    pub driver: Option<Driver>,
    /// Its subnet in CIDR form, `10.20.0.0/24`; a free one is chosen unless said.
    pub subnet: Option<Subnet>,
    /// The bridge's own address; the subnet's first host unless said.
    pub gateway: Option<Address>,
    /// Whether it has no way out of the host.
    pub internal: Option<bool>,
    /// Labels: a map, or a list of KEY=value. Another place for `metadata.labels`.
    pub labels: Option<Pairs>,
}

/// How a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Driver {
    /// A Linux bridge on this host.
    Bridge,
}
