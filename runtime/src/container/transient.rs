//! Containers that go with their end, as `run --rm` makes them.
//!
//! ```text
//!  ended for good ──► its shim, which ends too ──► the remover ──► waits for who stays ──► removes it
//! ```
//!
//! A shim knows when its container has ended and cannot remove it: that takes networks, and no shim is to carry what that takes. It
//! runs the program that the container's maker has left for it. What comes to nothing (the power fails, the program is gone, the
//! shim was killed) is made up for by the next holder of the host's lock.

use super::error::ContainerError;
use super::file;
use super::list::inspect;
use super::lock::is_at;
use super::state::Phase;
use crate::places::Places;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use spec::value::ContainerId;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Its name in the directory of the container; there only if the container goes with its end.
pub(super) const REMOVER: &str = "remover.json";

/// The program that removes a container, and its arguments, to which the container's id is added. It is called when the container
/// has ended, may be called twice, and calls [`crate::engine::Engine::remove_ended`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remover(pub Vec<String>);

/// As long as somebody has this, a container that has ended is not removed by itself.
#[derive(Debug)]
pub struct Stay(#[expect(dead_code, reason = "the lock ends with it")] File);

/// Whether those who stay are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileSomebodyStays {
    /// Yes.
    Wait,
    /// No: it is removed when they have gone.
    Leave,
}

/// The right to remove an ended container, until dropped.
pub(crate) struct Leave(#[expect(dead_code, reason = "the lock ends with it")] File);

/// Whether a container goes with its end.
pub fn is_transient(places: &Places, id: &ContainerId) -> bool {
    places.container(id).join(REMOVER).exists()
}

/// Keeps a container from being removed by itself, to read what it wrote or to start it again; waits for a removal that is under way.
/// `None` if it does not go by itself, or is gone.
pub fn stay(places: &Places, id: &ContainerId) -> Result<Option<Stay>, ContainerError> {
    Ok(take(&places.container(id).join(REMOVER), FlockOperation::LockShared)?.map(Stay))
}

/// The right to remove a container that goes with its end and has ended; `None` if it has not, is gone, or somebody stays.
pub(crate) fn leave(places: &Places, id: &ContainerId, others: WhileSomebodyStays) -> Result<Option<Leave>, ContainerError> {
    let operation = match others {
        WhileSomebodyStays::Wait => FlockOperation::LockExclusive,
        WhileSomebodyStays::Leave => FlockOperation::NonBlockingLockExclusive,
    };
    let Some(file) = take(&places.container(id).join(REMOVER), operation)? else { return Ok(None) };
    let has_ended = match inspect(places, id)?.state.phase {
        Phase::Exited { .. } => true,
        // It has a run directory since it was made, but on another boot: whatever it was then, it has ended with it.
        Phase::Created => !places.container_run(id).exists(),
        Phase::Running { .. } | Phase::Restarting { .. } => false,
    };
    Ok(has_ended.then_some(Leave(file)))
}

/// Has a container removed that goes with its end: the last word of its shim, which nobody waits for.
pub(crate) fn send_remover(places: &Places, id: &ContainerId) -> Result<(), ContainerError> {
    let path = places.container(id).join(REMOVER);
    let Some(Remover(command)) = file::read(&path)? else { return Ok(()) };
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let log = places.container_run(id).join("shim.log");
    let log = File::options().append(true).create(true).mode(0o600).open(&log).map_err(ContainerError::file("open", log))?;
    let mut remover = Command::new(program);
    remover.args(arguments).arg(id.to_string()).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    remover.spawn().map(drop).map_err(ContainerError::file("run", program))
}

/// Locks a file that is there, and still there when it is locked; `None` if it is not, or if somebody else has it.
fn take(path: &Path, operation: FlockOperation) -> Result<Option<File>, ContainerError> {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ContainerError::file("open", path)(error)),
        };
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation)) {
            // The container may have been removed, and made again, while we waited.
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) => continue,
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(ContainerError::file("lock", path)(error.into())),
        }
    }
}

/// The right to remove a container, whatever it is; `None` if it is gone. Whoever had it before has finished: what is there now is not
/// what he was about to remove.
pub(crate) fn removal(places: &Places, id: &ContainerId) -> Result<Option<impl Sized + use<>>, ContainerError> {
    take(&places.container(id), FlockOperation::LockExclusive)
}
