//! Carries out one action of a plan: which room of the runtime does it, with what is recorded beside it. No choices.

use super::config::{self, Parts};
use super::content::ensure_snapshot;
use super::record::Applied;
use super::{LinuxHost, Then, image, now, publish};
use crate::host::HostError;
use crate::plan::action::{Action, Traffic};
use crate::plan::actual::{ContainerFault, Owner};
use crate::progress::Tell;
use runtime::container::config::{Endpoint, MountConfig, NetworkConfig};
use runtime::container::state::{ContainerState, ExitCause, Health, Phase, Timestamp};
use runtime::container::{self, StopBy, Waited, WhileRunning};
use runtime::engine::Lead;
use runtime::network::NetworkRecord;
use runtime::shim::protocol::WaitCondition;
use runtime::volume::{VolumeRecord, ensure_volume, remove_volume};
use spec::desired::{Container, DependencyCondition, Kind, Network, Volume};
use spec::value::{BindSource, ContainerId, Digest, Mount, Name, Subnet};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Longest wait for a container to get healthy beyond its own start period and retries, and for a job to complete.
const HEALTHY_WAIT_MAX: Duration = Duration::from_secs(600);
const COMPLETED_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a successor without a probe must run before its predecessor gives way: a program that cannot work (a wrong option, a
/// missing file) nearly always ends within this.
const PROVING: Duration = Duration::from_secs(1);

type Result<T = ()> = std::result::Result<T, HostError>;

pub(super) fn perform(host: &LinuxHost<'_>, action: &Action, progress: &Tell<'_>) -> Result {
    match action {
        Action::ObtainImage { key, image } => image::obtain(host, key, image, progress),
        Action::PushImage { key, image, digest, references } => publish::publish(host, (key, image), digest, references, progress),
        Action::ForgetImage { key } => image::forget(host, key),
        Action::CreateNetwork { name, network, subnet, gateway, owner } => create_network(host, name, network, *subnet, *gateway, owner),
        Action::UpdateNetwork { name, network } => update_network(host, name, network),
        Action::RepairNetwork { name } => {
            host.engine.repair_network(name).map_err(|error| HostError::new(format!("repair network {name}"), error))
        }
        Action::RemoveNetwork { name } => {
            host.engine.remove_network(name).map_err(|error| HostError::new(format!("remove network {name}"), error))
        }
        Action::CreateVolume { name, volume } | Action::UpdateVolume { name, volume } => record_volume(host, name, volume),
        Action::RemoveVolume { name } => {
            remove_volume(host.engine.places(), name).map_err(|error| HostError::new(format!("remove volume {name}"), error))
        }
        Action::CreateContainer { id, spec, image, endpoints } => create_container(host, id, spec, image, endpoints),
        Action::StartContainer { .. } | Action::AwaitContainer { .. } if host.by_hand.then == Then::Wait => Ok(()),
        Action::StartContainer { id, traffic } => start_container(host, id, *traffic),
        Action::AwaitContainer { id, until } => await_container(host, id, *until),
        Action::SwitchTraffic { from, to } => switch_traffic(host, from.as_ref(), to),
        Action::UpdateContainer { id, spec, endpoints } => update_container(host, id, spec, endpoints),
        Action::RepairContainer { id, fault } => repair_container(host, id, fault),
        Action::StopContainer { id } => {
            let stopped = host.engine.stop_container(id, None, StopBy::Plan);
            stopped.map(drop).map_err(|error| HostError::new(format!("stop {id}"), error))
        }
        Action::RemoveContainer { id } => {
            host.engine.remove_container(id, WhileRunning::Refuse).map_err(|error| HostError::new(format!("remove {id}"), error))
        }
        Action::RepairFirewall => host.engine.rebuild_traffic().map_err(|error| HostError::new("rebuild the nftables table", error)),
    }
}

fn create_network(host: &LinuxHost<'_>, name: &Name, network: &Network, subnet: Subnet, gateway: Ipv4Addr, owner: &Owner) -> Result {
    let annotations = match owner {
        Owner::Site(_) => host.applied(Kind::Network, name, network),
        Owner::Hand => Applied { owner: Owner::Hand, applied: network.clone(), written: None }.to_value(),
    };
    let record =
        NetworkRecord { name: name.clone(), subnet, gateway, internal: network.internal, labels: network.labels.clone(), annotations };
    host.engine.ensure_network(&record).map_err(|error| HostError::new(format!("create network {name} on {subnet}"), error))
}

fn update_network(host: &LinuxHost<'_>, name: &Name, network: &Network) -> Result {
    let tried = || format!("update network {name}");
    let mut record = host.engine.network(name).map_err(|error| HostError::new(tried(), error))?;
    record.internal = network.internal;
    record.labels = network.labels.clone();
    record.annotations = host.applied(Kind::Network, name, network);
    host.engine.change_network(&record).map_err(|error| HostError::new(tried(), error))
}

fn record_volume(host: &LinuxHost<'_>, name: &Name, volume: &Volume) -> Result {
    let annotations = host.applied(Kind::Volume, name, volume);
    let record = VolumeRecord { name: name.clone(), labels: volume.labels.clone(), annotations };
    ensure_volume(host.engine.places(), &record).map_err(|error| HostError::new(format!("create volume {name}"), error))
}

fn create_container(host: &LinuxHost<'_>, id: &ContainerId, wanted: &Container, image: &Digest, endpoints: &[Endpoint]) -> Result {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| HostError::new(format!("create {id}"), error);
    let image = host.engine.images().image(image).map_err(|error| failed(error.into()))?;
    let mut mounts = Vec::new();
    for mount in &wanted.mounts {
        mounts.push(resolve(host, mount)?);
    }
    let declared = config::anonymous_volumes(wanted, &image).map_err(|error| failed(error.into()))?;
    for target in declared.into_iter().chain(host.by_hand.anonymous.iter().cloned()).collect::<BTreeSet<_>>() {
        let source = config::anonymous_volume(host.engine.places().container(id), &target);
        mounts.push(MountConfig::Bind { source, target, read_only: false, copy_up: true });
    }
    let parts = Parts { id, wanted, image: &image, endpoints, mounts };
    let config = config::container_config(parts).map_err(|error| failed(error.into()))?;
    let remover = host.by_hand.transient.map(|transient| &transient.remover);
    let made = host.engine.create_container(&config, host.applied(Kind::Container, &id.name, wanted), remover);
    made.and_then(|()| host.by_hand.transient.map_or(Ok(()), |transient| transient.begin(host.engine, id)))
        .map_err(|error| failed(error.into()))
}

/// A mount of the manifest as a mount of host paths; what comes from the site is snapshotted first.
fn resolve(host: &LinuxHost<'_>, mount: &Mount) -> Result<MountConfig> {
    Ok(match mount {
        Mount::Volume { name, target, read_only } => MountConfig::Bind {
            source: host.engine.places().volume_data(name),
            target: target.clone(),
            read_only: *read_only,
            copy_up: true,
        },
        Mount::Bind { source, target, read_only } => MountConfig::Bind {
            source: match source {
                BindSource::Host { path } => path.clone(),
                BindSource::Site { path, content } => ensure_snapshot(host.engine.places(), &host.site.root, path, content)?,
            },
            target: target.clone(),
            read_only: *read_only,
            copy_up: false,
        },
        Mount::Tmpfs { target, size, mode } => MountConfig::Tmpfs { target: target.clone(), size: *size, mode: *mode, executable: false },
    })
}

fn start_container(host: &LinuxHost<'_>, id: &ContainerId, traffic: Traffic) -> Result {
    let lead = match traffic {
        Traffic::Now => Lead::Now,
        Traffic::AfterSwitch => Lead::Later,
    };
    let started = match host.by_hand.attendant {
        Some(attendant) => attendant.start(host.engine, id, lead),
        None => host.engine.start_container(id, lead).map(drop),
    };
    started.map_err(|error| HostError::new(format!("start {id}"), error))
}

fn await_container(host: &LinuxHost<'_>, id: &ContainerId, until: DependencyCondition) -> Result {
    if host.by_hand.attendant.is_some() {
        // It may wait for him, and he for us.
        return Ok(());
    }
    let places = host.engine.places();
    let (condition, patience, wanted) = match until {
        DependencyCondition::Started => (WaitCondition::Healthy, Duration::ZERO, "started"),
        DependencyCondition::Healthy => (WaitCondition::Healthy, HEALTHY_WAIT_MAX, "healthy"),
        DependencyCondition::Completed => (WaitCondition::Exited, COMPLETED_WAIT_MAX, "completed"),
    };
    let tried = || format!("wait for {id} to be {wanted}");
    let waited = container::wait(places, id, condition, Some(patience)).map_err(|error| HostError::new(tried(), error))?;
    match (until, waited) {
        (DependencyCondition::Started, waited) => has_started(waited.state()).map_err(|why| HostError::new(tried(), why)),
        (DependencyCondition::Healthy, Waited::Reached(_)) => Ok(()),
        (DependencyCondition::Completed, Waited::Reached(state)) => has_completed(&state).map_err(|why| HostError::new(tried(), why)),
        (_, Waited::Missed(state)) => Err(HostError::new(tried(), describe(&state))),
        (_, Waited::TimedOut(state)) => Err(HostError::new(tried(), format!("not within {} s: {}", patience.as_secs(), describe(&state)))),
    }
}

/// Leads traffic over. A successor without a probe first has to outlive its first moments: one that ends at once must not
/// take the place of one that works.
fn switch_traffic(host: &LinuxHost<'_>, from: Option<&ContainerId>, to: &ContainerId) -> Result {
    let tried = || format!("switch traffic to {to}");
    if from.is_some() {
        let state = container::inspect(host.engine.places(), to).map_err(|error| HostError::new(tried(), error))?.state;
        if let Some(rest) = proving(&state, now()) {
            let waited = container::wait(host.engine.places(), to, WaitCondition::Exited, Some(rest))
                .map_err(|error| HostError::new(tried(), error))?;
            let waited = waited.state();
            if waited.restarts > state.restarts {
                return Err(HostError::new(tried(), "it ended at once and was restarted"));
            }
            has_started(waited).map_err(|why| HostError::new(tried(), why))?;
        }
    }
    host.engine.switch_traffic(from, to).map_err(|error| HostError::new(tried(), error))
}

/// How much longer a container has to run to have proved itself; `None` if it has, or if a probe says so.
fn proving(state: &ContainerState, now: Timestamp) -> Option<Duration> {
    match &state.phase {
        Phase::Running { health: Health::Healthy, .. } => None,
        Phase::Running { since, .. } => {
            let ran = Duration::from_nanos(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or_default());
            PROVING.checked_sub(ran).filter(|rest| !rest.is_zero())
        }
        // It has ended: what that means is judged at once.
        Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => Some(Duration::ZERO),
    }
}

fn has_started(state: &ContainerState) -> std::result::Result<(), String> {
    match &state.phase {
        Phase::Running { .. } => Ok(()),
        Phase::Exited { exit } if exit.code == 0 => Ok(()),
        Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => Err(describe(state)),
    }
}

fn has_completed(state: &ContainerState) -> std::result::Result<(), String> {
    match &state.phase {
        Phase::Exited { exit } if exit.code == 0 => Ok(()),
        Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } | Phase::Exited { .. } => Err(describe(state)),
    }
}

/// Where in its life a container is, for an error.
pub(super) fn describe(state: &ContainerState) -> String {
    let exit = |exit: &runtime::container::state::Exit| match &exit.cause {
        ExitCause::StartFailed { reason } => format!("it could not be started: {reason}"),
        ExitCause::OutOfMemory => format!("it ran out of memory and ended with exit code {}", exit.code),
        ExitCause::Own | ExitCause::Requested | ExitCause::Unknown => format!("it ended with exit code {}", exit.code),
    };
    match &state.phase {
        Phase::Created => "it does not run".to_owned(),
        Phase::Running { health, .. } => match health {
            Health::Unhealthy { failures, output } => {
                format!("{failures} probes in a row failed, the last one with: {}", output.trim())
            }
            Health::Starting => "no probe has passed yet".to_owned(),
            Health::Unchecked | Health::Healthy => "it runs".to_owned(),
        },
        Phase::Restarting { exit: ended, .. } => format!("{}, and is to be restarted", exit(ended)),
        Phase::Exited { exit: ended } => exit(ended),
    }
}

fn update_container(host: &LinuxHost<'_>, id: &ContainerId, wanted: &Container, endpoints: &[Endpoint]) -> Result {
    let failed = |error: runtime::engine::EngineError| HostError::new(format!("update {id}"), error);
    let places = host.engine.places();
    let before = container::inspect(places, id).map_err(|error| failed(error.into()))?.config;
    let updatable = config::updatable(wanted);
    if before.updatable != updatable {
        container::update(places, id, &updatable).map_err(|error| failed(error.into()))?;
    }
    let network = config::network(wanted, endpoints);
    if before.network != network && !matches!(network, NetworkConfig::Host | NetworkConfig::None) {
        host.engine.reconnect_container(id, &network).map_err(failed)?;
    }
    host.engine.annotate_container(id, host.applied(Kind::Container, &id.name, wanted)).map_err(failed)
}

fn repair_container(host: &LinuxHost<'_>, id: &ContainerId, fault: &ContainerFault) -> Result {
    match mend(host, id, fault) {
        // It ended meanwhile, and with it what was to be mended.
        Err(error) => match container::inspect(host.engine.places(), id) {
            Ok(now) if !matches!(now.state.phase, Phase::Running { .. }) => Ok(()),
            Ok(_) | Err(_) => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

fn mend(host: &LinuxHost<'_>, id: &ContainerId, fault: &ContainerFault) -> Result {
    let failed = |error: runtime::engine::EngineError| HostError::new(format!("repair {id}"), error);
    match fault {
        ContainerFault::Limits { .. } => {
            let config = container::inspect(host.engine.places(), id).map_err(|error| failed(error.into()))?.config;
            container::update(host.engine.places(), id, &config.updatable).map(drop).map_err(|error| failed(error.into()))
        }
        ContainerFault::Link { .. } => host.engine.repair_links(id).map_err(failed),
        ContainerFault::Ports { .. } => host.engine.rebuild_traffic().map_err(failed),
        ContainerFault::Shim => host.engine.adopt_container(id).map(drop).map_err(failed),
    }
}
