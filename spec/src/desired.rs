//! The checked form of a site: total, defaults applied, references resolved. An invalid one cannot be built by [`crate::resolve`].
//!
//! Pure values with ordered maps; two equal sites are equal here whatever the order, formatting or file layout they were written in.

use crate::value::{
    ByteSize, Capability, Cpus, Digest, ImageReference, Mount, Name, PortMapping, RestartPolicy, Signal, Subnet, UserSpec, duration,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// The kinds of resources a site may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Where an image comes from.
    Image,
    /// A network of containers.
    Network,
    /// Data that outlives containers.
    Volume,
    /// A running process with its surroundings.
    Container,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Container => "container",
        })
    }
}

/// One resource, `container/web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    /// Its kind.
    pub kind: Kind,
    /// Its name; for an image pulled without a manifest of its own, the whole reference.
    pub name: String,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.kind, self.name))
    }
}

/// How a container names its image: an `Image` of the site, or a reference of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageKey {
    /// An `Image` manifest of this site.
    Named(Name),
    /// A reference without a manifest; pulled when absent.
    Reference(ImageReference),
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Reference(reference) => reference.fmt(f),
        }
    }
}

/// A whole site as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Every image a manifest or a container names.
    pub images: BTreeMap<ImageKey, Image>,
    /// Networks.
    pub networks: BTreeMap<Name, Network>,
    /// Volumes.
    pub volumes: BTreeMap<Name, Volume>,
    /// Containers.
    pub containers: BTreeMap<Name, Container>,
    /// Networks and volumes that others make and containers of this site use: they are no part of it.
    pub external: BTreeSet<ResourceId>,
    /// Where each resource and field was written. Shown, never compared: it is not part of [`Desired::digest`].
    pub origins: Origins,
    /// Digest of each resource that has a manifest as it was written, with all it took from files beside it, and without a default.
    /// What was made from the same still is what its manifest wants, whatever another version fills in.
    /// It is no part of [`Desired::digest`] either.
    pub written: BTreeMap<ResourceId, Digest>,
}

/// A position in a site's file; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Path relative to the site's root; shared by all that is written in a file.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.file, self.line))
    }
}

/// Where resources and their fields were written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins(BTreeMap<ResourceId, BTreeMap<String, Location>>);

impl Origins {
    /// Remembers where a field stands; the empty field is the resource itself. Fields are dotted paths
    /// below `spec` in camelCase: `resources.memory`, `env.LOG`, `ports`.
    pub fn insert(&mut self, resource: ResourceId, field: impl Into<String>, location: Location) {
        self.0.entry(resource).or_default().insert(field.into(), location);
    }

    /// The same for many fields of one resource.
    pub fn extend(&mut self, resource: ResourceId, fields: impl IntoIterator<Item = (String, Location)>) {
        self.0.entry(resource).or_default().extend(fields);
    }

    /// The place of a field, else of the nearest field above it, else of the resource.
    pub fn find(&self, resource: &ResourceId, field: &str) -> Option<&Location> {
        let (mut field, fields) = (field, self.0.get(resource)?);
        loop {
            if let Some(location) = fields.get(field) {
                return Some(location);
            }
            if field.is_empty() {
                return None;
            }
            field = field.rsplit_once('.').map_or("", |(parent, _)| parent);
        }
    }
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its source.
    pub source: ImageSource,
    /// The names it is published under in registries.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub push: BTreeSet<ImageReference>,
}

/// What the name of a build's context stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BuildContextSource {
    /// A directory of the site; its content is in the build's digest.
    Directory {
        /// Relative to the site's root.
        path: String,
    },
    /// `docker-image://reference`, or a repository; the commit that it stands for is in the build's digest.
    Elsewhere {
        /// As written.
        address: String,
    },
}

/// Which network the commands of a build see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BuildNetwork {
    /// One of their own that leads out as the host's does.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
}

impl BuildNetwork {
    fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

impl BuildContextSource {
    /// The image that it is, by name or reference.
    pub fn image(&self) -> Option<&str> {
        match self {
            Self::Elsewhere { address } => address.strip_prefix("docker-image://"),
            Self::Directory { .. } => None,
        }
    }
}

/// The three ways to come by an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ImageSource {
    /// Built from a directory of the site, or from a repository.
    Build {
        /// Context directory relative to the site's root, `.` for the root itself; or the address of a repository as written.
        context: String,
        /// Dockerfile relative to the context.
        dockerfile: String,
        /// The Dockerfile's text, if it stands in the manifest; `dockerfile` then names nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inline: Option<String>,
        /// Further contexts: what names in `FROM` and `--from` mean.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        contexts: BTreeMap<String, BuildContextSource>,
        /// Build arguments.
        args: BTreeMap<String, String>,
        /// Stage to stop at; the last one if `None`.
        target: Option<String>,
        /// The network of RUN steps that do not say which.
        #[serde(default, skip_serializing_if = "BuildNetwork::is_default")]
        network: BuildNetwork,
        /// Digest of Dockerfile and context after `.dockerignore`, of a repository of its commit: what decides whether to build again.
        content: Digest,
        /// Images of this site that the Dockerfile's `FROM` and `COPY --from` and its contexts name, by that name.
        bases: BTreeSet<Name>,
    },
    /// Pulled from a registry.
    Pull {
        /// What is pulled.
        reference: ImageReference,
    },
    /// Imported from a file of the site: a root file system tar, or an OCI or docker archive.
    Archive {
        /// Path relative to the site's root.
        path: String,
        /// Digest of the file's bytes.
        content: Digest,
    },
}

/// A network of containers on one bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Its subnet; a free one is chosen if `None`.
    pub subnet: Option<Subnet>,
    /// The bridge's own address; the subnet's first host if `None`.
    pub gateway: Option<Ipv4Addr>,
    /// Whether it has no way out of the host.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Data that outlives containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A container, every default applied. `None` in the process fields means: as the image says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its image.
    pub image: ImageKey,
    /// Replaces the image's entrypoint (and clears its command), as `docker run --entrypoint`.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment from `envFiles` and `env`, merged; the latter wins.
    pub env: BTreeMap<String, String>,
    /// Variables whose values come from `envFiles`: they are never shown.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub env_from_files: BTreeSet<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// User and group.
    pub user: Option<UserSpec>,
    /// Host name; the container's name unless said.
    pub hostname: String,
    /// Published ports, sorted, without duplicates.
    pub ports: Vec<PortMapping>,
    /// Volumes, binds and tmpfs, sorted by target.
    pub mounts: Vec<Mount>,
    /// How it is connected.
    pub network: NetworkMode,
    /// What happens when its process ends.
    pub restart: RestartPolicy,
    /// How it is stopped.
    pub stop: Stop,
    /// Limits.
    pub resources: Resources,
    /// Containers that come first, and how far they must have come.
    pub depends_on: BTreeMap<Name, DependencyCondition>,
    /// How its health is probed; `None` means the image's own health check, if it has one.
    pub healthcheck: Option<HealthCheck>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What its process may do, and how it is fenced in.
    pub security: Security,
    /// How a change that needs a new container is carried out.
    pub update: UpdateOrder,
    /// How much of its output is kept.
    pub logs: LogLimits,
    /// Whether its process gets a terminal of its own.
    #[serde(default)]
    pub tty: bool,
    /// Whether its standard input stays open for whoever attaches.
    #[serde(default)]
    pub stdin_open: bool,
}

/// How a container is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkMode {
    /// Networks of the site by name; never empty. A container that names none is on the host's `default` network.
    Networks(BTreeMap<Name, Attachment>),
    /// The host's own network.
    Host,
    /// Loopback only.
    None,
}

/// A container's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Fixed address; one is chosen if `None`.
    pub address: Option<Ipv4Addr>,
    /// Further names it answers to on this network.
    pub aliases: BTreeSet<Name>,
}

/// How a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// The signal that asks; the image's own, else SIGTERM, if `None`.
    pub signal: Option<Signal>,
    /// How long it may take before SIGKILL; 10 s unless said.
    #[serde(with = "duration")]
    pub grace: Duration,
}

/// Limits of a container; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Memory, swap included.
    pub memory: Option<ByteSize>,
    /// Processor time.
    pub cpus: Option<Cpus>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// How far a dependency must have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DependencyCondition {
    /// Its process runs.
    Started,
    /// Its health check passes.
    Healthy,
    /// It ended with exit code 0.
    Completed,
}

/// A health probe run inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// The probe: `CMD`'s arguments, or `CMD-SHELL`'s as `["/bin/sh", "-c", …]`. Empty switches the image's own check off.
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long a probe may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Time at the start in which failures do not count.
    #[serde(with = "duration")]
    pub start_period: Duration,
}

/// What a container's process may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Capabilities it has: Docker's default set, less `drop`, plus `add`.
    pub capabilities: BTreeSet<Capability>,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// Whether it runs in a user namespace of its own.
    pub user_namespace: bool,
}

/// How a container is replaced by its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The new one is ready before the old one goes; the default where nothing writable is shared.
    StartFirst,
    /// The old one goes first: the default where both would write to the same volume.
    StopFirst,
}

/// How much of a container's output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLimits {
    /// Size at which a log file is rotated; 10 MiB unless said.
    pub max_size: ByteSize,
    /// Files kept, the current one included; 3 unless said.
    pub max_files: u32,
}

impl Desired {
    /// Digest of all that is desired, of nothing about where it was written.
    pub fn digest(&self) -> Digest {
        let canonical = serde_json::json!({
            "images": self.images.iter().map(|(key, image)| (key.to_string(), image)).collect::<BTreeMap<_, _>>(),
            "networks": self.networks,
            "volumes": self.volumes,
            "containers": self.containers,
            "external": self.external,
        });
        Digest::of(canonical.to_string().as_bytes())
    }
}
