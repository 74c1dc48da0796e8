//! `remove`: takes away everything there is of a container, in an order that can be interrupted anywhere and begun again.

use super::create::make_directory;
use super::error::ContainerError;
use super::list::{read_state, running_process};
use super::liveness::{self, Liveness};
use super::lock;
use super::state::{Phase, ProcessRef};
use crate::cgroup::Cgroup;
use crate::places::Places;
use crate::process::pidfd;
use crate::shim::monitor::release_namespace;
use spec::value::{ContainerId, Signal};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

/// How long a killed process may take to be gone.
const KILL_MAX: Duration = Duration::from_secs(10);

/// What to do with a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileRunning {
    /// Leave it: [`ContainerError::StillRunning`].
    Refuse,
    /// Kill it, without grace.
    Kill,
}

/// Removes the container. Fine if it is absent or half removed. Its volumes and its image are not its own and stay.
pub fn remove(places: &Places, id: &ContainerId, while_running: WhileRunning) -> Result<(), ContainerError> {
    let _lock = match lock::lock(places, id) {
        Ok(lock) => Some(lock),
        // Interrupted after the lasting directory went: there may be more.
        Err(ContainerError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    // A state that cannot be read must not make it irremovable; its cgroup knows its processes.
    let state = read_state(places, id).ok();
    let process = state.as_ref().and_then(running_process);
    let waits = state.as_ref().is_some_and(|state| matches!(state.phase, Phase::Restarting { .. }));
    let shim = state.and_then(|state| state.shim).filter(|shim| liveness::of(*shim) == Liveness::Alive);
    if while_running == WhileRunning::Refuse && (process.is_some() || (waits && shim.is_some())) {
        return Err(ContainerError::StillRunning { id: id.clone() });
    }
    // The shim first, or it would start the process again.
    for victim in shim.into_iter().chain(process) {
        end(id, victim)?;
    }
    let cgroup = Cgroup::of_container(places, id).map_err(kernel("find control groups", id))?;
    cgroup.kill_all().and_then(|()| cgroup.remove()).map_err(kernel("remove control group", id))?;
    release_namespace(places, id).map_err(ContainerError::kernel("release network namespace", id))?;
    remove_directory(&places.container_run(id))?;
    take_away(places, id)
}

/// Kills a process and waits until it is gone.
fn end(id: &ContainerId, process: ProcessRef) -> Result<(), ContainerError> {
    let Some(held) = pidfd::open(process).map_err(ContainerError::kernel("find process", id))? else { return Ok(()) };
    pidfd::send_signal(held.as_fd(), Signal::KILL).map_err(ContainerError::kernel("kill process", id))?;
    match pidfd::wait(held.as_fd(), Some(KILL_MAX)).map_err(ContainerError::kernel("wait for process", id))? {
        true => Ok(()),
        false => Err(ContainerError::kernel("kill process", id)(io::ErrorKind::TimedOut.into())),
    }
}

/// Renamed first, so that it is there whole or not at all, whatever interrupts the removal of what may be millions of files.
fn take_away(places: &Places, id: &ContainerId) -> Result<(), ContainerError> {
    let directory = places.container(id);
    let rubbish = places.containers().join(format!("old {id} {}", std::process::id()));
    make_directory(&places.containers())?;
    match std::fs::rename(&directory, &rubbish) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ContainerError::file("rename", directory)(error)),
    }
    for entry in std::fs::read_dir(places.containers()).map_err(ContainerError::file("list", places.containers()))?.flatten() {
        // What an interrupted removal left, of this container only: another may be at its own right now.
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&format!("old {id} "))) {
            remove_directory(&entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn remove_directory(path: &Path) -> Result<(), ContainerError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ContainerError::file("remove", path)(error)),
    }
}

fn kernel<E>(action: &'static str, id: &ContainerId) -> impl FnOnce(E) -> ContainerError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let id = id.clone();
    move |source| ContainerError::Kernel { id, action, source: io::Error::other(source) }
}
