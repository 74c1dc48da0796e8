//! `kind: Container`: a running process with its surroundings.

use super::{
    Address, DurationText, HealthCheck, ListOrMap, MountEntry, OneOrMany, Pairs, PortEntry, ShortMount, ShortTmpfs, TextOrList, TextOrMap,
};
use crate::desired::UpdateOrder;
use crate::value::{ByteSize, Capability, Cpus, Name, PortRange, RestartPolicy, Signal, UserSpec, ValueError};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::str::FromStr;

/// A container.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Container")]
pub struct Container {
    /// An Image of this site by its name, else a reference: `nginx:1.29`, `registry.example.com/shop/web@sha256:…`.
    pub image: String,
    /// Replaces the image's command: a list, or a text that is split into words as a shell would.
    pub command: Option<TextOrList>,
    /// Further arguments after `command`; alone they replace the image's command.
    pub args: Option<TextOrList>,
    /// Replaces the image's entrypoint and clears its command: a list, or a text that is split into words as a shell would.
    pub entrypoint: Option<TextOrList>,
    /// Environment: a map, or a list of KEY=value. Wins over `envFiles`.
    pub env: Option<Pairs>,
    /// Files of KEY=value lines, relative to this manifest; later ones win.
    pub env_files: Option<TextOrList>,
    /// Working directory: an absolute path in the container.
    pub working_dir: Option<String>,
    /// Whom it runs as: `user[:group]`, names or numbers.
    pub user: Option<UserSpec>,
    /// Host name; the container's name unless said.
    pub hostname: Option<String>,
    /// Published ports: `8080:80`, `127.0.0.1:8080:80`, `53:53/udp`, `8000-8010:8000-8010`, or maps.
    pub ports: Option<Vec<TextOrMap<PortRange, PortEntry>>>,
    /// Mounts: `data:/var/lib/data`, `./conf:/etc/app:ro`, `/srv/files:/files`, or maps.
    pub volumes: Option<Vec<TextOrMap<ShortMount, MountEntry>>>,
    /// Memory file systems: `/run`, `/tmp:size=64Mi,mode=1777`, one or a list.
    pub tmpfs: Option<OneOrMany<ShortTmpfs>>,
    /// Networks by name: a list, or a map with an address and aliases for each. The host's default network unless said.
    pub networks: Option<ListOrMap<Name, BTreeMap<Name, Option<NetworkEntry>>>>,
    /// `host`: the host's own network; `none`: loopback only. Not together with `networks`.
    pub network_mode: Option<NetworkMode>,
    /// What happens when its process ends: `no` (the default), `always`, `unless-stopped`, `on-failure[:retries]`, or a map.
    pub restart: Option<TextOrMap<RestartPolicy, RestartEntry>>,
    /// The signal that asks it to stop; the image's own, else SIGTERM, unless said.
    pub stop_signal: Option<Signal>,
    /// How long it may take to stop before it is killed; 10s unless said.
    pub stop_grace_period: Option<DurationText>,
    /// Limits.
    pub resources: Option<Resources>,
    /// Containers that come first: a list, or a map of name to `started`, `healthy` or `completed`.
    pub depends_on: Option<ListOrMap<Name, Dependencies>>,
    /// How its health is probed; the image's own check unless said.
    pub healthcheck: Option<HealthCheck>,
    /// Labels: a map, or a list of KEY=value. Another place for `metadata.labels`.
    pub labels: Option<Pairs>,
    /// Whether its root file system is read-only.
    pub read_only_root: Option<bool>,
    /// Capabilities beyond and below Docker's default set.
    pub capabilities: Option<Capabilities>,
    /// Whether set-user-id programs gain nothing; no unless said.
    pub no_new_privileges: Option<bool>,
    /// Whether it runs in a user namespace of its own; no unless said.
    pub user_namespace: Option<bool>,
    /// How a change that needs a new container is carried out: `start-first`, `stop-first`, or a map.
    pub update: Option<TextOrMap<OrderWord, UpdateEntry>>,
    /// How much of its output is kept.
    pub logs: Option<Logs>,
    /// Whether its process gets a terminal of its own, for `agent container attach`; no unless said.
    pub tty: Option<bool>,
    /// Whether its standard input stays open for whoever attaches; no unless said: it is then at its end from the start.
    pub stdin_open: Option<bool>,
}

/// A container's place on a network.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkEntry {
    /// A fixed address in the network's subnet.
    pub address: Option<Address>,
    /// Further names it answers to on this network.
    pub aliases: Option<Vec<Name>>,
}

/// Ways to have no network of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum NetworkMode {
    /// The host's own network.
    Host,
    /// Loopback only.
    None,
}

/// The long form of a restart policy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestartEntry {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub policy: RestartPolicy,
    /// Most restarts in a row, for `on-failure`.
    pub max_retries: Option<u32>,
}

/// Limits; what is not said is not limited.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Memory, swap included: `256Mi`, `1.5Gi`; at least 6Mi.
    pub memory: Option<ByteSize>,
    /// Processor time: `0.5` is half a core.
    pub cpus: Option<Cpus>,
    /// Processes and threads.
    #[schemars(range(min = 1))]
    pub pids: Option<u32>,
}

/// How far a dependency must have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition(pub crate::desired::DependencyCondition);

impl FromStr for Condition {
    type Err = ValueError;

    /// Reads our words and Compose's.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        use crate::desired::DependencyCondition::{Completed, Healthy, Started};
        match text {
            "started" | "service_started" => Ok(Self(Started)),
            "healthy" | "service_healthy" => Ok(Self(Healthy)),
            "completed" | "service_completed_successfully" => Ok(Self(Completed)),
            _ => Err(ValueError::with_hint(format!("{text:?} is not a condition"), "use started, healthy or completed")),
        }
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Dependencies with their conditions.
pub type Dependencies = BTreeMap<Name, TextOrMap<Condition, DependencyEntry>>;

/// The long form of a dependency.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Dependency")]
pub struct DependencyEntry {
    /// `started` (the default), `healthy` or `completed`.
    pub condition: Option<Condition>,
}

/// Capabilities beyond and below Docker's default set; `drop` comes first, then `add`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capabilities {
    /// Given besides the default set; `ALL` for every one.
    pub add: Option<Vec<CapabilityChoice>>,
    /// Taken from the default set; `ALL` for every one.
    pub drop: Option<Vec<CapabilityChoice>>,
}

/// A capability, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityChoice {
    /// Every capability.
    All,
    /// This one.
    One(Capability),
}

impl<'de> Deserialize<'de> for CapabilityChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_uppercase().as_str() {
            "ALL" => Ok(Self::All),
            name => name.parse().map(Self::One).map_err(serde::de::Error::custom),
        }
    }
}

/// `start-first` or `stop-first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderWord(pub UpdateOrder);

impl FromStr for OrderWord {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "start-first" => Ok(Self(UpdateOrder::StartFirst)),
            "stop-first" => Ok(Self(UpdateOrder::StopFirst)),
            _ => Err(ValueError::with_hint(format!("{text:?} is not an update order"), "use start-first or stop-first")),
        }
    }
}

impl<'de> Deserialize<'de> for OrderWord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a change that needs a new container is carried out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Update")]
pub struct UpdateEntry {
    /// `start-first`: the new one is ready before the old one goes. `stop-first`: the old one goes first; the default where
    /// something writable, a fixed address or the host's network is shared.
    pub order: Option<OrderWord>,
}

/// How much of a container's output is kept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logs {
    /// Size at which a log file is rotated; 10Mi unless said.
    pub max_size: Option<ByteSize>,
    /// Files kept, the current one included; 3 unless said.
    #[schemars(range(min = 1))]
    pub max_files: Option<u32>,
}
