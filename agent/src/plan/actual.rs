//! One snapshot of the host, as the planner sees it. What is not in a map is absent; what could not be read is
//! [`Observed::Unreadable`], and *unknown is not absent*: nothing is created over it and nothing of it is deleted.

use runtime::container::config::{Endpoint, ResourceLimits};
use runtime::container::state::Phase;
use serde::{Deserialize, Serialize};
use spec::desired::{Container, Image, ImageKey, Network, Volume};
use spec::value::{ContainerId, Digest, ImageReference, Name, PortMapping, Subnet};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

/// The host as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Actual {
    /// Images by the key they were obtained for.
    #[serde(serialize_with = "by_text")]
    pub images: BTreeMap<ImageKey, Observed<ActualImage>>,
    /// Networks.
    pub networks: BTreeMap<Name, Observed<ActualNetwork>>,
    /// Volumes.
    pub volumes: BTreeMap<Name, Observed<ActualVolume>>,
    /// Containers, every incarnation.
    pub containers: BTreeMap<ContainerId, Observed<ActualContainer>>,
    /// Subnets that links and routes not ours already use.
    pub foreign_subnets: BTreeSet<Subnet>,
    /// Whether our nftables table is whole: present, with the chains and maps as last written.
    pub firewall: Firewall,
}

/// A resource that exists, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Observed<T> {
    /// It is there, and this is what it is like.
    Present(T),
    /// Something is there, or may be, that could not be read.
    Unreadable {
        /// The operation that failed and the system's reason.
        why: String,
    },
}

/// Who a resource belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// Made from the manifests of this site.
    Site(SiteId),
    /// Made by hand on the command line; never touched by a plan.
    Hand,
}

/// The identity of a site on this host: the name given with `--site`, else its canonical source (path or URL with folder).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteId(pub String);

/// Begins the identity of what `agent container run` made: a site of one container, which no manifest asks for.
const RUN_PREFIX: &str = "run:";

impl SiteId {
    /// The site of a container that is run by hand.
    pub fn of_run(container: &Name) -> Self {
        Self(format!("{RUN_PREFIX}{container}"))
    }

    /// Whether it is one of those.
    pub fn is_of_run(&self) -> bool {
        self.0.starts_with(RUN_PREFIX)
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActualImage {
    /// Digest of its configuration: its identity.
    pub digest: Digest,
    /// What it was obtained from; compared with the desired one to decide whether to obtain it again.
    pub applied: Image,
    /// Digests of the site images it was built on, by name: a changed base builds it again.
    pub bases: BTreeMap<Name, Digest>,
    /// The names it was published under, each with the image that was.
    pub published: BTreeMap<ImageReference, Digest>,
    /// Whose it is.
    pub owner: Owner,
    /// Digest of the manifest it was obtained for, as written; `None` if it was none.
    pub written: Option<Digest>,
    /// Whether it probes its own health.
    pub has_healthcheck: bool,
    /// Directories that it declares as volumes.
    pub volumes: BTreeSet<String>,
}

/// A network of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActualNetwork {
    /// The manifest it was last made from.
    pub applied: Network,
    /// Digest of that manifest as written; `None` if it was none.
    pub written: Option<Digest>,
    /// Its subnet.
    pub subnet: Subnet,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Whose it is.
    pub owner: Owner,
    /// What is broken about it: its bridge gone, down, or without its address.
    pub faults: BTreeSet<String>,
}

/// A volume of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActualVolume {
    /// The manifest it was last made from.
    pub applied: Volume,
    /// Digest of that manifest as written; `None` if it was none.
    pub written: Option<Digest>,
    /// Whose it is.
    pub owner: Owner,
}

/// One incarnation of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActualContainer {
    /// The rendered manifest it was last made from or updated to. Boxed: it is by far the largest part of what is handed on.
    pub applied: Box<Container>,
    /// Digest of that manifest as written.
    pub written: Option<Digest>,
    /// The image it runs.
    pub image: Digest,
    /// Its addresses.
    pub endpoints: Vec<Endpoint>,
    /// Whose it is.
    pub owner: Owner,
    /// Where in its life it is.
    pub phase: Phase,
    /// Whether a user stopped it by hand (`agent container stop`): a hold that no unrelated change undoes.
    pub stopped_by_user: bool,
    /// Whether it once ended by itself with 0 since it was made, on this boot or an earlier one (the phase forgets at boot): a job
    /// that is done.
    pub completed: bool,
    /// Whether its published ports and its name lead to it: the old one of a replacement has them until the switch. True for
    /// every one that runs alone, with or without ports.
    pub serving: bool,
    /// What is broken about it, each repaired on its own.
    pub faults: BTreeSet<ContainerFault>,
}

/// Ways a running container can differ from what it was told to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ContainerFault {
    /// Its cgroup's limits are not those of its configuration.
    Limits {
        /// What the kernel has: memory, cpus, pids.
        found: String,
    },
    /// Its link to a network is gone, down or unaddressed.
    Link {
        /// The network.
        network: Name,
    },
    /// Published ports do not lead to it.
    Ports {
        /// Those that do not.
        missing: Vec<PortMapping>,
    },
    /// Its process runs and its shim does not.
    Shim,
}

/// State of our nftables table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Firewall {
    /// As last written, or nothing needs one.
    #[default]
    Intact,
    /// Flushed, deleted or altered.
    Broken,
}

impl ActualContainer {
    /// Limits its cgroup should have.
    pub fn limits(&self) -> ResourceLimits {
        let wanted = &self.applied.resources;
        ResourceLimits { memory: wanted.memory, cpus: wanted.cpus, pids: wanted.pids }
    }
}

fn by_text<S: serde::Serializer, K: ToString, V: Serialize>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(key, value)| (key.to_string(), value)))
}
