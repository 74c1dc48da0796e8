//! RUN: one process in a container of its own, whose changes become a layer.
//!
//! The process is started by the shim program (`container-shim run <bundle.json>`), never by us: it forks in ways that only a
//! single-threaded program may.

use super::Layering;
use super::mount::{self, Means, Mount};
use super::mount_point;
use super::process;
use super::source::{From, Identity};
use crate::builder::build::Build;
use crate::builder::cache_mount::CacheMounts;
use crate::builder::error::StepError;
use crate::builder::file::{CommandLine, Run, RunNetwork, heredoc_word};
use crate::builder::given::Redaction;
use crate::builder::state::State;
use crate::builder::step::metadata;
use crate::builder::words::Lexer;
use crate::builder::{BuildRequest, HostNetwork};
use crate::container::config::{ContainerConfig, MountConfig, NetworkConfig, Process, ResourceLimits, SeccompProfile, Updatable};
use crate::network::InUse;
use crate::shim::bundle::{self, RunBundle};
use crate::store::{FileError, Scratch, ScratchSpace};
use spec::desired::LogLimits;
use spec::value::{ByteSize, Capability, ContainerId, Digest, MountTarget, RestartPolicy, Signal};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Where a heredoc that is a script of its own is found, as in BuildKit.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// What commands call the host they are on, as in BuildKit: what they write down of it is the same everywhere.
const HOSTNAME: &str = "buildkitsandbox";

/// What a RUN step is, after its heredocs are put in place.
pub(crate) struct Prepared {
    /// Program and arguments.
    pub args: Vec<String>,
    /// A script that has to be there: name and text.
    pub script: Option<(String, String)>,
    /// What it finds besides its image.
    pub mounts: Vec<Mount>,
    network: RunNetwork,
}

/// Puts shell and heredocs together.
pub(crate) fn prepare(state: &State, run: &Run, request: &BuildRequest, escape: char) -> Result<Prepared, StepError> {
    let lexer = Lexer::new(escape);
    let numbered = run.mounts.iter().enumerate();
    let mounts = numbered.map(|(position, text)| mount::parse(text, position, state, &lexer)).collect::<Result<Vec<_>, _>>()?;
    let with_shell = |text: String| metadata::shell(state).into_iter().chain([text]).collect();
    let (args, script) = match (&run.command, run.heredocs.as_slice()) {
        (CommandLine::Exec(words), _) if words.is_empty() => return Err(StepError::Invalid("RUN [] runs nothing".to_owned())),
        (CommandLine::Exec(words), _) => (words.clone(), None),
        (CommandLine::Shell(text), []) => (with_shell(text.clone()), None),
        (CommandLine::Shell(text), [only]) if heredoc_word(text.trim()).is_some() => {
            if only.content.starts_with("#!") {
                let script = (only.name.clone(), only.content.clone());
                (with_shell(format!("{SCRIPT_DIRECTORY}/{}", only.name)), Some(script))
            } else {
                (with_shell(only.content.clone()), None)
            }
        }
        (CommandLine::Shell(text), heredocs) => {
            let bodies = heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.raw, heredoc.name));
            (with_shell(text.clone() + &bodies.collect::<String>()), None)
        }
    };
    let network = match (run.network, request.network, request.host_network) {
        (RunNetwork::Default, network, _) => network,
        (RunNetwork::None, ..) => RunNetwork::None,
        (RunNetwork::Host, RunNetwork::Host, _) | (RunNetwork::Host, _, HostNetwork::Allow) => RunNetwork::Host,
        (RunNetwork::Host, _, HostNetwork::Refuse) => return Err(StepError::HostNetwork),
    };
    Ok(Prepared { args, script, network, mounts })
}

/// The cache key: everything the result may depend on, mounts by what they are known by. Proxies say how, not what.
pub(crate) fn key(state: &State, run: &Prepared, sources: &[From<'_>], identity: Identity<'_>) -> Result<Digest, StepError> {
    let mut key = state.key("run");
    key.texts(run.args.iter().map(String::as_str));
    let environment = state.scope.run_environment();
    key.texts(environment.keys().map(String::as_str)).texts(environment.values().map(String::as_str));
    key.text(state.working_dir()).text(&state.config.config.user);
    key.text(match run.network {
        RunNetwork::Default => "default",
        RunNetwork::None => "none",
        RunNetwork::Host => "host",
    });
    if let Some((name, text)) = &run.script {
        key.text(name).text(text);
    }
    for (mount, from) in run.mounts.iter().zip(sources) {
        mount::key(&mut key, mount, from, identity)?;
    }
    Ok(key.finish())
}

/// What a RUN step is carried out with.
pub(crate) struct Surroundings<'a> {
    /// Where its changes go.
    pub layering: &'a Layering,
    /// What its mounts take from, one for one.
    pub sources: &'a [From<'a>],
    /// Proxies it sees and that are not part of it.
    pub proxies: BTreeMap<String, String>,
    /// The build it belongs to.
    pub build: &'a Build<'a>,
}

/// Runs it on top of the stage's layers.
pub(crate) fn execute(
    state: &State,
    run: &Prepared,
    surroundings: Surroundings<'_>,
    output: &mut dyn FnMut(&str),
) -> Result<(), StepError> {
    let Surroundings { layering, sources, proxies, build } = surroundings;
    let request = build.request;
    // What must not reach a disk: secrets, and variables that hold some.
    let memory = ScratchSpace::open(&request.places.run.join("builds"))?.create()?;
    let caches = CacheMounts::of(build.store);
    let Layering { scratch, empty, .. } = layering;
    let is_wanted = || !build.schedule.is_stopped();
    let means = Means { caches: &caches, given: &request.given, scratch, memory: &memory, empty, is_wanted: &is_wanted };
    let held = mount::hold(&run.mounts, sources, &means)?;
    let mut config = container(state, run, layering, proxies)?;
    config.process.env.extend(held.variables.clone());
    if let Some(socket) = &held.agent {
        config.process.env.entry("SSH_AUTH_SOCK".to_owned()).or_insert_with(|| socket.clone());
    }
    let sandbox = match run.network {
        RunNetwork::Default => Some(build.sandboxes.take()?),
        RunNetwork::None | RunNetwork::Host => None,
    };
    config.mounts.extend(held.mounts.iter().cloned());
    // Parents before children.
    config.mounts.sort_by(|a, b| a.target().as_str().cmp(b.target().as_str()));
    let bundle = RunBundle {
        state: request.places.state.clone(),
        control_group: config.id.name.to_string(),
        config,
        directory: scratch.path().to_owned(),
        network_namespace: sandbox.as_ref().map(InUse::path),
    };
    let path = bundle::write(memory.path(), &bundle).map_err(|error| StepError::Bundle(Box::new(error)))?;
    let redaction = Redaction::of(run.mounts.iter().filter_map(|mount| match mount {
        Mount::Secret { id, .. } => request.given.secrets.get(id),
        Mount::Tmpfs { .. } | Mount::Cache { .. } | Mount::Bind { .. } | Mount::Ssh { .. } => None,
    }));
    let process::Ended { code, last_lines } = process::run(build, &path, &redaction, output)?;
    if build.schedule.is_stopped() {
        return Err(StepError::Stopped);
    }
    if code != 0 {
        return Err(StepError::Exit { command: run.args.clone(), code, output: last_lines });
    }
    mount_point::remove(layering, &state.layers, &run.mounts.iter().filter_map(Mount::target).collect::<Vec<_>>())
}

fn container(state: &State, run: &Prepared, layering: &Layering, proxies: BTreeMap<String, String>) -> Result<ContainerConfig, StepError> {
    let invalid = |error: spec::value::ValueError| StepError::Invalid(error.to_string());
    let mut env = state.scope.run_environment();
    env.extend(proxies);
    let user = Some(state.config.config.user.as_str()).filter(|user| !user.is_empty()).map(str::parse).transpose().map_err(invalid)?;
    let layers = if state.layers.is_empty() { vec![layering.empty.clone()] } else { state.layers.clone() };
    Ok(ContainerConfig {
        id: id_of(&layering.scratch).map_err(invalid)?,
        image: Digest::of(b""),
        layers,
        process: Process {
            args: run.args.clone(),
            env,
            working_dir: state.working_dir().to_owned(),
            user,
            capabilities: Capability::DOCKER_DEFAULT.into_iter().collect(),
            no_new_privileges: false,
            seccomp: SeccompProfile::Default,
            rlimits: BTreeMap::new(),
        },
        hostname: HOSTNAME.to_owned(),
        read_only_root: false,
        mounts: script_mounts(run, &layering.scratch)?,
        user_namespace: None,
        network: match run.network {
            RunNetwork::Default => NetworkConfig::Bridged { endpoints: Vec::new(), ports: Vec::new() },
            RunNetwork::None => NetworkConfig::None,
            RunNetwork::Host => NetworkConfig::Host,
        },
        stop_signal: Signal::TERM,
        stop_grace: Duration::from_secs(10),
        health: None,
        // A build's output is passed on, not kept by the shim.
        logs: LogLimits { max_size: ByteSize::from_bytes(10 << 20), max_files: 1 },
        tty: false,
        stdin_open: false,
        updatable: Updatable { resources: ResourceLimits::default(), restart: RestartPolicy::No, labels: BTreeMap::new() },
    })
}

/// An id that no other step on this host has: its scratch directory's name. A process id would not do, other namespaces have it too.
fn id_of(scratch: &Scratch) -> Result<ContainerId, spec::value::ValueError> {
    let name = scratch.path().file_name().unwrap_or_default().to_string_lossy();
    format!("build-{name}@1").parse()
}

/// A heredoc with its own `#!` is a file the container finds.
fn script_mounts(run: &Prepared, scratch: &Scratch) -> Result<Vec<MountConfig>, StepError> {
    let Some((name, text)) = &run.script else { return Ok(Vec::new()) };
    let directory: PathBuf = scratch.subdirectory("pipes")?;
    // The name is the heredoc's word: it must not lead anywhere.
    if name.contains('/') || name == "." || name == ".." {
        return Err(StepError::Invalid(format!("heredoc name {name:?} is not a file name")));
    }
    let path = directory.join(name);
    fs::write(&path, text).map_err(FileError::of("write", &path))?;
    rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o755)).map_err(FileError::of("chmod", &path))?;
    let target: MountTarget = SCRIPT_DIRECTORY.parse().map_err(|error: spec::value::ValueError| StepError::Invalid(error.to_string()))?;
    Ok(vec![MountConfig::Bind { source: directory, target, read_only: true, copy_up: false }])
}
