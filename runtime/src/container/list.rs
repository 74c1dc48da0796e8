//! `list` and `inspect`: containers as they are, each on its own: one that cannot be read does not hide the others.

use super::config::ContainerConfig;
use super::document::{DOCUMENT, Document};
use super::error::ContainerError;
use super::file::{self, Directory};
use super::liveness::{self, Liveness};
use super::state::{ContainerState, Exit, ExitCause, Phase, ProcessRef, Timestamp};
use crate::places::Places;
use crate::store::small::FilesOf;
use serde::de::DeserializeOwned;
use spec::value::{ContainerId, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// How a container last ended for good: beside its configuration, since the run directory is gone after a boot.
pub(crate) const LAST_EXIT: &str = "exit.json";

/// There if a user stopped it: beside its configuration, as it counts after a boot, too.
pub(crate) const STOPPED: &str = "stopped";

/// What a shim holds locked as long as it lives, in the run directory of its container.
pub(crate) const SHIM_LOCK: &str = "shim.lock";

/// The state of a container without one on this boot.
const NEVER_STARTED: ContainerState = ContainerState { phase: Phase::Created, restarts: 0, shim: None };

/// A container at one moment. `A` is what the caller keeps beside it, as a type of its own where it says which; `C` is as much of
/// its configuration as the caller wants, such as an [`super::config::Outline`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<A = serde_json::Value, C = ContainerConfig> {
    /// When it was made.
    pub created: Timestamp,
    /// What it was told to be.
    pub config: C,
    /// What the caller keeps beside it.
    pub annotations: A,
    /// What it is. A process that is gone is never shown as running.
    pub state: ContainerState,
    /// Whether its shim lives. If not, and the phase is `Running` or `Restarting`, it wants to be adopted.
    pub shim_alive: bool,
    /// How it last ended for good before the host booted; `None` if it never did, or was started since: then `state` says.
    pub last_exit: Option<Exit>,
    /// Whether a user stopped it and it does not run: it is not started again at boot unless its policy is `always`.
    pub stopped_by_user: bool,
}

/// Where all containers' files are, for many looks.
#[derive(Debug)]
pub struct Shelves {
    lasting: Directory,
    passing: Directory,
}

impl Shelves {
    /// Those at these places, whether or not there are containers.
    pub fn open(places: &Places) -> Result<Self, ContainerError> {
        Ok(Self { lasting: Directory::open(places.containers())?, passing: Directory::open(places.containers_run())? })
    }

    /// One container. What is kept beside it is read as `A`, from null if there is nothing.
    ///
    /// Errors: [`ContainerError::NotFound`], [`ContainerError::Corrupt`].
    pub fn inspect<A: DeserializeOwned, C: DeserializeOwned>(&self, id: &ContainerId) -> Result<Snapshot<A, C>, ContainerError> {
        let mut files = FilesOf::new(id);
        let Some(Document { created, config, annotations }) = self.lasting.read(files.path(DOCUMENT))? else {
            return Err(match self.lasting.has(files.directory()) {
                true => ContainerError::file("open", self.lasting.join(files.path(DOCUMENT)))(io::ErrorKind::NotFound.into()),
                false => ContainerError::NotFound { id: id.clone() },
            });
        };
        let recorded = self.passing.read(files.path("state.json"))?.unwrap_or(NEVER_STARTED);
        let mut is_alive = |shim| self.passing.is_locked(files.path(SHIM_LOCK)) || liveness::of(shim) == Liveness::Alive;
        let shim_alive = recorded.shim.is_some_and(&mut is_alive);
        let state = if shim_alive { recorded } else { as_it_is(recorded) };
        let (last_exit, stopped_by_user) = match state.phase {
            Phase::Running { .. } => (None, false),
            Phase::Created => (self.lasting.read(files.path(LAST_EXIT))?, self.lasting.has(files.path(STOPPED))),
            Phase::Restarting { .. } | Phase::Exited { .. } => (None, self.lasting.has(files.path(STOPPED))),
        };
        Ok(Snapshot { created, config, annotations, state, shim_alive, last_exit, stopped_by_user })
    }
}

/// All containers, the unreadable ones with the reason.
pub fn list(places: &Places) -> Result<BTreeMap<ContainerId, Result<Snapshot, ContainerError>>, ContainerError> {
    let shelves = Shelves::open(places)?;
    let snapshots = ids(places)?.into_iter().map(|id| {
        let snapshot = shelves.inspect(&id);
        (id, snapshot)
    });
    // Removed while we looked.
    Ok(snapshots.filter(|(_, snapshot)| !matches!(snapshot, Err(ContainerError::NotFound { .. }))).collect())
}

/// Who there is, without a look at any of them. Directories whose name is no container id are not ours.
pub fn ids(places: &Places) -> Result<BTreeSet<ContainerId>, ContainerError> {
    ids_that(places, |_| true)
}

/// Those of one name.
pub fn incarnations(places: &Places, name: &Name) -> Result<BTreeSet<ContainerId>, ContainerError> {
    ids_that(places, |file| file.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('@')))
}

fn ids_that(places: &Places, matches: impl Fn(&str) -> bool) -> Result<BTreeSet<ContainerId>, ContainerError> {
    let path = places.containers();
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(ContainerError::file("list", path)(error)),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(ContainerError::file("list", &path))?.file_name();
        found.extend(name.to_str().filter(|name| matches(name)).and_then(|name| name.parse::<ContainerId>().ok()));
    }
    Ok(found)
}

/// One container. Errors: [`ContainerError::NotFound`], [`ContainerError::Corrupt`].
pub fn inspect(places: &Places, id: &ContainerId) -> Result<Snapshot, ContainerError> {
    Shelves::open(places)?.inspect(id)
}

/// The state as its shim wrote it; `Created` if there is none on this boot.
pub(crate) fn read_state(places: &Places, id: &ContainerId) -> Result<ContainerState, ContainerError> {
    let recorded = file::read(&places.container_run(id).join("state.json"))?;
    Ok(recorded.unwrap_or(NEVER_STARTED))
}

/// The first process, if it runs.
pub(crate) fn running_process(state: &ContainerState) -> Option<ProcessRef> {
    match &state.phase {
        Phase::Running { process, .. } if liveness::of(*process) == Liveness::Alive => Some(*process),
        Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } | Phase::Exited { .. } => None,
    }
}

/// A record nobody keeps up to date, checked against the processes there are.
fn as_it_is(recorded: ContainerState) -> ContainerState {
    match recorded.phase {
        Phase::Running { process, since, .. } if liveness::of(process) != Liveness::Alive => {
            // When it ended nobody saw; its start keeps the answer the same each time it is asked for.
            let exit = Exit { code: 255, cause: ExitCause::Unknown, started: since, finished: since };
            ContainerState { phase: Phase::Exited { exit }, ..recorded }
        }
        Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } | Phase::Exited { .. } => recorded,
    }
}
