//! One change of a container at a time, across processes: flock on `<container>/lock`, released by the kernel when its holder dies.

use super::error::ContainerError;
use crate::places::Places;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use spec::value::ContainerId;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

/// How long another's change may take: a start with a slow disk, not a stop with a long grace (that holds no lock).
const WAIT_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// The right to change a container, until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// The same right for another process: it lasts until both have let go of it, flock(2).
    pub(super) fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// Takes the lock. Errors: [`ContainerError::NotFound`], [`ContainerError::Locked`].
pub(super) fn lock(places: &Places, id: &ContainerId) -> Result<Lock, ContainerError> {
    let path = places.container(id).join("lock");
    let not_found = || ContainerError::NotFound { id: id.clone() };
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            Err(error) => return Err(ContainerError::file("open", path)(error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The container may have been removed, and made again, while we waited: then this is the lock of nothing.
            Ok(()) if is_at(&file, &path) => return Ok(Lock { file }),
            Ok(()) => continue,
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(ContainerError::Locked { id: id.clone(), waited_s: WAIT_MAX.as_secs() }),
            Err(error) => return Err(ContainerError::file("lock", path)(error.into())),
        }
    }
}

pub(super) fn is_at(file: &File, path: &std::path::Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}
