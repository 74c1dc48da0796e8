//! Hints that a container changed: its shim has replaced its `state.json` or has died, its directory has come or gone, or somebody has
//! written one of its limits.
//!
//! Bare inotify instead of notify, which cannot leave events out: the directories also hold the named pipes of the containers' output,
//! and a watch for modifications would wake us at every line that any container writes.

use runtime::cgroup::{Groups, LIMIT_FILES};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// Some hundred events at once.
const BUFFER_BYTES: usize = 16 << 10;

/// The files whose events matter. A shim holds its lock open as long as it lives: when it dies, the kernel closes it, and says so.
const TELLING: [&[u8]; 2] = [b"state.json", b"shim.lock"];

/// The watch over `<run>/containers`, and over the control groups of those in it.
#[derive(Debug)]
pub(super) struct ContainerWatch {
    root: PathBuf,
    /// `None` where the host's control groups cannot be told: limits are then looked at only.
    groups: Option<Groups>,
    events: AsyncFd<OwnedFd>,
    /// Watched directories of containers, by watch descriptor.
    directories: BTreeMap<i32, PathBuf>,
    /// Watched control groups.
    limits: BTreeSet<i32>,
    root_watch: i32,
}

impl ContainerWatch {
    /// Watches all containers, those to come too. The directory is made if it is not there.
    pub(super) fn start(root: &Path, groups: Option<Groups>) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let come_and_go = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
        let root_watch = inotify::add_watch(&descriptor, root, come_and_go | WatchFlags::ONLYDIR)?;
        let events = register(descriptor)?;
        let mut watch = Self { root: root.to_owned(), groups, events, directories: BTreeMap::new(), limits: BTreeSet::new(), root_watch };
        watch.watch_all()?;
        Ok(watch)
    }

    /// Waits until something changed. Everything that has changed by then is one hint.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            ready.clear_ready();
            if self.read()? {
                return Ok(());
            }
        }
    }

    /// Reads all there is; true if it matters.
    fn read(&mut self) -> io::Result<bool> {
        let mut matters = false;
        let mut missed = false;
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let (mut gone, mut changed) = (Vec::new(), BTreeSet::new());
        let mut reader = inotify::Reader::new(self.events.get_ref(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) || event.wd() == self.root_watch {
                (matters, missed) = (true, true);
            } else if event.events().contains(ReadFlags::IGNORED) {
                gone.push(event.wd());
            } else if let Some(name) = event.file_name().map(CStr::to_bytes) {
                if self.limits.contains(&event.wd()) {
                    matters |= LIMIT_FILES.iter().any(|file| file.as_bytes() == name);
                } else if TELLING.contains(&name) {
                    matters = true;
                    changed.insert(event.wd());
                }
            }
        }
        for watch in gone {
            self.directories.remove(&watch);
            self.limits.remove(&watch);
        }
        // A container that was started has groups by now.
        for directory in changed.iter().filter_map(|watch| self.directories.get(watch)).cloned().collect::<Vec<_>>() {
            self.watch_limits(&directory);
        }
        if missed {
            self.watch_all()?;
        }
        Ok(matters)
    }

    /// Watches every directory that is there; those that are watched already stay so.
    fn watch_all(&mut self) -> io::Result<()> {
        let replaced = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            match inotify::add_watch(self.events.get_ref(), &path, replaced | WatchFlags::ONLYDIR) {
                Ok(watch) => {
                    self.watch_limits(&path);
                    self.directories.insert(watch, path);
                }
                // It has gone again, or is no container's directory.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Watches the limits of a container. What is not there yet, or cannot be watched, is noticed at the next look at the host.
    fn watch_limits(&mut self, directory: &Path) {
        let id = directory.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
        let (Some(groups), Some(id)) = (&self.groups, id) else { return };
        let add = |path| inotify::add_watch(self.events.get_ref(), &path, WatchFlags::MODIFY | WatchFlags::ONLYDIR).ok();
        self.limits.extend(groups.directories_of(&id).into_iter().filter_map(add));
    }
}

/// Lets the event loop wait for a descriptor.
#[expect(deprecated, reason = "its successor is unsafe for descriptors that may change or close early; those of our watches do neither")]
pub(super) fn register<T: AsRawFd>(watch: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(watch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn hinted(watch: &mut ContainerWatch) -> bool {
        timeout(Duration::from_millis(500), watch.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    async fn settle(watch: &mut ContainerWatch) {
        while timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }

    #[tokio::test]
    async fn state_changes_hint_and_output_does_not() {
        let run = tempfile::tempdir().unwrap();
        let root = run.path().join("containers");
        let mut watch = ContainerWatch::start(&root, None).unwrap();
        fs::create_dir(root.join("web@1")).unwrap();
        assert!(hinted(&mut watch).await, "a container came");
        settle(&mut watch).await;
        fs::write(root.join("web@1/stdout"), "line\n").unwrap();
        assert!(!hinted(&mut watch).await, "output is no change");
        fs::write(root.join("web@1/new"), "{}").unwrap();
        fs::rename(root.join("web@1/new"), root.join("web@1/state.json")).unwrap();
        assert!(hinted(&mut watch).await, "its state was replaced");
        let lock = fs::File::create(root.join("web@1/shim.lock")).unwrap();
        settle(&mut watch).await;
        drop(lock);
        assert!(hinted(&mut watch).await, "its shim died");
        settle(&mut watch).await;
        fs::remove_dir_all(root.join("web@1")).unwrap();
        assert!(hinted(&mut watch).await, "it went");
        settle(&mut watch).await;
        assert!(watch.directories.is_empty());
    }
}
