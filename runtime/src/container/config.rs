//! What a container is told to be. Total; written once by `create` ([`super::document`]), read by the shim at every start.
//!
//! Only [`Updatable`], through the shim's control socket, and the network ever change afterwards.

use serde::{Deserialize, Serialize};
use spec::desired::{HealthCheck, LogLimits};
use spec::value::{ByteSize, Capability, ContainerId, Cpus, Digest, MountTarget, PortMapping, RestartPolicy, Signal, UserSpec, duration};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A container, ready to be started any number of times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerConfig {
    /// Who it is.
    pub id: ContainerId,
    /// The image it was made from: the digest of its configuration.
    pub image: Digest,
    /// Unpacked layer directories, lowest first. Empty only for an image without layers.
    pub layers: Vec<PathBuf>,
    /// What runs in it.
    pub process: Process,
    /// Host name (UTS namespace); nothing to set with [`NetworkConfig::Host`].
    pub hostname: String,
    /// Whether the root file system is mounted read-only.
    pub read_only_root: bool,
    /// What is mounted into it, sorted so that parents come before children.
    pub mounts: Vec<MountConfig>,
    /// User namespace: host ids for the container's, or the host's own ids if `None`.
    pub user_namespace: Option<IdMapping>,
    /// How it is connected.
    pub network: NetworkConfig,
    /// The signal that asks it to stop.
    pub stop_signal: Signal,
    /// How long it may take before SIGKILL.
    #[serde(with = "duration")]
    pub stop_grace: Duration,
    /// Health probe, if any.
    pub health: Option<HealthCheck>,
    /// How much of its output is kept.
    pub logs: LogLimits,
    /// Whether its process gets a terminal of its own instead of three files.
    #[serde(default)]
    pub tty: bool,
    /// Whether its standard input stays open for whoever attaches; if not, it is at its end from the start.
    #[serde(default)]
    pub stdin_open: bool,
    /// The part that may change while it runs.
    pub updatable: Updatable,
}

/// What a look at a host needs of a configuration: reading all of a thousand takes as long as everything else about them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Outline {
    /// The image it was made from: the digest of its configuration.
    pub image: Digest,
    /// How it is connected.
    pub network: NetworkConfig,
    /// The part that may change while it runs.
    pub updatable: Updatable,
}

/// What may change on a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Updatable {
    /// Limits.
    pub resources: ResourceLimits,
    /// What happens when its process ends.
    pub restart: RestartPolicy,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The process of a container, image defaults merged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments; never empty. The program is looked up in the container's PATH.
    pub args: Vec<String>,
    /// Environment. `PATH`, `HOSTNAME` and `HOME` are completed at start where absent.
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute; created if absent.
    pub working_dir: String,
    /// User and group, looked up in the container's own files.
    pub user: Option<UserSpec>,
    /// Capabilities: bounding, permitted and effective; inheritable and ambient stay empty.
    pub capabilities: BTreeSet<Capability>,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Whether the seccomp filter is on.
    pub seccomp: SeccompProfile,
    /// Resource limits, getrlimit(2), by name such as `nofile`.
    pub rlimits: BTreeMap<String, Rlimit>,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeccompProfile {
    /// The same effect as Docker's default profile.
    Default,
    /// All of them.
    Unconfined,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What the process gets.
    pub soft: u64,
    /// What it may raise it to.
    pub hard: u64,
}

/// What is mounted where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MountConfig {
    /// A file or directory of the host (a volume's data included).
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// Where it appears.
        target: MountTarget,
        /// Whether the container may only read it, and everything mounted below it.
        read_only: bool,
        /// Whether an empty source is first filled with what the image has at the target (named volumes).
        copy_up: bool,
    },
    /// A file or directory of the tree that some layers make: what a build step takes from an image.
    Layers {
        /// Unpacked layer directories, lowest first; at least one.
        layers: Vec<PathBuf>,
        /// Its path there, from `/`; links are followed inside the tree.
        path: String,
        /// Where it appears.
        target: MountTarget,
        /// Holds `upper` and `work`, made if absent, which take what the container writes; it may only read if `None`.
        changes: Option<PathBuf>,
    },
    /// Memory.
    Tmpfs {
        /// Where it appears.
        target: MountTarget,
        /// Most it may hold; the kernel's default (half of memory) if `None`.
        size: Option<ByteSize>,
        /// Permission bits of its root.
        mode: u32,
        /// Whether programs on it can be run.
        #[serde(default)]
        executable: bool,
    },
}

impl MountConfig {
    /// Where it appears.
    pub fn target(&self) -> &MountTarget {
        match self {
            Self::Bind { target, .. } | Self::Layers { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// A contiguous range of ids: container ids 0..count are host ids first..first+count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id on the host.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// How a container is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum NetworkConfig {
    /// The host's own network.
    Host,
    /// Loopback only, in a namespace of its own.
    None,
    /// A namespace of its own, pinned at `<container_run>/netns` by the engine before each start, with one link a network:
    /// `eth0`, `eth1`, … in the order given; the first one has the default route.
    Bridged {
        /// One endpoint a network.
        endpoints: Vec<Endpoint>,
        /// Ports of the host that lead here.
        ports: Vec<PortMapping>,
    },
}

/// A container's place on one network, chosen by the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The network.
    pub network: spec::value::Name,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Names it answers to there besides its own.
    pub aliases: BTreeSet<spec::value::Name>,
}

/// Limits of a container's cgroup; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    /// Memory, swap included.
    pub memory: Option<ByteSize>,
    /// Processor time.
    pub cpus: Option<Cpus>,
    /// Processes and threads.
    pub pids: Option<u32>,
}
