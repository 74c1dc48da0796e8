//! Locks on files, flock(2): the kernel releases them when their holder dies, however it dies.
//!
//! A lock file may be removed by its holder: a waiter that got the lock of a removed file notices and begins again.

use super::FileError;
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock is asked for again by one who may give up: flock(2) itself cannot be called off.
const PAUSE: Duration = Duration::from_millis(20);

/// A held lock. Dropping it releases it; other processes and other threads of this one compete alike.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits until nobody else holds the lock in any way.
    pub fn exclusive(path: &Path) -> Result<Self, FileError> {
        let lock = Self::acquire(path, FlockOperation::LockExclusive)?;
        Ok(lock.expect_held())
    }

    /// Waits until nobody holds the lock exclusively.
    pub fn shared(path: &Path) -> Result<Self, FileError> {
        let lock = Self::acquire(path, FlockOperation::LockShared)?;
        Ok(lock.expect_held())
    }

    /// As [`Self::exclusive`], as long as it is wanted; `None` when it is not any more.
    pub fn exclusive_while(path: &Path, is_wanted: &dyn Fn() -> bool) -> Result<Option<Self>, FileError> {
        Self::acquire_while(path, FlockOperation::NonBlockingLockExclusive, is_wanted)
    }

    /// As [`Self::shared`], as long as it is wanted; `None` when it is not any more.
    pub fn shared_while(path: &Path, is_wanted: &dyn Fn() -> bool) -> Result<Option<Self>, FileError> {
        Self::acquire_while(path, FlockOperation::NonBlockingLockShared, is_wanted)
    }

    /// Takes the lock if nobody else holds it in any way; `None` if somebody does.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, FileError> {
        Ok(match Self::acquire(path, FlockOperation::NonBlockingLockExclusive)? {
            Acquired::Held(lock) => Some(lock),
            Acquired::Busy => None,
        })
    }

    /// The process that holds the lock on a file, for telling people who it is: proc_locks(5). `None` if nobody does, or nobody whom
    /// this namespace of processes shows.
    pub fn holder(path: &Path) -> Option<u32> {
        let file = std::fs::metadata(path).ok()?;
        let place = format!("{:02x}:{:02x}:{}", rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()), file.ino());
        let held = |line: &str| {
            // 1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF; whoever waits has an arrow there.
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&place.as_str())).then(|| fields.get(4)?.parse().ok()).flatten()
        };
        std::fs::read_to_string("/proc/locks").ok()?.lines().find_map(held).filter(|pid| *pid > 0)
    }

    /// Removes the lock file, then releases the lock. Only for an exclusive lock.
    pub fn remove(self) -> Result<(), FileError> {
        super::atomic::remove_file(&self.path)
    }

    fn acquire_while(path: &Path, operation: FlockOperation, is_wanted: &dyn Fn() -> bool) -> Result<Option<Self>, FileError> {
        loop {
            match Self::acquire(path, operation)? {
                Acquired::Held(lock) => return Ok(Some(lock)),
                Acquired::Busy if is_wanted() => std::thread::sleep(PAUSE),
                Acquired::Busy => return Ok(None),
            }
        }
    }

    fn acquire(path: &Path, operation: FlockOperation) -> Result<Acquired, FileError> {
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
            let file = file.map_err(FileError::of("open", path))?;
            match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation)) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Acquired::Busy),
                Err(error) => return Err(FileError::of("flock", path)(error)),
            }
            // The holder we waited for may have removed the file: then this lock guards a name nobody else can reach.
            let held = file.metadata().map_err(FileError::of("stat", path))?;
            if std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                return Ok(Acquired::Held(Self { file, path: path.to_owned() }));
            }
        }
    }

    /// The locked file itself, for a holder that keeps a word in it.
    pub fn file(&self) -> &File {
        &self.file
    }
}

enum Acquired {
    Held(Lock),
    Busy,
}

impl Acquired {
    fn expect_held(self) -> Lock {
        match self {
            Self::Held(lock) => lock,
            Self::Busy => unreachable!("a blocking flock(2) never answers that it would block"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusive_excludes_and_dropping_releases() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::exclusive(&path).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn shared_locks_live_together_and_keep_an_exclusive_one_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _one = Lock::shared(&path).unwrap();
        let _two = Lock::shared(&path).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
    }

    #[test]
    fn who_is_not_wanted_any_more_waits_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::exclusive(&path).unwrap();
        let asked = std::cell::Cell::new(0);
        let thrice = || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        assert!(Lock::shared_while(&path, &thrice).unwrap().is_none());
        assert_eq!(asked.get(), 3);
        drop(held);
        assert!(Lock::exclusive_while(&path, &|| false).unwrap().is_some(), "what is free is had at once");
    }

    #[test]
    fn a_removed_lock_file_never_lets_two_holders_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::exclusive(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        lock.remove().unwrap();
                    }
                });
            }
        });
    }
}
