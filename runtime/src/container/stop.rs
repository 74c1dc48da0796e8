//! `stop`, `kill`, `restart`: verbs that a living shim carries out. A dead one is replaced first.

use super::client::{self, ANSWER_MAX};
use super::document::read_config;
use super::error::ContainerError;
use super::file;
use super::list::{STOPPED, read_state};
use super::lock;
use super::start::{adopt_locked, shim_lives, start_locked};
use super::state::{ContainerState, Phase};
use crate::places::Places;
use crate::shim::protocol::Request;
use spec::value::{ContainerId, Signal};
use std::fs::File;
use std::time::Duration;

/// What SIGKILL may take beyond the grace: the kernel tears down the container's memory and mounts.
const KILL_MAX: Duration = Duration::from_secs(30);

/// Whose wish a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopBy {
    /// A user's: it lasts, across a reboot too, until [`super::start()`].
    User,
    /// A plan's, which goes on with the container: nothing is remembered.
    Plan,
}

/// Stops the container: its stop signal, grace, SIGKILL to all of it. Returns when the process is gone; fine if it did not run.
///
/// `grace`: the container's own if `None`.
pub fn stop(places: &Places, id: &ContainerId, grace: Option<Duration>, by: StopBy) -> Result<ContainerState, ContainerError> {
    let config = read_config(places, id)?;
    match by {
        StopBy::User => remember_stopped(places, id)?,
        StopBy::Plan => {}
    }
    let patience = grace.unwrap_or(config.stop_grace) + KILL_MAX;
    ask_living(places, id, &Request::Stop { grace_ms: grace.map(milliseconds) }, patience)
}

/// Sends a signal to the container's first process. SIGKILL, or its stop signal, count as a stop by the user, as with docker.
///
/// Errors: [`ContainerError::NotRunning`].
pub fn kill(places: &Places, id: &ContainerId, signal: Signal) -> Result<ContainerState, ContainerError> {
    read_config(places, id)?;
    let state = ask_living(places, id, &Request::Kill { signal }, ANSWER_MAX)?;
    match state.phase {
        Phase::Running { .. } => Ok(state),
        Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => Err(ContainerError::NotRunning { id: id.clone() }),
    }
}

/// Stops the container if it runs and starts it again, in its namespaces and with its addresses; starts it if it did not run.
pub fn restart(places: &Places, id: &ContainerId, grace: Option<Duration>) -> Result<ContainerState, ContainerError> {
    let config = read_config(places, id)?;
    let held = lock::lock(places, id)?;
    let state = adopt_locked(places, id, &held)?;
    match state.phase {
        Phase::Created | Phase::Exited { .. } => start_locked(places, id, &held),
        Phase::Running { .. } | Phase::Restarting { .. } => {
            drop(held);
            let patience = grace.unwrap_or(config.stop_grace) + KILL_MAX;
            client::ask(places, id, &Request::Restart { grace_ms: grace.map(milliseconds) }, Some(patience))
        }
    }
}

/// Asks the container's shim, a new one if it is dead. Without anything to watch over the answer is the state as it is.
fn ask_living(places: &Places, id: &ContainerId, request: &Request, patience: Duration) -> Result<ContainerState, ContainerError> {
    let state = {
        let held = lock::lock(places, id)?;
        adopt_locked(places, id, &held)?
    };
    match state.phase {
        Phase::Created | Phase::Exited { .. } => return Ok(state),
        Phase::Running { .. } | Phase::Restarting { .. } => {}
    }
    match client::ask(places, id, request, Some(patience)) {
        // It exited, and its shim ended, between the two lines above.
        Err(ContainerError::Shim { .. }) if !shim_lives(&read_state(places, id)?) => read_state(places, id),
        answer => answer,
    }
}

/// Notes that the user wants it down. Before anything else is done, so that a restart policy cannot come between.
fn remember_stopped(places: &Places, id: &ContainerId) -> Result<(), ContainerError> {
    let directory = places.container(id);
    let path = directory.join(STOPPED);
    let file = File::create(&path).map_err(ContainerError::file("create", &path))?;
    file.sync_all().map_err(ContainerError::file("sync", &path))?;
    file::sync_directory(&directory)
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
