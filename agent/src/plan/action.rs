//! What a plan is made of. Everything an executor needs stands in the action; it has no choice left.

use super::actual::{ContainerFault, Owner};
use super::shown;
use runtime::container::config::Endpoint;
use serde::Serialize;
use spec::desired::{Container, DependencyCondition, Image, ImageKey, Kind, Location, Network, ResourceId, Volume};
use spec::value::{ContainerId, Digest, ImageReference, Name, Subnet};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Build, pull or import an image. It belongs to the site of the plan.
    ObtainImage {
        /// What it is recorded as.
        #[serde(serialize_with = "text")]
        key: ImageKey,
        /// Where it comes from; recorded as applied.
        #[serde(serialize_with = "shown::image")]
        image: Image,
    },
    /// Publish an image under names of registries. Nothing waits for it.
    PushImage {
        /// What it is recorded as; it is in the store.
        #[serde(serialize_with = "text")]
        key: ImageKey,
        /// Recorded as applied.
        #[serde(serialize_with = "shown::image")]
        image: Image,
        /// The image as it was when the plan was made.
        digest: Digest,
        /// The names under which this image was not published yet; never empty.
        references: BTreeSet<ImageReference>,
    },
    /// Give up an image no manifest names any more; its content goes with the next garbage collection.
    ForgetImage {
        /// What it is recorded as.
        #[serde(serialize_with = "text")]
        key: ImageKey,
    },
    /// Make a bridge and its record.
    CreateNetwork {
        /// Its name.
        name: Name,
        /// Recorded as applied.
        network: Network,
        /// The subnet given or chosen; free at the time of the plan.
        subnet: Subnet,
        /// The bridge's address in that subnet.
        gateway: Ipv4Addr,
        /// Whose it is: the site's, or nobody's ([`Owner::Hand`]) for the host-wide `default`.
        owner: Owner,
    },
    /// Rewrite the record: labels, the internal flag. Subnet and gateway stay what they are.
    UpdateNetwork {
        /// Its name.
        name: Name,
        /// Recorded as applied.
        network: Network,
    },
    /// Make the bridge again as recorded, and the links of its containers.
    RepairNetwork {
        /// Its name.
        name: Name,
    },
    /// Remove a bridge and its record. Nothing is connected to it any more.
    RemoveNetwork {
        /// Its name.
        name: Name,
    },
    /// Make a volume.
    CreateVolume {
        /// Its name.
        name: Name,
        /// Recorded as applied.
        volume: Volume,
    },
    /// Rewrite its record: labels.
    UpdateVolume {
        /// Its name.
        name: Name,
        /// Recorded as applied.
        volume: Volume,
    },
    /// Remove a volume and its data; planned only by `destroy` with the flag that says so.
    RemoveVolume {
        /// Its name.
        name: Name,
    },
    /// Make a container's files; nothing runs yet and nothing is taken from its predecessor: a network it names may still be
    /// the old one of that name, an address still its predecessor's.
    CreateContainer {
        /// Name and a generation above every other of that name.
        id: ContainerId,
        /// Recorded as applied.
        #[serde(serialize_with = "shown::container")]
        spec: Box<Container>,
        /// The image's digest; the image is in the store.
        image: Digest,
        /// One a network, in the order of its links; the first has the default route. Empty unless bridged.
        endpoints: Vec<Endpoint>,
    },
    /// Run it. Ends a hold: it is no longer stopped by a user.
    StartContainer {
        /// Which; it does not run.
        id: ContainerId,
        /// Whether published ports and the name lead to it at once.
        traffic: Traffic,
    },
    /// Wait until it has come this far; failing that within its own time limits fails the step.
    AwaitContainer {
        /// Which; it was started.
        id: ContainerId,
        /// How far. `started` also holds for one that already ended with 0.
        until: DependencyCondition,
    },
    /// Lead published ports and the name from the old incarnation to the new one, in one transaction.
    SwitchTraffic {
        /// The predecessor they lead to until now; none is left if `None`.
        from: Option<ContainerId>,
        /// The one they lead to from now on; it runs.
        to: ContainerId,
    },
    /// Change a container in place: limits, restart policy, labels, ports, networks, and the record of what was applied.
    /// Only these and fields that are a matter of record differ from the applied spec. If it does not run, its files change.
    UpdateContainer {
        /// Which.
        id: ContainerId,
        /// Recorded as applied.
        #[serde(serialize_with = "shown::container")]
        spec: Box<Container>,
        /// All of its endpoints from now on: kept ones first in their old order, then new ones. An endpoint whose address
        /// differs from the present one is detached and attached again.
        endpoints: Vec<Endpoint>,
    },
    /// Mend what differs from its configuration.
    RepairContainer {
        /// Which; it runs.
        id: ContainerId,
        /// What is mended.
        fault: ContainerFault,
    },
    /// Stop it: signal, grace, SIGKILL. No hold: only a user makes one.
    StopContainer {
        /// Which.
        id: ContainerId,
    },
    /// Remove its files. It must not run.
    RemoveContainer {
        /// Which.
        id: ContainerId,
    },
    /// Write our nftables table anew.
    RepairFirewall,
}

/// Whether a started container gets traffic at once or after a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Traffic {
    /// Its ports and name lead to it as soon as it runs.
    Now,
    /// They still lead to its predecessor.
    AfterSwitch,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The resource it is done for.
    pub resource: ResourceId,
    /// Steps that must have succeeded first, by their place in [`Plan::steps`].
    pub after: Vec<usize>,
}

/// What happens to one resource, for people: why, and what it means for what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The resource.
    pub resource: ResourceId,
    /// What happens to it.
    pub verb: Verb,
    /// Why: never empty.
    pub causes: Vec<Cause>,
    /// What it means for what runs.
    pub consequence: Consequence,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// It is new.
    Create,
    /// It changes while it runs.
    Update,
    /// It is published under names of registries.
    Publish,
    /// A new one takes its place.
    Replace,
    /// It is mended: the host differs from what was applied.
    Repair,
    /// It was stopped or ended and is started again.
    Start,
    /// It goes.
    Remove,
}

/// Why a change is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Cause {
    /// A manifest names it and the host does not have it.
    New {
        /// Where.
        location: Option<Location>,
    },
    /// A field differs from what was applied.
    Field {
        /// Dotted path below `spec`, as a manifest writes it: `resources.memory`, `env.LOG`, `ports`.
        field: String,
        /// As applied; `none` if it was not set.
        old: String,
        /// As desired; `none` if it is not set any more.
        new: String,
        /// Where the new value is written.
        location: Option<Location>,
        /// Whether this field cannot change in place.
        forces_replacement: bool,
    },
    /// No manifest names it any more.
    Unnamed,
    /// All that the site made is to go.
    Destroyed,
    /// The host differs from what was applied.
    Drift {
        /// In words.
        what: String,
    },
    /// It is not published under this name yet, or another image was.
    Publish {
        /// The name.
        reference: ImageReference,
        /// Where it is written.
        location: Option<Location>,
    },
    /// Something it is made of changes.
    Follows {
        /// That resource.
        resource: ResourceId,
        /// What changes about it.
        what: String,
    },
}

/// What a change means for what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Consequence {
    /// Nothing that runs is touched.
    None,
    /// Changed while it runs, without interruption.
    LiveUpdate,
    /// The new one is ready before the old one goes.
    Replace,
    /// The process is started again.
    Restart,
    /// There is a time in which it does not run.
    Downtime,
}

/// What a plan is for, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// The host is to match the site.
    #[default]
    Match,
    /// All that the site made is to go, though its manifests name it.
    Destroy,
}

/// What is to be done: changes for people, steps for the executor, in an order that respects every `after`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// One a resource, sorted by resource.
    pub changes: Vec<Change>,
    /// In order of execution.
    pub steps: Vec<Step>,
    /// What cannot be done, and is left alone: unreadable or foreign resources, address conflicts.
    pub blocked: Vec<Blocked>,
    /// What is left alone on purpose and worth knowing: holds, ended jobs, volumes no manifest names.
    pub notes: Vec<Note>,
    /// What a change will cost that its manifest does not say.
    pub warnings: Vec<Note>,
    /// True when images have to be obtained first. [`Plan::changes`] then shows what is expected, [`Plan::steps`] the image steps
    /// and what depends on none of them; after them the host is observed and planned again, which may replace fewer containers.
    pub provisional: bool,
    /// What it is for.
    #[serde(skip)]
    pub purpose: Purpose,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.changes.is_empty()
    }
}

/// A resource a plan leaves alone though something is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// The resource.
    pub resource: ResourceId,
    /// Why, and what to do about it.
    pub why: String,
}

/// Something worth knowing of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The resource.
    pub resource: ResourceId,
    /// What holds for it.
    pub text: String,
}

/// The resource that stands for what all networks share, the nftables table: `network/*`. No network can have that name.
pub fn firewall() -> ResourceId {
    ResourceId { kind: Kind::Network, name: "*".to_owned() }
}

fn text<S: serde::Serializer, K: ToString>(key: &K, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&key.to_string())
}
