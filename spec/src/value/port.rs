//! Published ports.

use super::{ValueError, digits, serde_as_text};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(ValueError::with_hint(format!("{text:?} is not a protocol"), "use tcp or udp")),
        }
    }
}

/// One port of the host that leads to one port of a container: `[address:]host:container[/protocol]`.
///
/// Ranges (`8000-8010:80-90`) are a [`PortRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMapping {
    /// Address of the host to listen on; every address if `None`.
    pub host_address: Option<Ipv4Addr>,
    /// Port of the host, never 0.
    pub host_port: u16,
    /// Port in the container, never 0.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// Ports in a row that lead to as many in a row: `[address:]first-last:first-last[/protocol]`, one pair being the shortest row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first pair.
    pub first: PortMapping,
    /// How many pairs there are, at least one.
    pub count: u16,
}

impl PortRange {
    /// Every pair, in order.
    pub fn mappings(self) -> impl Iterator<Item = PortMapping> {
        let PortMapping { host_port, container_port, .. } = self.first;
        (0..self.count).map(move |offset| PortMapping {
            host_port: host_port + offset,
            container_port: container_port + offset,
            ..self.first
        })
    }
}

impl FromStr for PortRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let hint = "write host:container, such as 8080:80, 127.0.0.1:8080:80 or 53:53/udp";
        let not_a_port = || ValueError::with_hint(format!("{text:?} is not a published port"), hint);
        let (ports, protocol) = text.split_once('/').map_or((text, Ok(Protocol::Tcp)), |(ports, protocol)| (ports, protocol.parse()));
        let protocol = protocol?;
        let mut parts = ports.rsplitn(3, ':');
        let container = parse_range(parts.next().ok_or_else(not_a_port)?, hint)?;
        let host = parse_range(parts.next().ok_or_else(not_a_port)?, hint)?;
        let host_address = match parts.next() {
            None => None,
            Some(address) => Some(address.parse().map_err(|_| ValueError::with_hint(format!("{address:?} is not an IPv4 address"), hint))?),
        };
        if host.1 - host.0 != container.1 - container.0 {
            return Err(ValueError::new(format!(
                "{text:?} maps a range of {} ports to one of {}",
                host.1 - host.0 + 1,
                container.1 - container.0 + 1
            )));
        }
        let first = PortMapping { host_address, host_port: host.0, container_port: container.0, protocol };
        Ok(Self { first, count: host.1 - host.0 + 1 })
    }
}

/// First and last port of `80` or `80-90`.
fn parse_range(text: &str, hint: &str) -> Result<(u16, u16), ValueError> {
    let port = |text: &str| match digits::<u16>(text) {
        Some(0) => Err(ValueError::new("port 0 cannot be published")),
        Some(port) => Ok(port),
        None => Err(ValueError::with_hint(format!("{text:?} is not a port number (1-65535)"), hint)),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(ValueError::new(format!("port range {text:?} runs backwards")));
    }
    Ok((first, last))
}

impl FromStr for PortMapping {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse()? {
            PortRange { first, count: 1 } => Ok(first),
            PortRange { .. } => Err(ValueError::new(format!("{text:?} is a range of ports where one is wanted"))),
        }
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.host_address.map(|address| format!("{address}:")).unwrap_or_default();
        f.pad(&format!("{address}{}:{}/{}", self.host_port, self.container_port, self.protocol))
    }
}

serde_as_text!(PortMapping);
