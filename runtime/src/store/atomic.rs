//! Files written whole or not at all: a file without a name in the same directory, fsync, its name, fsync of the directory.
//!
//! A writer that is killed leaves nothing behind: without a name there is nothing to leave. Only between the link and the rename
//! that replace an older file, a matter of microseconds, is there a temporary name; readers of a directory skip those.

use super::FileError;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Begins the names of files that were being written when their writer died. Readers of a directory skip them.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Makes `path` hold exactly `bytes`, mode 0600: after a crash it has its old content or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let written = match write_nameless(path, bytes)? {
        Some(file) => match name(&file, path) {
            Ok(()) => return sync_parent(path),
            Err(Errno::EXIST) => name(&file, &temporary).map_err(FileError::of("name", &temporary)),
            Err(error) => Err(FileError::of("name", path)(error)),
        },
        None => write_synced(&temporary, bytes),
    };
    let written = written.and_then(|()| rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // the error already on its way is the one to report
    }
    written
}

/// Makes `path` a file of one JSON document, see [`write`].
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    write(path, &json(path, value)?)
}

fn json<T: serde::Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, FileError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(std::io::Error::other).map_err(FileError::of("encode", path))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// As [`write`] without waiting for the disk: after a power cut the file may be torn, so it must be able to tell, or be worth nothing.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).map_err(FileError::of("write", path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// [`write_unsynced`] of one JSON document.
pub fn write_json_unsynced<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    write_unsynced(path, &json(path, value)?)
}

/// Renames within a file system and makes the new name last.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::of("rename to", to))?;
    sync_parent(to)
}

/// Makes the names in the directory that holds `path` last.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(FileError::of("sync", parent))
}

/// Removes a file; fine if it is absent.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(FileError::of("remove", path)),
    }
}

/// Writes a file that has no name yet; `None` where the file system has no such files.
fn write_nameless(path: &Path, bytes: &[u8]) -> Result<Option<File>, FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(parent, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        // open(2): EISDIR and ENOENT are what kernels and file systems without O_TMPFILE say.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => return Ok(None),
        Err(Errno::NOENT) if parent.exists() => return Ok(None),
        Err(error) => return Err(FileError::of("create a file in", parent)(error)),
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::of("write", path))?;
    Ok(Some(file))
}

/// Gives it a name that nothing has: by way of /proc, since AT_EMPTY_PATH asks for a capability.
fn name(file: &File, path: &Path) -> Result<(), Errno> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, itself, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(FileError::of("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::of("write", path))
}

/// A name in the same directory that no other writer uses.
fn temporary_beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{TEMPORARY_PREFIX}{}", unique()))
}

/// A text that no other call on this host returns: time, process and a counter.
pub(crate) fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{nanoseconds:x}-{:x}-{:x}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        write(&path, b"a long first content").unwrap();
        write(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_names_the_path_and_keeps_the_old_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write(&path, b"x").unwrap_err();
        assert_eq!(error.to_string(), format!("rename to {path:?}"));
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
