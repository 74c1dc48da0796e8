//! What the watch is doing, for `agent status`: a file that is replaced as a whole.

use crate::plan::actual::SiteId;
use crate::source::Revision;
use runtime::container::state::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A snapshot of the watch, at `<run>/status.json` ([`Status::path`]). It stays when the watch ends: ask [`is_watched`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The process that watches.
    pub pid: u32,
    /// Since when.
    pub started: Timestamp,
    /// The site.
    pub site: SiteId,
    /// Where it comes from, without credentials.
    pub source: String,
    /// The revision the host is being brought to.
    pub revision: Option<Revision>,
    /// How asking the source goes.
    pub fetch: FetchStatus,
    /// Repositories that builds take from and that cannot be followed at present, without credentials, and why not.
    #[serde(default)]
    pub context_problems: BTreeMap<String, String>,
    /// The last cycle that did something or failed; `None` before.
    pub cycle: Option<CycleStatus>,
}

/// How asking the source goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchStatus {
    /// When it was asked last.
    pub asked: Option<Timestamp>,
    /// When it answered last.
    pub answered: Option<Timestamp>,
    /// Why it did not answer the last time, and what to do about it.
    pub problem: Option<String>,
    /// When it is asked again at the latest.
    pub next: Option<Timestamp>,
}

/// What a cycle came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CycleStatus {
    /// What it was for.
    pub revision: Revision,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How it ended: `settled`, `failed`, `calledOff`.
    pub result: String,
    /// What was done.
    pub summary: String,
    /// What went wrong, one text each.
    pub errors: Vec<String>,
    /// Failed cycles in a row.
    pub failures: u32,
}

/// Why the status cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct StatusError {
    /// The operation.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The reason.
    #[source]
    pub source: io::Error,
}

impl Status {
    /// Where it is kept: `<run>/status.json`.
    pub fn path(run: &Path) -> PathBuf {
        run.join("status.json")
    }

    /// Reads the status of the last watch; `None` if there was none since the host started.
    pub fn read(run: &Path) -> Result<Option<Self>, StatusError> {
        let path = Self::path(run);
        let parsed = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        parsed.map_err(|source| StatusError { action: "read", path, source })
    }

    /// Replaces the status. Not synced to disk: it does not outlive the host's run anyway.
    pub fn write(&self, run: &Path) -> Result<(), StatusError> {
        let path = Self::path(run);
        let temporary = path.with_extension("json.new");
        let written = serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|json| fs::write(&temporary, json))
            .and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| StatusError { action: "write", path, source })
    }
}

/// Held while a watch runs: one watch for one run directory. The kernel releases it when its holder dies.
#[derive(Debug)]
pub(super) struct WatchLock {
    _file: File,
}

impl WatchLock {
    /// Takes it; `None` if another watch has it.
    pub(super) fn take(run: &Path) -> Result<Option<Self>, StatusError> {
        let path = watch_lock(run);
        let failed = |source| StatusError { action: "lock", path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

/// The file that a watch over this run directory has locked.
pub fn watch_lock(run: &Path) -> PathBuf {
    run.join("watch.lock")
}

/// Whether a watch runs over this run directory. Writes nothing.
pub fn is_watched(run: &Path) -> Result<bool, StatusError> {
    let path = watch_lock(run);
    let failed = |source| StatusError { action: "look at", path: path.clone(), source };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(failed)?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(failed(errno.into())),
    }
}
