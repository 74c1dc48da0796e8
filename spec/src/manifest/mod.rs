//! Manifests as written: one kind a file, fields in camelCase, unknown ones refused, short forms beside the long ones.
//!
//! The documentation of the fields is what the JSON schema shows in an editor.

pub mod container;
mod forms;
mod health;
pub mod image;
pub mod mounts;
mod network;
mod port;
mod volume;

use crate::value::Name;
use schemars::JsonSchema;
use serde::Deserialize;

pub use container::Container;
pub use forms::{Address, DurationText, ListOrMap, OneOrMany, Pairs, Text, TextOrList, TextOrMap};
pub use health::HealthCheck;
pub use image::{Build, Image};
pub use mounts::{MountEntry, MountKind, ShortMount, ShortTmpfs};
pub use network::Network;
pub use port::PortEntry;
pub use volume::Volume;

/// The version of the manifest language.
pub const API_VERSION: &str = "agent/v1";

/// One document of a site.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its name and labels.
    pub metadata: Metadata,
    /// What it wants.
    pub spec: Spec,
}

/// What a manifest wants, by its kind.
#[derive(Debug, Clone)]
pub enum Spec {
    /// `kind: Image`
    Image(Box<Image>),
    /// `kind: Container`
    Container(Box<Container>),
    /// `kind: Volume`
    Volume(Volume),
    /// `kind: Network`
    Network(Network),
}

/// What a resource is called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The name, unique within its kind: a-z, 0-9, '-', '_' and '.', at most 63 characters. A container is found by its name on its networks.
    pub name: Name,
    /// Labels: a map, or a list of KEY=value.
    pub labels: Option<Pairs>,
}

/// The frame around a kind's own fields.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Envelope<T> {
    /// Checked by the parser before the rest, as is `kind`.
    #[serde(rename = "apiVersion")]
    _api_version: Option<Text>,
    #[serde(rename = "kind")]
    _kind: Option<Text>,
    pub(crate) metadata: Metadata,
    #[serde(default = "Option::default")]
    pub(crate) spec: Option<T>,
}

/// Words of Compose, Docker and Kubernetes for what has another name or place here. Other spellings are found by likeness.
pub(crate) const SYNONYMS: &[(&str, &str)] = &[
    ("environment", "env"),
    ("env_file", "envFiles"),
    ("envFile", "envFiles"),
    ("container_name", "metadata.name"),
    ("containerName", "metadata.name"),
    ("mem_limit", "resources.memory"),
    ("memory", "resources.memory"),
    ("cpus", "resources.cpus"),
    ("pids_limit", "resources.pids"),
    ("pids", "resources.pids"),
    ("limits", "resources"),
    ("deploy", "resources"),
    ("stdin_open", "stdinOpen"),
    ("stdin", "stdinOpen"),
    ("interactive", "stdinOpen"),
    ("terminal", "tty"),
    ("read_only", "readOnlyRoot"),
    ("readOnlyRootFilesystem", "readOnlyRoot"),
    ("network_mode", "networkMode"),
    ("network", "networks"),
    ("cap_add", "capabilities.add"),
    ("cap_drop", "capabilities.drop"),
    ("security_opt", "noNewPrivileges"),
    ("userns_mode", "userNamespace"),
    ("restartPolicy", "restart"),
    ("livenessProbe", "healthcheck"),
    ("readinessProbe", "healthcheck"),
    ("volumeMounts", "volumes"),
    ("mounts", "volumes"),
    ("terminationGracePeriodSeconds", "stopGracePeriod"),
    ("logging", "logs"),
    ("from", "pull"),
    ("image", "pull"),
    ("reference", "pull"),
    ("tar", "archive"),
    ("ipam", "subnet"),
    ("target", "containerPort"),
    ("published", "hostPort"),
    ("host_ip", "hostAddress"),
    ("ipv4_address", "address"),
    ("ip", "address"),
    ("condition", "policy"),
];
