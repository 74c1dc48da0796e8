//! Proxies, as Go's programs take them from the environment, Docker and podman among them. Pure.
//!
//! `HTTPS_PROXY` is for https, `HTTP_PROXY` for http, in capitals or not; `NO_PROXY` lists what is reached directly: addresses,
//! networks (`10.0.0.0/8`), names with all that is below them (`example.com`), only what is below (`.example.com`), each with a
//! port if it is for that one alone, `*` for everything. This host itself is never reached through a proxy.

use super::settings::is_loopback;
use std::fmt;
use std::net::IpAddr;

/// What connections go through.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<ureq::Proxy>,
    http: Option<ureq::Proxy>,
    direct: Vec<Direct>,
}

/// A variable that names no proxy. What it says is not shown: it may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the address of a proxy: write http://[user:password@]host:port, or https:// or socks5://")]
pub struct ProxyError(pub &'static str);

/// What is reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Direct {
    what: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// `example.com`: it and what is below it.
    Name(String),
    /// `.example.com`: what is below it.
    Below(String),
    Network(IpAddr, u32),
}

impl Proxies {
    /// From the values of the three variables.
    pub fn new(https: Option<&str>, http: Option<&str>, direct: Option<&str>) -> Result<Self, ProxyError> {
        let proxy = |name, address: Option<&str>| {
            address.filter(|it| !it.is_empty()).map(|it| ureq::Proxy::new(it).map_err(|_| ProxyError(name))).transpose()
        };
        let direct = direct.into_iter().flat_map(|list| list.split([',', ' '])).filter_map(Direct::parse).collect();
        Ok(Self { https: proxy("HTTPS_PROXY", https)?, http: proxy("HTTP_PROXY", http)?, direct })
    }

    /// What a connection to `host[:port]` goes through.
    pub(super) fn find(&self, scheme: &str, authority: &str) -> Option<ureq::Proxy> {
        let (proxy, usual) = if scheme == "https" { (&self.https, 443) } else { (&self.http, 80) };
        let (host, port) = split(authority);
        let is_direct = is_loopback(authority) || self.direct.iter().any(|it| it.covers(&host, port.unwrap_or(usual)));
        proxy.clone().filter(|_| !is_direct)
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<ureq::Proxy>| proxy.as_ref().map(|proxy| proxy.host().to_owned());
        f.debug_struct("Proxies").field("https", &shown(&self.https)).field("http", &shown(&self.http)).finish_non_exhaustive()
    }
}

impl Direct {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self { what: Hosts::All, port: None });
        }
        if let Some((address, bits)) = text.split_once('/') {
            return Some(Self { what: Hosts::Network(address.parse().ok()?, bits.parse().ok()?), port: None });
        }
        let (host, port) = match text.parse::<IpAddr>() {
            Ok(_) => (text, None), // an IPv6 address without brackets is all colons
            Err(_) => split(&text),
        };
        let what = match (host.parse::<IpAddr>(), host.trim_start_matches('*').strip_prefix('.')) {
            (Ok(address), _) => Hosts::Network(address, if address.is_ipv4() { 32 } else { 128 }),
            (Err(_), Some(below)) => Hosts::Below(below.to_owned()),
            (Err(_), None) => Hosts::Name(Some(host).filter(|host| !host.is_empty())?),
        };
        Some(Self { what, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let is_below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        let is_meant = match &self.what {
            Hosts::All => true,
            Hosts::Name(name) => host == name || is_below(name),
            Hosts::Below(name) => is_below(name),
            Hosts::Network(network, bits) => host.parse().is_ok_and(|address| is_within(address, *network, *bits)),
        };
        is_meant && self.port.is_none_or(|own| own == port)
    }
}

/// Host, without brackets and in lower case, and port.
fn split(authority: &str) -> (String, Option<u16>) {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    (host.to_ascii_lowercase(), port.and_then(|port| port.parse().ok()))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |one: u128, other: u128, width: u32| bits <= width && (one ^ other).checked_shr(width - bits).unwrap_or_default() == 0;
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => same(u32::from(one).into(), u32::from(other).into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.into(), other.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_directly() {
        let list = "plain.test, .below.test,*.star.test:8443,10.0.0.0/8,192.168.0.7,[fd00::7]:5000,fe80::/10,bad/net";
        let proxies = Proxies::new(Some("http://proxy.test:3128"), Some("proxy.test:3129"), Some(list)).unwrap();
        let cases = [
            ("other.test", true),
            ("plain.test", false),
            ("a.plain.test:5000", false),
            ("explain.test", true),
            ("below.test", true),
            ("a.below.test", false),
            ("a.star.test:8443", false),
            ("a.star.test", true),
            ("10.1.2.3:5000", false),
            ("11.1.2.3", true),
            ("192.168.0.7", false),
            ("192.168.0.8", true),
            ("[fd00::7]:5000", false),
            ("[fd00::7]:5001", true),
            ("[fe80::1]", false),
            ("127.0.0.1:5000", false),
            ("localhost", false),
        ];
        for (host, expected) in cases {
            assert_eq!(proxies.find("https", host).is_some(), expected, "{host}");
        }
        assert_eq!(proxies.find("http", "other.test").unwrap().port(), 3129);
        assert!(Proxies::new(Some("http://p"), None, Some("*")).unwrap().find("https", "a").is_none());
        assert!(Proxies::new(Some(""), None, None).unwrap().find("https", "a").is_none());
    }

    #[test]
    fn a_password_in_a_proxy_is_not_shown() {
        let proxies = Proxies::new(Some("http://me:s3cret@proxy.test"), None, None).unwrap();
        assert!(!format!("{proxies:?}").contains("s3cret"));
        assert_eq!(Proxies::new(Some("ftp://me:s3cret@x"), None, None).unwrap_err().to_string().find("s3cret"), None);
    }
}
