//! What a plan is made of. Everything an executor needs stands in the action; it has no choice left.

use super::actual::ContainerFault;
use runtime::container::config::Endpoint;
use serde::Serialize;
use spec::desired::{Container, DependencyCondition, Image, ImageKey, Location, Network, ResourceId, Volume};
use spec::value::{ContainerId, Digest, Name, Subnet};
use std::net::Ipv4Addr;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Build, pull or import an image.
    ObtainImage {
        #[serde(serialize_with = "text")]
        key: ImageKey,
        image: Image,
    },
    /// Give up an image no manifest names any more; its content goes with the next garbage collection.
    ForgetImage {
        #[serde(serialize_with = "text")]
        key: ImageKey,
    },
    /// Make a bridge and its record.
    CreateNetwork { name: Name, network: Network, subnet: Subnet, gateway: Ipv4Addr },
    /// Rewrite the record: labels, the internal flag.
    UpdateNetwork { name: Name, network: Network },
    /// Make the bridge again as recorded, and the links of its containers.
    RepairNetwork { name: Name },
    /// Remove a bridge and its record.
    RemoveNetwork { name: Name },
    /// Make a volume.
    CreateVolume { name: Name, volume: Volume },
    /// Rewrite its record: labels.
    UpdateVolume { name: Name, volume: Volume },
    /// Remove a volume and its data; planned only by `destroy` with the flag that says so.
    RemoveVolume { name: Name },
    /// Make a container's files; nothing runs yet.
    CreateContainer { id: ContainerId, spec: Box<Container>, image: Digest, endpoints: Vec<Endpoint> },
    /// Run it.
    StartContainer { id: ContainerId, traffic: Traffic },
    /// Wait until it has come this far; failing that within its own time limits fails the step.
    AwaitContainer { id: ContainerId, until: DependencyCondition },
    /// Lead published ports and the name from the old incarnation to the new one, in one transaction.
    SwitchTraffic { from: ContainerId, to: ContainerId },
    /// Change a running container: limits, restart policy, labels, ports, networks, and the record of what was applied.
    UpdateContainer { id: ContainerId, spec: Box<Container>, endpoints: Vec<Endpoint> },
    /// Mend what differs from its configuration.
    RepairContainer { id: ContainerId, fault: ContainerFault },
    /// Stop it: signal, grace, SIGKILL.
    StopContainer { id: ContainerId },
    /// Remove its files. It must not run.
    RemoveContainer { id: ContainerId },
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
    New { location: Option<Location> },
    /// A field differs from what was applied.
    Field { field: String, old: String, new: String, location: Option<Location>, forces_replacement: bool },
    /// No manifest names it any more.
    Unnamed,
    /// The host differs from what was applied.
    Drift { what: String },
    /// Something it is made of changes.
    Follows { resource: ResourceId, what: String },
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
    /// True when images have to be obtained first: the plan after that may replace fewer containers.
    pub provisional: bool,
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

fn text<S: serde::Serializer, K: ToString>(key: &K, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&key.to_string())
}
