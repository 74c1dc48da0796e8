//! `start` and `adopt`: puts a shim beside a container. The shim does the rest.

use super::attach::Seat;
use super::client::{self, ANSWER_MAX};
use super::create::make_directory;
use super::document::read_config;
use super::error::ContainerError;
use super::list::{STOPPED, read_state, running_process};
use super::liveness::{self, Liveness};
use super::lock::{self, Lock};
use super::state::{ContainerState, Phase};
use crate::places::Places;
use crate::shim::fifo;
use crate::shim::protocol::{LINE_BYTES_MAX, Reply, Request};
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec};
use spec::value::ContainerId;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take: filling a large volume from the image is part of it.
const START_MAX: Duration = Duration::from_secs(120);

/// What a new shim is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Start,
    StartAttended,
    Adopt,
}

/// Makes the run directory with the pipes. The caller then pins the network namespace there, before [`start`]. Idempotent.
pub fn prepare(places: &Places, id: &ContainerId) -> Result<(), ContainerError> {
    let run = places.container_run(id);
    make_directory(&run)?;
    for name in ["stdout", "stderr"] {
        let pipe = run.join(name);
        fifo::ensure(&pipe).map_err(ContainerError::file("make pipe", pipe))?;
    }
    Ok(())
}

/// Runs the container, and forgets that a user stopped it. Does nothing if it runs already; adopts it if only its shim is dead.
/// With [`super::config::NetworkConfig::Bridged`] its namespace must be pinned at `<container_run>/netns`.
///
/// Returns when its program runs. Errors: [`ContainerError::StartFailed`] says which step failed on what.
pub fn start(places: &Places, id: &ContainerId) -> Result<ContainerState, ContainerError> {
    let lock = lock::lock(places, id)?;
    start_locked(places, id, &lock)
}

pub(super) fn start_locked(places: &Places, id: &ContainerId, lock: &Lock) -> Result<ContainerState, ContainerError> {
    start_before(places, id, lock, None)
}

/// The same before the eyes of a client, who takes his seat only if a process is started here and now.
pub(super) fn start_before(
    places: &Places,
    id: &ContainerId,
    lock: &Lock,
    seat: Option<&mut Seat<'_>>,
) -> Result<ContainerState, ContainerError> {
    read_config(places, id)?;
    clear_stopped(places, id)?;
    prepare(places, id)?;
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        let state = read_state(places, id)?;
        let runs = running_process(&state).is_some();
        if !shim_lives(&state) {
            return match seat {
                _ if runs => spawn(places, id, lock, Task::Adopt, Stdio::null()),
                None => spawn(places, id, lock, Task::Start, Stdio::null()),
                Some(seat) => spawn(places, id, lock, Task::StartAttended, seat.take(&places.container_run(id))?.into()),
            };
        }
        match state.phase {
            Phase::Running { .. } if runs => return Ok(state),
            // Whoever starts it does not want to wait for the back-off.
            Phase::Restarting { .. } => return client::ask(places, id, &Request::Restart { grace_ms: None }, Some(START_MAX)),
            // Its shim is about to see that it has ended, or to end itself.
            Phase::Created | Phase::Running { .. } | Phase::Exited { .. } if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Phase::Created | Phase::Running { .. } | Phase::Exited { .. } => {
                return Err(ContainerError::Silent { id: id.clone(), waited_s: ANSWER_MAX.as_secs() });
            }
        }
    }
}

/// Gives a container whose shim is dead a new one, which goes on where the old one was: logs, probes, policy, a pending restart.
/// Does nothing if its shim lives, or if there is nothing to watch over.
pub fn adopt(places: &Places, id: &ContainerId) -> Result<ContainerState, ContainerError> {
    let lock = lock::lock(places, id)?;
    adopt_locked(places, id, &lock)
}

pub(super) fn adopt_locked(places: &Places, id: &ContainerId, lock: &Lock) -> Result<ContainerState, ContainerError> {
    let state = read_state(places, id)?;
    if shim_lives(&state) {
        return Ok(state);
    }
    match state.phase {
        Phase::Created | Phase::Exited { .. } => Ok(state),
        Phase::Running { .. } | Phase::Restarting { .. } => {
            prepare(places, id)?;
            spawn(places, id, lock, Task::Adopt, Stdio::null())
        }
    }
}

/// Whether the shim that wrote this state lives.
pub(super) fn shim_lives(state: &ContainerState) -> bool {
    state.shim.is_some_and(|shim| liveness::of(shim) == Liveness::Alive)
}

fn clear_stopped(places: &Places, id: &ContainerId) -> Result<(), ContainerError> {
    let path = places.container(id).join(STOPPED);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ContainerError::file("remove", path)(error)),
    }
}

/// Starts a shim, which reads from `stdin` who attends the start, if anybody does. It shares the lock until it is there: if we are
/// killed meanwhile, whoever comes next waits for it and does not start another one, or remove the container from under it.
fn spawn(places: &Places, id: &ContainerId, lock: &Lock, task: Task, stdin: Stdio) -> Result<ContainerState, ContainerError> {
    let path = shim_executable();
    let unusable = |source| ContainerError::ShimUnusable { path: path.clone(), source };
    let mut arguments: Vec<OsString> =
        vec!["monitor".into(), places.state.clone().into(), places.run.clone().into(), id.to_string().into()];
    match task {
        Task::Start => {}
        Task::StartAttended => arguments.push("--attend".into()),
        Task::Adopt => arguments.push("--adopt".into()),
    }
    // What our own caller left open for us, say a lock of flock(1), would be the shim's as long as the container lives.
    sys::close_on_exec_from(3).map_err(unusable)?;
    let mut child = Command::new(&path)
        .args(arguments)
        .env_clear()
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(lock.share().map_err(unusable)?)
        .spawn()
        .map_err(unusable)?;
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    // What was spawned only forks the shim and ends.
    child.wait().map_err(unusable)?;
    let answer = read_answer(stdout, id)?;
    match serde_json::from_slice(&answer) {
        Ok(Reply::State { state }) => Ok(state),
        Ok(Reply::Error { problem }) => Err(ContainerError::StartFailed { id: id.clone(), problem }),
        Err(_) => Err(ContainerError::StartFailed { id: id.clone(), problem: "the shim died while starting it".to_owned() }),
    }
}

/// Reads the one line a new shim writes, until its end or the time limit.
fn read_answer(mut pipe: ChildStdout, id: &ContainerId) -> Result<Vec<u8>, ContainerError> {
    let broken = |source| ContainerError::Shim { id: id.clone(), source };
    let deadline = Instant::now() + START_MAX;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(b"\n") && answer.len() < LINE_BYTES_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("two minutes fit");
        match rustix::event::poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(ContainerError::Silent { id: id.clone(), waited_s: START_MAX.as_secs() }),
            Ok(_) => match pipe.read(&mut buffer).map_err(broken)? {
                0 => break,
                length => answer.extend_from_slice(&buffer[..length]),
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(broken(error.into())),
        }
    }
    Ok(answer)
}

/// The shim's program: `AGENT_SHIM`, else `container-shim` beside the running program, or, for test programs, which cargo puts
/// into a directory `deps`, one further up.
pub fn shim_executable() -> PathBuf {
    if let Some(path) = std::env::var_os("AGENT_SHIM") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    let mut directory = own.parent().unwrap_or(&own);
    if directory.ends_with("deps") {
        directory = directory.parent().unwrap_or(directory);
    }
    directory.join("container-shim")
}
