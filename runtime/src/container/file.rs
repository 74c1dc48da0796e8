//! JSON files that are there whole or not at all: written beside their place, then renamed into it.

use super::error::ContainerError;
use crate::store::small;
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, Mode, OFlags, accessat};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Longest file read: a thousand times what a large configuration takes.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How much a file is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It must be there after a power failure: synced, and its directory too.
    Synced,
    /// It lives in memory anyway.
    Passing,
}

/// A directory that files are read from, opened once for many: the kernel then walks a name or two instead of a whole path.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// `None` if it was not there: then nothing is in it either.
    descriptor: Option<OwnedFd>,
}

impl Directory {
    /// Opens it; fine if it is absent.
    pub(crate) fn open(path: PathBuf) -> Result<Self, ContainerError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Self { path, descriptor: Some(descriptor) }),
            Err(Errno::NOENT) => Ok(Self { path, descriptor: None }),
            Err(error) => Err(ContainerError::file("open", path)(error.into())),
        }
    }

    /// Reads a file in it; `Ok(None)` if it is absent.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ContainerError> {
        match &self.descriptor {
            Some(descriptor) => read_at(descriptor, name, || self.path.join(name)),
            None => Ok(None),
        }
    }

    /// Whether there is something of this name in it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.descriptor.as_ref().is_some_and(|descriptor| accessat(descriptor, name, Access::EXISTS, AtFlags::empty()).is_ok())
    }

    /// Whether somebody holds a file in it locked for himself alone, flock(2): as good as a look at the holder's process, which takes
    /// the kernel several times as long. Who tries to lock it at this very moment may have to try again.
    pub(crate) fn is_locked(&self, name: &str) -> bool {
        let open = |directory| rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let file = self.descriptor.as_ref().and_then(open);
        file.is_some_and(|file| rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
    }

    /// The path of a file in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Reads a file; `Ok(None)` if it is absent.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ContainerError> {
    read_at(CWD, path, || path.to_owned())
}

fn read_at<T: DeserializeOwned>(
    directory: impl AsFd,
    name: impl AsRef<Path>,
    path: impl FnOnce() -> PathBuf,
) -> Result<Option<T>, ContainerError> {
    match small::read_at(directory, name, FILE_BYTES_MAX) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| ContainerError::Corrupt { path: path(), source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ContainerError::file("read", path())(error)),
    }
}

/// Replaces a file by this value. Only one process writes a given file at a time: its lock or its shim sees to that.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T, lasting: Lasting) -> Result<(), ContainerError> {
    let bytes = serde_json::to_vec(value).map_err(|source| ContainerError::Corrupt { path: path.to_owned(), source })?;
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(ContainerError::file("create", &new))?;
    file.write_all(&bytes).map_err(ContainerError::file("write", &new))?;
    if lasting == Lasting::Synced {
        file.sync_all().map_err(ContainerError::file("sync", &new))?;
    }
    std::fs::rename(&new, path).map_err(ContainerError::file("rename", &new))?;
    if let (Lasting::Synced, Some(directory)) = (lasting, path.parent()) {
        sync_directory(directory)?;
    }
    Ok(())
}

/// Writes a file that is not there yet, in a directory that is nobody's yet. Not synced: that is the caller's.
pub(crate) fn write_new<T: Serialize>(path: &Path, value: &T) -> Result<File, ContainerError> {
    let bytes = serde_json::to_vec(value).map_err(|source| ContainerError::Corrupt { path: path.to_owned(), source })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(ContainerError::file("create", path))?;
    file.write_all(&bytes).map_err(ContainerError::file("write", path))?;
    Ok(file)
}

/// Makes what happened to the names in a directory last.
pub(crate) fn sync_directory(path: &Path) -> Result<(), ContainerError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(ContainerError::file("sync", path))
}
