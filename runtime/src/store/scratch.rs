//! Temporary directories on the store's own file system. Whoever made one holds its lock; a directory whose lock is free
//! belonged to a process that died and is removed by the next one that opens the space.

use super::{FileError, Lock, atomic, remove};
use rustix::fs::Mode;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where temporary directories are made.
#[derive(Debug, Clone)]
pub struct ScratchSpace {
    directory: PathBuf,
}

impl ScratchSpace {
    /// Opens the space, making its directory if needed, and clears away what dead processes left.
    pub fn open(directory: &Path) -> Result<Self, FileError> {
        fs::create_dir_all(directory).map_err(FileError::of("create", directory))?;
        let space = Self { directory: directory.to_owned() };
        space.clear_dead()?;
        Ok(space)
    }

    /// A fresh, empty directory, removed when dropped.
    pub fn create(&self) -> Result<Scratch, FileError> {
        let path = self.directory.join(atomic::unique());
        let lock = Lock::exclusive(&lock_of(&path))?;
        mkdir(&path, 0o700)?;
        Ok(Scratch { path, lock: Some(lock) })
    }

    /// Removes every directory whose owner is dead, and lock files without a directory.
    fn clear_dead(&self) -> Result<(), FileError> {
        let entries = fs::read_dir(&self.directory).map_err(FileError::of("list", &self.directory))?;
        for entry in entries {
            let path = entry.map_err(FileError::of("list", &self.directory))?.path();
            let owned = if path.extension().is_some_and(|extension| extension == "lock") { path.with_extension("") } else { path };
            if let Some(lock) = Lock::try_exclusive(&lock_of(&owned))? {
                match remove::remove_tree(&owned) {
                    // A command that the dead process had started writes there in its last moments: the next opening clears it.
                    Err(error) if error.source.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                    removed => removed.and_then(|()| lock.remove())?,
                }
            }
        }
        Ok(())
    }
}

/// A temporary directory of this process, mode 0700. Dropping it removes it with all it holds.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock: Option<Lock>,
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it, mode 0755 whatever the umask: fit to be the root of a file system (an overlay's upper).
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf, FileError> {
        let path = self.path.join(name);
        mkdir(&path, 0o755)?;
        Ok(path)
    }

    /// Moves the whole directory to its lasting place on the same file system. Not synced: see [`atomic::sync_parent`].
    /// If something is there already the error is `ENOTEMPTY` or `EEXIST`, and the directory is removed as if dropped.
    pub fn persist(self, target: &Path) -> Result<(), FileError> {
        fs::rename(&self.path, target).map_err(FileError::of("rename to", target))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next opening of the space: the lock is released either way.
        let removed = remove::remove_tree(&self.path);
        if let (Ok(()), Some(lock)) = (removed, self.lock.take()) {
            let _ = lock.remove();
        }
    }
}

/// Creates a directory with exactly this mode.
fn mkdir(path: &Path, mode: u32) -> Result<(), FileError> {
    rustix::fs::mkdir(path, Mode::RWXU).map_err(FileError::of("create", path))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(FileError::of("chmod", path))
}

fn lock_of(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_again_keeps_what_is_in_use_and_clears_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let space = ScratchSpace::open(directory.path()).unwrap();
        let used = space.create().unwrap();
        fs::create_dir_all(directory.path().join("dead/deep")).unwrap();
        fs::write(directory.path().join("other.lock"), "").unwrap();
        ScratchSpace::open(directory.path()).unwrap();
        assert!(used.path().is_dir());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        drop(used);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_persisted_directory_is_moved_whole() {
        let directory = tempfile::tempdir().unwrap();
        let space = ScratchSpace::open(&directory.path().join("tmp")).unwrap();
        let scratch = space.create().unwrap();
        fs::write(scratch.subdirectory("upper").unwrap().join("file"), "x").unwrap();
        scratch.persist(&directory.path().join("kept")).unwrap();
        assert!(directory.path().join("kept/upper/file").exists());
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    }
}
