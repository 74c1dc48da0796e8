//! The first process of a container: what its starter does, and the init stage up to the program.
//!
//! ```text
//! starter                                   init stage (pid 1 of its namespaces)
//! cgroup, files, mounts opened detached
//! clone3 ─────────────────────────────────► enter cgroup, session, loopback
//! [user namespace: maps, mounts opened] ──► [receive them]
//!                                           root file system, host name
//!                                           user, limits, streams, capabilities, filter
//! Ready ◄────────────────────────────────── Ready, exec
//! closed: it runs
//! ```

use super::channel::{Channel, Packet};
use super::error::{During, StartError, Step};
use super::launch::{Launch, MissingDirectory, Streams, launch};
use super::namespace::Visit;
use super::request::{StartRequest, Started, Stdio};
use super::spawn::{Embryo, spawn};
use crate::container::config::{ContainerConfig, IdMapping, NetworkConfig};
use crate::rootfs::{Assembly, Sources, assemble, check_hostname, prepare};
use crate::seccomp;
use crate::sys::{self, Namespaces};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use std::convert::Infallible;
use std::io;

/// Starts the first process of a container and returns once its program runs.
///
/// Nothing is left of a failed start but the control group, the generated files and what the image's root was given as mount targets.
/// The caller must have one thread. After an error of [`Step::EnterNamespace`] named "back", it should end.
pub fn start(request: &StartRequest<'_>) -> Result<Started, StartError> {
    let config = request.config;
    check_hostname(&config.hostname).during(Step::Hostname, format_args!("{:?}", config.hostname))?;
    let cgroup = request.cgroup;
    let entrance = cgroup.ensure(&config.updatable.resources).and_then(|()| cgroup.entrance()).map_err(io::Error::other);
    let entrance = entrance.during(Step::Cgroup, &config.id)?;
    prepare(config, request.directory)?;
    let early = match config.user_namespace {
        None => Some(Sources::open(config, request.directory, cgroup, None)?),
        Some(_) => None,
    };
    let filter = seccomp::compile(config.process.seccomp, &config.process.capabilities);
    let visit = enter_network(request)?;
    let embryo = spawn(namespaces(config), &entrance, |channel| init(request, early, filter.as_ref(), channel));
    if let Some(visit) = visit {
        visit.leave()?;
    }
    let embryo = embryo?;
    match config.user_namespace {
        None => embryo.follow(),
        Some(mapping) => match furnish(request, &embryo, mapping) {
            Ok(()) => embryo.follow(),
            Err(error) => Err(embryo.abandon(error)),
        },
    }
}

fn namespaces(config: &ContainerConfig) -> Namespaces {
    let network = if config.network == NetworkConfig::None { Namespaces::NETWORK } else { Namespaces::NONE };
    let user = if config.user_namespace.is_some() { Namespaces::USER } else { Namespaces::NONE };
    Namespaces::CONTAINER.and(network).and(user)
}

/// A bridged container is born in its network: a process in a user namespace could not join it later.
fn enter_network(request: &StartRequest<'_>) -> Result<Option<Visit>, StartError> {
    match (&request.config.network, request.network_namespace) {
        (NetworkConfig::Host | NetworkConfig::None, _) => Ok(None),
        (NetworkConfig::Bridged { .. }, None) => {
            Err(io::Error::from(io::ErrorKind::NotFound)).during(Step::EnterNamespace, "network (none was given)")
        }
        (NetworkConfig::Bridged { .. }, Some(path)) => {
            let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let opened = opened.during(Step::EnterNamespace, path.display())?;
            Visit::network(opened.as_fd(), path).map(Some)
        }
    }
}

/// Gives a process in a new user namespace its ids, and the mounts that need to know them.
fn furnish(request: &StartRequest<'_>, embryo: &Embryo, mapping: IdMapping) -> Result<(), StartError> {
    let process = format!("/proc/{}", embryo.pid);
    for map in ["uid_map", "gid_map"] {
        let path = format!("{process}/{map}");
        std::fs::write(&path, format!("0 {} {}", mapping.first, mapping.count)).during(Step::MapIds, path)?;
    }
    let path = format!("{process}/ns/user");
    let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(Step::MapIds, path)?;
    let sources = Sources::open(request.config, request.directory, request.cgroup, Some(namespace.as_fd()))?;
    let sent = embryo.channel.send(&Packet::Descriptors(sources.into_descriptors()));
    sent.and_then(|()| embryo.channel.send(&Packet::Ready)).during(Step::Handshake, "")
}

/// The child's side; ends in the program.
fn init(
    request: &StartRequest<'_>,
    early: Option<Sources>,
    filter: Option<&seccomp::Program>,
    channel: &Channel,
) -> Result<Infallible, StartError> {
    let config = request.config;
    sys::reset_signals();
    rustix::process::umask(Mode::empty());
    let sources = match early {
        Some(sources) => sources,
        None => receive(request, channel)?,
    };
    // Whoever started us may die in the middle: nothing half-made shall live on. Taken back just before the program.
    set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Clone, "")?;
    setsid().during(Step::Clone, "session")?;
    // Without keyrings in the kernel there is nothing to leave; when the host's quota of keys is used up, the filter refuses their use.
    let _ = sys::join_new_session_keyring();
    sys::unshare_control_group().during(Step::Clone, "cgroup namespace")?;
    if config.network == NetworkConfig::None {
        sys::bring_up_loopback().during(Step::Loopback, "lo")?;
    }
    let terminal = matches!(request.stdio, Stdio::Terminal(_));
    let (root, terminal) = assemble(Assembly { config, terminal }, sources)?;
    if config.network != NetworkConfig::Host {
        rustix::system::sethostname(config.hostname.as_bytes()).during(Step::Hostname, &config.hostname)?;
    }
    let process = &config.process;
    let program = Launch {
        args: &process.args,
        env: &process.env,
        hostname: Some(&config.hostname),
        working_dir: &process.working_dir,
        missing_directory: MissingDirectory::Create,
        user: process.user.as_ref(),
        capabilities: &process.capabilities,
        no_new_privileges: process.no_new_privileges,
        filter,
        rlimits: &process.rlimits,
    };
    launch(&program, &root, Streams::new(&request.stdio, terminal)?, channel)
}

/// What a process in a user namespace is sent: then its ids are mapped, and it becomes root of its own.
fn receive(request: &StartRequest<'_>, channel: &Channel) -> Result<Sources, StartError> {
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    loop {
        match channel.receive().during(Step::Handshake, "")? {
            Some(Packet::Descriptors(some)) => descriptors.extend(some),
            Some(Packet::Ready) => break,
            Some(Packet::Terminal(_) | Packet::Failed(_)) | None => {
                return Err(io::Error::other("the starter is gone")).during(Step::Handshake, "");
            }
        }
    }
    super::launch::become_namespace_root()?;
    Sources::from_descriptors(request.config, request.directory, request.cgroup, descriptors).during(Step::Handshake, "")
}
