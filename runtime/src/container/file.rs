//! JSON files that are there whole or not at all: written beside their place, then renamed into it.

use super::error::ContainerError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Longest file read: a thousand times what a large configuration takes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What nearly every file fits into, read with one call.
const FILE_BYTES_USUAL: usize = 4 * 1024;

/// How much a file is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It must be there after a power failure: synced, and its directory too.
    Synced,
    /// It lives in memory anyway.
    Passing,
}

/// Reads a file; `Ok(None)` if it is absent.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ContainerError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ContainerError::file("open", path)(error)),
    };
    let mut bytes = Vec::with_capacity(FILE_BYTES_USUAL);
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(ContainerError::file("read", path))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|source| ContainerError::Corrupt { path: path.to_owned(), source })
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
