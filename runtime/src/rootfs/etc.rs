//! The files of `/etc` that say who a container is and whom it asks: what stands in them. Pure but for [`write`].

use crate::container::config::{ContainerConfig, NetworkConfig};
use crate::network::RESOLVER_ADDRESS;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Longest host name, sethostname(2).
const HOSTNAME_BYTES_MAX: usize = 64;

/// One generated file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EtcFile {
    Hosts,
    Hostname,
    ResolvConf,
}

impl EtcFile {
    pub(super) const ALL: [Self; 3] = [Self::Hosts, Self::Hostname, Self::ResolvConf];

    /// Its name in the container's directory.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Hostname => "hostname",
            Self::ResolvConf => "resolv.conf",
        }
    }

    /// Where the container sees it.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Hosts => "/etc/hosts",
            Self::Hostname => "/etc/hostname",
            Self::ResolvConf => "/etc/resolv.conf",
        }
    }

    /// What stands in it where the host's own says `own`.
    fn content(self, config: &ContainerConfig, own: &[u8]) -> Vec<u8> {
        match (self, &config.network) {
            (Self::Hosts | Self::Hostname, NetworkConfig::Host) | (Self::ResolvConf, NetworkConfig::Host | NetworkConfig::None) => {
                own.to_vec()
            }
            (Self::Hostname, NetworkConfig::None | NetworkConfig::Bridged { .. }) => format!("{}\n", config.hostname).into_bytes(),
            (Self::Hosts, NetworkConfig::None | NetworkConfig::Bridged { .. }) => hosts(config).into_bytes(),
            (Self::ResolvConf, NetworkConfig::Bridged { endpoints, .. }) if endpoints.is_empty() => as_the_host_asks(own).into_bytes(),
            (Self::ResolvConf, NetworkConfig::Bridged { .. }) => format!("nameserver {RESOLVER_ADDRESS}\noptions ndots:0\n").into_bytes(),
        }
    }
}

/// Refuses a host name that would add lines to files or is longer than the kernel takes (CVE-2022-4318).
pub(crate) fn check_hostname(name: &str) -> io::Result<()> {
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if name.is_empty() || name.len() > HOSTNAME_BYTES_MAX || !is_plain {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a host name"));
    }
    Ok(())
}

/// Writes the three files into the container's directory, which is ours alone.
pub(super) fn write(directory: &Path, config: &ContainerConfig) -> Result<(), (EtcFile, io::Error)> {
    EtcFile::ALL.into_iter().try_for_each(|file| {
        // A host without the file gives the container an empty one.
        let own = std::fs::read(file.target()).unwrap_or_default();
        std::fs::write(directory.join(file.name()), file.content(config, &own)).map_err(|error| (file, error))
    })
}

/// Domains and options as on the host, and our resolver, which asks the host's: without names of its own a network has no other rules.
fn as_the_host_asks(own: &[u8]) -> String {
    let own = String::from_utf8_lossy(own);
    let kept = own.lines().filter(|line| matches!(line.split_ascii_whitespace().next(), Some("search" | "domain" | "options")));
    kept.fold(format!("nameserver {RESOLVER_ADDRESS}\n"), |text, line| format!("{text}{line}\n"))
}

fn hosts(config: &ContainerConfig) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    let mut name = config.hostname.clone();
    if let Some((short, _)) = config.hostname.split_once('.') {
        name = format!("{name} {short}");
    }
    let addresses: Vec<String> = match &config.network {
        NetworkConfig::Bridged { endpoints, .. } if !endpoints.is_empty() => {
            endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
        }
        // Programs look up their own name; without an address that is known it is the loopback's.
        NetworkConfig::Bridged { .. } | NetworkConfig::None => vec!["127.0.1.1".to_owned()],
        NetworkConfig::Host => Vec::new(),
    };
    for address in addresses {
        writeln!(text, "{address}\t{name}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::config::Endpoint;
    use spec::desired::LogLimits;

    fn config(network: NetworkConfig) -> ContainerConfig {
        let text = r#"{"id": "web@1", "image": "sha256:0000000000000000000000000000000000000000000000000000000000000000", "layers": [],
            "process": {"args": ["true"], "env": {}, "workingDir": "/", "user": null, "capabilities": [], "noNewPrivileges": true,
            "seccomp": "default", "rlimits": {}}, "hostname": "web.shop", "readOnlyRoot": false, "mounts": [], "userNamespace": null,
            "network": "none", "stopSignal": "SIGTERM", "stopGrace": "10s", "health": null,
            "logs": LOGS, "updatable": {"resources": {}, "restart": "no", "labels": {}}}"#;
        let logs = serde_json::to_string(&LogLimits { max_size: "1Mi".parse().unwrap(), max_files: 1 }).unwrap();
        let config: ContainerConfig = serde_json::from_str(&text.replace("LOGS", &logs)).unwrap();
        ContainerConfig { network, ..config }
    }

    const HOSTS_OWN: &str = "# by hand\nsearch corp.example\nnameserver 127.0.0.53\noptions edns0\n";

    fn text(file: EtcFile, config: &ContainerConfig) -> String {
        String::from_utf8(file.content(config, HOSTS_OWN.as_bytes())).unwrap()
    }

    fn bridged() -> NetworkConfig {
        let endpoint = Endpoint { network: "shop".parse().unwrap(), address: [10, 1, 0, 2].into(), aliases: [].into() };
        NetworkConfig::Bridged { endpoints: vec![endpoint], ports: Vec::new() }
    }

    #[test]
    fn a_bridged_container_finds_itself_and_asks_its_own_resolver() {
        let config = config(bridged());
        assert!(text(EtcFile::Hosts, &config).ends_with("10.1.0.2\tweb.shop web\n"));
        assert_eq!(text(EtcFile::ResolvConf, &config), "nameserver 127.0.0.11\noptions ndots:0\n");
        assert_eq!(text(EtcFile::Hostname, &config), "web.shop\n");
    }

    #[test]
    fn a_network_without_names_asks_as_the_host_does() {
        let config = config(NetworkConfig::Bridged { endpoints: Vec::new(), ports: Vec::new() });
        assert_eq!(text(EtcFile::ResolvConf, &config), "nameserver 127.0.0.11\nsearch corp.example\noptions edns0\n");
        assert!(text(EtcFile::Hosts, &config).ends_with("127.0.1.1\tweb.shop web\n"));
    }

    #[test]
    fn a_container_on_the_hosts_network_has_the_hosts_files() {
        assert!(EtcFile::ALL.iter().all(|file| text(*file, &config(NetworkConfig::Host)) == HOSTS_OWN));
    }

    #[test]
    fn a_host_name_cannot_add_lines() {
        assert!(check_hostname("web-1.shop").is_ok());
        for bad in ["", "web\n127.0.0.1 bank", "web shop", "a/b", &"x".repeat(65)] {
            assert!(check_hostname(bad).is_err(), "{bad:?}");
        }
    }
}
