//! A container as a manifest wants it and an image as it describes itself, made into what the runtime runs. Mechanical: what
//! wins over what is Docker's, and nothing is chosen here.

use runtime::container::config::{
    ContainerConfig, Endpoint, IdMapping, MountConfig, NetworkConfig, Process, ResourceLimits, SeccompProfile, Updatable,
};
use runtime::image::config::{Healthcheck, RunConfig};
use runtime::image::store::Image;
use spec::desired::{Container, HealthCheck, NetworkMode};
use spec::value::{ContainerId, MountTarget, Signal, UserSpec};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Ids of a user namespace: those that distributions give the first unprivileged user, subuid(5).
const USER_NAMESPACE: IdMapping = IdMapping { first: 100_000, count: 65_536 };

/// Docker's defaults for what a health check leaves open.
const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBE_RETRIES: u32 = 3;

/// Why an image and a container do not make a process.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither names a program.
    #[error("neither the manifest nor the image names a command")]
    NoCommand,
    /// The image's own configuration is not usable.
    #[error("the image's {field} {value:?}: {problem}")]
    Image {
        /// Which part.
        field: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Everything that is known when a container is made.
pub struct Parts<'a> {
    /// Its identity.
    pub id: &'a ContainerId,
    /// The manifest's side.
    pub wanted: &'a Container,
    /// The image's side.
    pub image: &'a Image,
    /// Its places on networks.
    pub endpoints: &'a [Endpoint],
    /// Its mounts, resolved to paths of the host.
    pub mounts: Vec<MountConfig>,
}

/// The configuration of a container.
pub fn container_config(parts: Parts<'_>) -> Result<ContainerConfig, ConfigError> {
    let Parts { id, wanted, image, endpoints, mut mounts } = parts;
    let defaults = &image.config.config;
    mounts.sort_by(|a, b| a.target().as_str().cmp(b.target().as_str()));
    Ok(ContainerConfig {
        id: id.clone(),
        image: image.id,
        layers: image.layers.clone(),
        process: process(wanted, defaults)?,
        hostname: wanted.hostname.clone(),
        read_only_root: wanted.security.read_only_root,
        mounts,
        user_namespace: wanted.security.user_namespace.then_some(USER_NAMESPACE),
        network: network(wanted, endpoints),
        stop_signal: stop_signal(wanted, defaults)?,
        stop_grace: wanted.stop.grace,
        health: health(wanted.healthcheck.as_ref(), defaults.healthcheck.as_ref()),
        logs: wanted.logs.clone(),
        tty: wanted.tty,
        stdin_open: wanted.stdin_open,
        updatable: updatable(wanted),
    })
}

/// The part that may change while it runs.
pub fn updatable(wanted: &Container) -> Updatable {
    let limits = &wanted.resources;
    Updatable {
        resources: ResourceLimits { memory: limits.memory, cpus: limits.cpus, pids: limits.pids },
        restart: wanted.restart,
        labels: wanted.labels.clone(),
    }
}

/// How it is connected.
pub fn network(wanted: &Container, endpoints: &[Endpoint]) -> NetworkConfig {
    match &wanted.network {
        NetworkMode::Networks(_) => NetworkConfig::Bridged { endpoints: endpoints.to_vec(), ports: wanted.ports.clone() },
        NetworkMode::Host => NetworkConfig::Host,
        NetworkMode::None => NetworkConfig::None,
    }
}

/// Directories the image declares as volumes and nothing is mounted on.
pub fn anonymous_volumes(wanted: &Container, image: &Image) -> Result<Vec<MountTarget>, ConfigError> {
    let declared = image.config.config.volumes.keys().map(|path| {
        path.parse::<MountTarget>().map_err(|error| ConfigError::Image { field: "volume", value: path.clone(), problem: error.problem })
    });
    let declared = declared.collect::<Result<Vec<_>, _>>()?;
    Ok(declared.into_iter().filter(|target| !wanted.mounts.iter().any(|mount| mount.target() == target)).collect())
}

fn process(wanted: &Container, image: &RunConfig) -> Result<Process, ConfigError> {
    let user = match &wanted.user {
        Some(user) => Some(user.clone()),
        None if image.user.is_empty() => None,
        None => Some(parse::<UserSpec>("user", &image.user)?),
    };
    let mut env: BTreeMap<String, String> =
        image.env.iter().filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    env.extend(wanted.env.clone());
    let working_dir = wanted.working_dir.clone().unwrap_or_else(|| image.working_dir.clone());
    Ok(Process {
        args: args(wanted, image)?,
        env,
        working_dir: if working_dir.is_empty() { "/".to_owned() } else { working_dir },
        user,
        capabilities: wanted.security.capabilities.clone(),
        no_new_privileges: wanted.security.no_new_privileges,
        seccomp: SeccompProfile::Default,
        rlimits: BTreeMap::new(),
    })
}

/// An entrypoint of the manifest clears the image's command, as `docker run --entrypoint` does.
fn args(wanted: &Container, image: &RunConfig) -> Result<Vec<String>, ConfigError> {
    let (entrypoint, inherited) = match &wanted.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), None),
        None => (image.entrypoint.clone().unwrap_or_default(), image.cmd.clone()),
    };
    let command = wanted.command.clone().or(inherited).unwrap_or_default();
    let args: Vec<String> = entrypoint.into_iter().chain(command).collect();
    if args.is_empty() { Err(ConfigError::NoCommand) } else { Ok(args) }
}

fn stop_signal(wanted: &Container, image: &RunConfig) -> Result<Signal, ConfigError> {
    match (wanted.stop.signal, image.stop_signal.as_deref()) {
        (Some(signal), _) => Ok(signal),
        (None, Some(text)) if !text.is_empty() => parse("stop signal", text),
        (None, _) => Ok(Signal::TERM),
    }
}

/// The manifest's probe, else the image's; an empty test switches the image's off.
fn health(wanted: Option<&HealthCheck>, image: Option<&Healthcheck>) -> Option<HealthCheck> {
    match (wanted, image) {
        (Some(check), _) => (!check.test.is_empty()).then(|| check.clone()),
        (None, Some(check)) => image_health(check),
        (None, None) => None,
    }
}

fn image_health(check: &Healthcheck) -> Option<HealthCheck> {
    let test = match check.test.split_first()? {
        (first, rest) if first == "CMD" => rest.to_vec(),
        (first, rest) if first == "CMD-SHELL" => vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.first()?.clone()],
        _ => return None,
    };
    let span = |nanoseconds: i64, default| u64::try_from(nanoseconds).ok().filter(|n| *n > 0).map_or(default, Duration::from_nanos);
    Some(HealthCheck {
        test,
        interval: span(check.interval, PROBE_EVERY),
        timeout: span(check.timeout, PROBE_EVERY),
        retries: u32::try_from(check.retries).ok().filter(|n| *n > 0).unwrap_or(PROBE_RETRIES),
        start_period: span(check.start_period, Duration::ZERO),
    })
}

fn parse<T: std::str::FromStr<Err = spec::value::ValueError>>(field: &'static str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error: spec::value::ValueError| ConfigError::Image { field, value: text.to_owned(), problem: error.problem })
}

/// Where the data of a container's anonymous volume lies: with the container, and gone with it.
pub fn anonymous_volume(container: PathBuf, target: &MountTarget) -> PathBuf {
    container.join("volumes").join(spec::value::Digest::of(target.as_str().as_bytes()).short())
}
