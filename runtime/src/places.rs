//! Where everything is kept. Three roots, one instance; nothing outside them is written but cgroups, links and nftables.

use spec::value::{ContainerId, Digest, Name};
use std::path::{Path, PathBuf};

/// The directories of one instance of the agent. Several instances live on one host when their roots differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What survives a reboot: images, volumes, containers, the ledger. Mode 0700.
    pub state: PathBuf,
    /// What does not: sockets, pipes, live state, network namespaces. Mode 0700.
    pub run: PathBuf,
    /// Configuration of the host's operator.
    pub config: PathBuf,
}

impl Places {
    /// `/var/lib/host-agent`, `/run/host-agent`, `/etc/host-agent`.
    pub fn standard() -> Self {
        Self { state: "/var/lib/host-agent".into(), run: "/run/host-agent".into(), config: "/etc/host-agent".into() }
    }

    /// Marks what cannot live in a directory (bridges, nftables tables, cgroups): empty for the standard places, else six
    /// hexadecimal digits from the state directory's path, so that instances never meet.
    pub fn mark(&self) -> String {
        if self.state == Path::new("/var/lib/host-agent") {
            return String::new();
        }
        Digest::of(self.state.as_os_str().as_encoded_bytes()).hex()[..6].to_owned()
    }

    /// `host-agent` or `host-agent-<mark>`: the nftables table and the parent cgroup.
    pub fn instance(&self) -> String {
        let mark = self.mark();
        if mark.is_empty() { "host-agent".to_owned() } else { format!("host-agent-{mark}") }
    }

    /// Held exclusively by whoever changes the host; released by the kernel when its holder dies.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// The image store: blobs, layers, image records.
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// What a registry served from here keeps beside the image store.
    pub fn registry(&self) -> PathBuf {
        self.state.join("registry")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// The content of a named volume: `<state>/volumes/<name>/data`.
    pub fn volume_data(&self, name: &Name) -> PathBuf {
        self.volume(name).join("data")
    }

    /// A named volume with its record.
    pub fn volume(&self, name: &Name) -> PathBuf {
        self.volumes().join(name.as_str())
    }

    /// Networks that exist: one record a network.
    pub fn networks(&self) -> PathBuf {
        self.state.join("networks")
    }

    /// Snapshots of site content mounted into containers.
    pub fn snapshots(&self) -> PathBuf {
        self.state.join("content")
    }

    /// One of them, by content digest.
    pub fn content(&self, digest: &Digest) -> PathBuf {
        self.snapshots().join(digest.hex())
    }

    /// All containers' lasting files.
    pub fn containers(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// A container's lasting files: `container.json`, `upper/`, `work/`, `logs/`, `stopped`.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.to_string())
    }

    /// All containers' passing files.
    pub fn containers_run(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// A container's passing files: `state.json`, `control.sock`, `stdout`, `stderr` (pipes), `netns`, `shim.lock`.
    pub fn container_run(&self, id: &ContainerId) -> PathBuf {
        self.containers_run().join(id.to_string())
    }

    /// The names and addresses of one network, written by the engine, read by the DNS responder of each shim.
    pub fn records(&self, network: &Name) -> PathBuf {
        self.run.join("records").join(network.as_str())
    }

    /// The ledger of what the agent owns.
    pub fn ledger(&self) -> PathBuf {
        self.state.join("ledger.sqlite")
    }
}
