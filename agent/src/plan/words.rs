//! Steps in words: `start web@2`.

use super::action::{Action, Step, Traffic};
use super::actual::ContainerFault;
use spec::desired::{DependencyCondition, ImageSource};
use std::fmt;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.action.fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ObtainImage { key, image } => match &image.source {
                ImageSource::Build { .. } => write!(f, "build image {key}"),
                ImageSource::Pull { reference } => write!(f, "pull {reference}"),
                ImageSource::Archive { path, .. } => write!(f, "import image {key} from {path}"),
            },
            Self::PushImage { key, references, .. } => {
                let names: Vec<String> = references.iter().map(ToString::to_string).collect();
                write!(f, "push image {key} as {}", names.join(", "))
            }
            Self::ForgetImage { key } => write!(f, "forget image {key}"),
            Self::CreateNetwork { name, subnet, .. } => write!(f, "create network {name} on {subnet}"),
            Self::UpdateNetwork { name, .. } => write!(f, "update network {name}"),
            Self::RepairNetwork { name } => write!(f, "repair network {name}"),
            Self::RemoveNetwork { name } => write!(f, "remove network {name}"),
            Self::CreateVolume { name, .. } => write!(f, "create volume {name}"),
            Self::UpdateVolume { name, .. } => write!(f, "update volume {name}"),
            Self::RemoveVolume { name } => write!(f, "remove volume {name} and its data"),
            Self::CreateContainer { id, .. } => write!(f, "create {id}"),
            Self::StartContainer { id, traffic: Traffic::Now } => write!(f, "start {id}"),
            Self::StartContainer { id, traffic: Traffic::AfterSwitch } => write!(f, "start {id} beside its predecessor"),
            Self::AwaitContainer { id, until } => write!(f, "wait until {id} {}", reached(*until)),
            Self::SwitchTraffic { from: Some(from), to } => write!(f, "switch traffic from {from} to {to}"),
            Self::SwitchTraffic { from: None, to } => write!(f, "lead traffic to {to}"),
            Self::UpdateContainer { id, .. } => write!(f, "update {id}"),
            Self::RepairContainer { id, fault } => write!(f, "repair {} of {id}", broken(fault)),
            Self::StopContainer { id } => write!(f, "stop {id}"),
            Self::RemoveContainer { id } => write!(f, "remove {id}"),
            Self::RepairFirewall => f.write_str("rebuild the nftables table"),
        }
    }
}

fn reached(until: DependencyCondition) -> &'static str {
    match until {
        DependencyCondition::Started => "runs",
        DependencyCondition::Healthy => "is healthy",
        DependencyCondition::Completed => "has completed",
    }
}

fn broken(fault: &ContainerFault) -> String {
    match fault {
        ContainerFault::Limits { .. } => "the limits".to_owned(),
        ContainerFault::Link { network } => format!("the link to network {network}"),
        ContainerFault::Ports { .. } => "the published ports".to_owned(),
        ContainerFault::Shim => "the shim".to_owned(),
    }
}
