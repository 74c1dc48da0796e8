//! The checkouts of a remote on disk.
//!
//! ```text
//! <home>/current           id of the commit that was fetched last
//! <home>/<commit>/         its files: whole as soon as the name exists, never changed afterwards
//! <home>/<commit>.json     its summary, time and notes
//! <home>/staging           a checkout being written; garbage after a crash
//! <home>/removing          a checkout being removed
//! ```
//!
//! Whoever uses a checkout holds a shared flock on its directory; [`Checkouts::prune`] leaves those alone. Changes happen under the
//! source's lock, which the caller holds.

use super::export::{Exported, LIMITS, export};
use super::hold::Hold;
use crate::plan::actual::SiteId;
use crate::source::time_limit::TimeLimit;
use crate::source::{Checkout, CommitId, FetchError, Revision};
use git2::{Oid, Repository};
use runtime::container::state::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, syncfs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A commit's summary as it is shown.
const SUMMARY_CHARS_MAX: usize = 120;

#[derive(Debug)]
pub(super) struct Checkouts {
    home: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    summary: String,
    author_time: Timestamp,
    notes: Vec<String>,
    #[serde(default)]
    submodules: BTreeMap<String, CommitId>,
}

impl Checkouts {
    pub(super) fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// The commit that was fetched last.
    pub(super) fn current(&self) -> Result<Option<CommitId>, FetchError> {
        let path = self.home.join("current");
        match fs::read_to_string(&path) {
            // A damaged note is as good as none: the next fetch writes it again.
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FetchError::local("read", path)(error)),
        }
    }

    /// Notes which commit was fetched last; writes nothing if it is the same.
    pub(super) fn set_current(&self, commit: &CommitId) -> Result<(), FetchError> {
        if self.current()?.as_ref() == Some(commit) {
            return Ok(());
        }
        write_whole(&self.home.join("current"), format!("{commit}\n").as_bytes())
    }

    pub(super) fn has(&self, commit: &CommitId) -> bool {
        self.directory(commit).is_dir() && self.record(commit).is_file()
    }

    /// Opens and holds a checkout. `None` if it is not there.
    pub(super) fn open(&self, commit: &CommitId, site: &SiteId) -> Result<Option<Checkout>, FetchError> {
        let root = self.directory(commit);
        let hold = match rustix::fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(FetchError::system("open", root)(errno)),
        };
        flock(&hold, FlockOperation::LockShared).map_err(FetchError::system("lock", &root))?;
        let hold = Hold(hold);
        let held = fstat(&hold.0).map_err(FetchError::system("look at", &root))?;
        // It may have been renamed away for removal while we waited for the lock.
        let same = fs::symlink_metadata(&root).is_ok_and(|found| found.ino() == held.st_ino && found.dev() == held.st_dev);
        let path = self.record(commit);
        let Some(record) = same.then(|| fs::read(&path)).transpose().map_err(FetchError::local("read", &path))? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&record).map_err(|error| FetchError::local("read", &path)(error.into()))?;
        Ok(Some(Checkout {
            root,
            revision: Revision::Commit { id: commit.clone(), summary: record.summary, author_time: record.author_time },
            site: site.clone(),
            live: false,
            notes: record.notes,
            submodules: record.submodules,
            _hold: Some(Arc::new(hold)),
        }))
    }

    /// Makes the checkout of a commit whose objects are in a repository. All of it or nothing.
    pub(super) fn write(
        &self,
        repository: &Repository,
        commit: &CommitId,
        folder: Option<&str>,
        limit: TimeLimit,
    ) -> Result<(), FetchError> {
        let staging = self.home.join("staging");
        remove_tree(&staging)?;
        let exported = match export(repository, commit, folder, &staging, (LIMITS, limit)) {
            Ok(exported) => exported,
            Err(error) => {
                // The reason counts, not whether the remains could be cleared away; the next fetch tries again.
                let _ = remove_tree(&staging);
                return Err(error);
            }
        };
        let record = describe(repository, commit, exported)?;
        let json = serde_json::to_vec(&record).map_err(|error| FetchError::local("encode", self.record(commit))(error.into()))?;
        // The name says that the content is there, so the content goes to disk first; once for all files.
        let directory = File::open(&staging).map_err(FetchError::local("open", &staging))?;
        syncfs(&directory).map_err(FetchError::system("sync", &staging))?;
        write_whole(&self.record(commit), &json)?;
        let target = self.directory(commit);
        remove_tree(&target)?;
        fs::rename(&staging, &target).map_err(FetchError::local("rename to", &target))?;
        sync_directory(&self.home)
    }

    /// Removes checkouts but the current one, those to keep and those in use. Returns what it removed.
    pub(super) fn prune(&self, keep: &BTreeSet<CommitId>) -> Result<Vec<CommitId>, FetchError> {
        let current = self.current()?;
        let mut removed = Vec::new();
        for entry in fs::read_dir(&self.home).map_err(FetchError::local("list", &self.home))? {
            let entry = entry.map_err(FetchError::local("list", &self.home))?;
            let Ok(commit) = entry.file_name().to_string_lossy().parse::<CommitId>() else { continue };
            if current.as_ref() != Some(&commit) && !keep.contains(&commit) && self.remove(&commit)? {
                removed.push(commit);
            }
        }
        remove_tree(&self.home.join("removing"))?;
        removed.sort();
        Ok(removed)
    }

    /// Removes a checkout unless someone holds it.
    fn remove(&self, commit: &CommitId) -> Result<bool, FetchError> {
        let root = self.directory(commit);
        let directory = File::open(&root).map_err(FetchError::local("open", &root))?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(FetchError::system("lock", root)(errno)),
        }
        let removing = self.home.join("removing");
        remove_tree(&removing)?;
        fs::rename(&root, &removing).map_err(FetchError::local("rename", &root))?;
        let record = self.record(commit);
        fs::remove_file(&record).map_err(FetchError::local("remove", record))?;
        remove_tree(&removing)?;
        Ok(true)
    }

    fn directory(&self, commit: &CommitId) -> PathBuf {
        self.home.join(commit.as_str())
    }

    fn record(&self, commit: &CommitId) -> PathBuf {
        self.home.join(format!("{commit}.json"))
    }
}

fn describe(repository: &Repository, commit: &CommitId, exported: Exported) -> Result<Record, FetchError> {
    let failed = |action| FetchError::objects(action, repository.path());
    let id = Oid::from_str(commit.as_str()).map_err(failed("read a commit id"))?;
    let found = repository.find_commit(id).map_err(failed("read the commit"))?;
    let message = String::from_utf8_lossy(found.message_raw_bytes()).into_owned();
    let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let summary = first.trim().chars().filter(|c| !c.is_control()).take(SUMMARY_CHARS_MAX).collect();
    let seconds = found.author().when().seconds();
    let author_time = Timestamp(seconds.saturating_mul(Duration::from_secs(1).as_nanos() as i64));
    Ok(Record { summary, author_time, notes: exported.notes, submodules: exported.submodules })
}

/// A file is as before or as told, whatever happens.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let temporary = path.with_extension("new");
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(FetchError::local("write", path))
}

fn sync_directory(path: &Path) -> Result<(), FetchError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(FetchError::local("sync", path))
}

pub(super) fn remove_tree(path: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::local("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
