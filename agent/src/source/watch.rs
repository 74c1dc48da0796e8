//! Hints that something below a directory changed, from inotify through notify.
//!
//! A hint says that it is worth looking, never what happened: events are lost when directories appear faster than they are watched, and
//! none come at all for a root that was renamed away. So whoever gets hints also looks on his own every now and then, and calls
//! [`DirectoryWatch::ensure`] before each look.

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// A watched directory. Dropping it ends the watch.
pub struct DirectoryWatch {
    root: PathBuf,
    watcher: RecommendedWatcher,
    /// The directories the watches stand on: of the root, and of its parent, which sees the root come and go.
    armed: Option<(Identity, Option<Identity>)>,
    /// Set when the root itself was seen to come or go.
    stale: Arc<AtomicBool>,
}

/// Why a directory cannot be watched. It can still be looked at every now and then.
#[derive(Debug, thiserror::Error)]
#[error("watch {}", path.display())]
pub struct WatchError {
    /// The directory.
    pub path: PathBuf,
    /// The reason; too many watches are a matter of `fs.inotify.max_user_watches`.
    #[source]
    pub source: notify::Error,
}

/// A directory that cannot be mistaken for a later one with the same inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl DirectoryWatch {
    /// Watches a directory; `hint` is called from a thread of the watcher for each change, and must be quick.
    pub fn start(root: &Path, hint: impl Fn() + Send + 'static) -> Result<Self, WatchError> {
        let stale = Arc::new(AtomicBool::new(false));
        let on_event = {
            let (root, stale) = (root.to_owned(), stale.clone());
            move |event: notify::Result<Event>| match event {
                Ok(event) => {
                    if moves(&event, &root) {
                        stale.store(true, Ordering::Release);
                    }
                    if matters(&event, &root) {
                        hint();
                    }
                }
                // Whatever went wrong with the watch, the directory may have changed meanwhile.
                Err(_) => hint(),
            }
        };
        let watcher = notify::recommended_watcher(on_event).map_err(|source| WatchError { path: root.to_owned(), source })?;
        let mut watch = Self { root: root.to_owned(), watcher, armed: None, stale };
        watch.ensure()?;
        Ok(watch)
    }

    /// Makes the watch stand on the directory that has the root's name now. Costs two looks at directories if it does already.
    /// A root that is not there is no error: its parent is watched until it comes.
    pub fn ensure(&mut self) -> Result<(), WatchError> {
        let parent = self.root.parent().map(Path::to_owned);
        let found = identity(&self.root).map(|root| (root, parent.as_deref().and_then(identity)));
        if !self.stale.swap(false, Ordering::AcqRel) && found.is_some() && self.armed == found {
            return Ok(());
        }
        // Watches on what is gone cannot be taken away; that they are gone is all we want.
        let _ = self.watcher.unwatch(&self.root);
        self.armed = None;
        if let Some(parent) = parent {
            let _ = self.watcher.unwatch(&parent);
            self.arm(&parent, RecursiveMode::NonRecursive)?;
        }
        self.arm(&self.root.clone(), RecursiveMode::Recursive)?;
        self.armed = found;
        Ok(())
    }

    fn arm(&mut self, path: &Path, mode: RecursiveMode) -> Result<(), WatchError> {
        match self.watcher.watch(path, mode) {
            Ok(()) => Ok(()),
            Err(source) if matches!(source.kind, notify::ErrorKind::PathNotFound) || !path.exists() => Ok(()),
            Err(source) => Err(WatchError { path: path.to_owned(), source }),
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some(Identity { device: metadata.dev(), inode: metadata.ino(), born: metadata.created().ok() })
}

/// Whether an event tells that the root itself comes or goes.
fn moves(event: &Event, root: &Path) -> bool {
    let kind = matches!(event.kind, EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(notify::event::ModifyKind::Name(_)));
    kind && event.paths.iter().any(|path| path == root)
}

/// Whether an event is worth a look. Reading is not: who looks would wake himself for ever. Nor is Git at work in a clone.
fn matters(event: &Event, root: &Path) -> bool {
    if event.need_rescan() {
        return true;
    }
    if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
        return false;
    }
    let ours = |path: &PathBuf| match path.strip_prefix(root) {
        Ok(inner) => inner.components().all(|component| component != Component::Normal(".git".as_ref())),
        // The parent's other children are no business of ours.
        Err(_) => false,
    };
    event.paths.iter().any(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// Long enough for an event on a busy machine.
    const SOON: Duration = Duration::from_secs(10);
    /// Long enough to believe that none comes.
    const QUIET: Duration = Duration::from_millis(300);

    fn watch(root: &Path) -> (DirectoryWatch, Receiver<()>) {
        let (sender, receiver) = channel();
        let watch = DirectoryWatch::start(root, move || sender.send(()).unwrap_or_default()).unwrap();
        (watch, receiver)
    }

    fn hinted(receiver: &Receiver<()>) -> bool {
        let hinted = receiver.recv_timeout(SOON).is_ok();
        while receiver.recv_timeout(QUIET).is_ok() {}
        hinted
    }

    #[test]
    fn writing_hints_and_reading_does_not() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("site");
        fs::create_dir(&root).unwrap();
        let (_watch, hints) = watch(&root);
        fs::write(root.join("web.yaml"), "x").unwrap();
        assert!(hinted(&hints));
        fs::read(root.join("web.yaml")).unwrap();
        fs::read_dir(&root).unwrap().count();
        fs::write(place.path().join("beside"), "x").unwrap();
        assert!(hints.recv_timeout(QUIET).is_err(), "reading and neighbours are no changes");
    }

    #[test]
    fn nested_directories_made_at_once_are_watched() {
        let site = tempfile::tempdir().unwrap();
        let (_watch, hints) = watch(site.path());
        fs::create_dir_all(site.path().join("n/e/w")).unwrap();
        fs::write(site.path().join("n/e/w/web.yaml"), "x").unwrap();
        assert!(hinted(&hints));
        fs::write(site.path().join("n/e/w/web.yaml"), "y").unwrap();
        assert!(hinted(&hints), "the new directories are watched too");
    }

    #[test]
    fn a_root_renamed_away_and_made_anew_is_watched_again() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("site");
        fs::create_dir(&root).unwrap();
        let (mut watch, hints) = watch(&root);
        fs::rename(&root, place.path().join("old")).unwrap();
        assert!(hinted(&hints), "its parent sees it go");
        watch.ensure().unwrap();
        fs::create_dir(&root).unwrap();
        assert!(hinted(&hints), "its parent sees it come");
        watch.ensure().unwrap();
        fs::write(root.join("web.yaml"), "x").unwrap();
        assert!(hinted(&hints), "the new one is watched");
    }

    #[test]
    fn git_at_work_is_no_hint() {
        let site = tempfile::tempdir().unwrap();
        fs::create_dir(site.path().join(".git")).unwrap();
        let (_watch, hints) = watch(site.path());
        fs::write(site.path().join(".git/index"), "x").unwrap();
        assert!(hints.recv_timeout(QUIET).is_err());
    }
}
