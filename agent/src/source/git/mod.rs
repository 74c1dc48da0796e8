//! A branch of a Git repository, here as immutable checkouts.
//!
//! ```text
//! remote ─advertisement─► tip ─is it here?─► checkout
//!                          └─pack─► repo.git ─export─► staging ─rename─► <commit>/
//! ```
//!
//! The transports and the protocol are ours, objects are git2's. No work tree, no hooks, no filters, no submodules, no program but `ssh`;
//! a build that asks for submodules or for `.git` gets them made beside a checkout, never in it.
//! A repository of this host (`file://`) is read in place: nothing to transfer, nothing to run.

mod checkouts;
mod connection;
mod export;
mod hold;
pub mod homes;
mod http;
mod local;
mod metered;
mod objects;
mod packet;
mod repository;
mod ssh;
#[cfg(test)]
mod tests;
mod upload_pack;

pub(super) use hold::Hold;

use super::address::{Access, GitAddress, Transport};
use super::time_limit::TimeLimit;
use super::{Checkout, CommitId, FetchError};
use crate::plan::actual::SiteId;
use checkouts::Checkouts;
use connection::Wanted;
use objects::Objects;
use rustix::fs::{FlockOperation, flock};
use spec::value::Digest;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a fetch may take, from connecting to the finished checkout. A dead remote must not hold up the news of another.
const FETCH_TIME: Duration = Duration::from_secs(300);
/// How often a fetch of another process is waited for.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A branch of a repository, and where it is kept.
#[derive(Debug)]
pub(super) struct Remote {
    address: GitAddress,
    branch: Option<String>,
    folder: Option<String>,
    access: Access,
    /// `<state>/sources/<hash>`.
    home: PathBuf,
    checkouts: Checkouts,
}

impl Remote {
    pub(super) fn new(address: GitAddress, branch: Option<String>, folder: Option<String>, access: Access, state: &Path) -> Self {
        let identity = format!("{address}\0{}\0{}", branch.as_deref().unwrap_or_default(), folder.as_deref().unwrap_or_default());
        let home = state.join("sources").join(&Digest::of(identity.as_bytes()).hex()[..16]);
        Self { address, branch, folder, access, checkouts: Checkouts::new(&home), home }
    }

    /// `https://host/repo.git, branch main, folder hosts/web`.
    pub(super) fn describe(&self) -> String {
        let branch = self.branch.as_deref().map(|branch| format!(", branch {branch}")).unwrap_or_default();
        let folder = self.folder.as_deref().map(|folder| format!(", folder {folder}")).unwrap_or_default();
        format!("{}{branch}{folder}", self.address)
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn kept(&self, site: &SiteId) -> Result<Option<Checkout>, FetchError> {
        match self.checkouts.current()? {
            Some(commit) => self.checkouts.open(&commit, site),
            None => Ok(None),
        }
    }

    pub(super) fn checkout_of(&self, site: &SiteId, commit: &CommitId) -> Result<Option<Checkout>, FetchError> {
        self.checkouts.open(commit, site)
    }

    pub(super) fn prune(&self, keep: &BTreeSet<CommitId>) -> Result<Vec<CommitId>, FetchError> {
        if !self.home.exists() {
            return Ok(Vec::new());
        }
        // Whoever prunes has better to do than to wait for a fetch that may hang in the network; there is a next time.
        let Some(_lock) = self.try_lock()? else { return Ok(Vec::new()) };
        self.checkouts.prune(keep)
    }

    pub(super) fn fetch(&self, site: &SiteId) -> Result<Checkout, FetchError> {
        let limit = TimeLimit::of(FETCH_TIME);
        // What a site holds is nobody's business but root's.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.home).map_err(FetchError::local("create", &self.home))?;
        let _lock = self.lock(limit)?;
        let commit = match self.address.transport {
            Transport::File => self.fetch_local(limit)?,
            Transport::Http { .. } | Transport::Ssh { .. } => self.fetch_remote(limit)?,
        };
        self.checkouts.set_current(&commit)?;
        let gone =
            || FetchError::Local { action: "open the checkout", path: self.home.clone(), source: std::io::ErrorKind::NotFound.into() };
        self.checkouts.open(&commit, site)?.ok_or_else(gone)
    }

    pub(super) fn tips(&self, references: &[Option<&str>]) -> Result<Vec<Result<CommitId, FetchError>>, FetchError> {
        if let Transport::File = self.address.transport {
            let repository = local::open(&self.address)?;
            return Ok(references.iter().map(|reference| local::tip(&repository, &self.address, *reference)).collect());
        }
        let (found, connection) = connection::open(&self.address, &self.access, TimeLimit::of(FETCH_TIME))?;
        connection.hang_up();
        Ok(references.iter().map(|reference| self.tip(&found, *reference)).collect())
    }

    fn fetch_local(&self, limit: TimeLimit) -> Result<CommitId, FetchError> {
        let repository = local::open(&self.address)?;
        let commit = local::tip(&repository, &self.address, self.branch.as_deref())?;
        if !self.checkouts.has(&commit) {
            self.checkouts.write(&repository, &commit, self.folder.as_deref(), limit)?;
        }
        Ok(commit)
    }

    fn fetch_remote(&self, limit: TimeLimit) -> Result<CommitId, FetchError> {
        let (found, connection) = connection::open(&self.address, &self.access, limit)?;
        let commit = self.tip(&found, self.branch.as_deref())?;
        if self.checkouts.has(&commit) {
            connection.hang_up();
            return Ok(commit);
        }
        let objects = Objects::open(&self.home.join("repo.git"))?;
        let have = objects.tip();
        let wanted = Wanted { commit: &commit, have: have.as_ref(), shallow: found.shallow };
        objects.receive(&self.address, connection, wanted, limit)?;
        let written = self.checkouts.write(objects.repository(), &commit, self.folder.as_deref(), limit);
        match written {
            Err(FetchError::Objects { .. }) if have.is_some() => self.fetch_anew(objects, &commit, limit)?,
            written => written?,
        }
        Ok(commit)
    }

    /// What was here before does not complete what came: our objects are damaged (a crash, a full disk). They are only a cache,
    /// so all of them go and the commit is asked for whole.
    fn fetch_anew(&self, damaged: Objects, commit: &CommitId, limit: TimeLimit) -> Result<(), FetchError> {
        let objects = self.receive_anew(damaged, commit, limit)?;
        self.checkouts.write(objects.repository(), commit, self.folder.as_deref(), limit)
    }

    fn receive_anew(&self, damaged: Objects, commit: &CommitId, limit: TimeLimit) -> Result<Objects, FetchError> {
        damaged.remove()?;
        let (found, connection) = connection::open(&self.address, &self.access, limit)?;
        let objects = Objects::open(&self.home.join("repo.git"))?;
        objects.receive(&self.address, connection, Wanted { commit, have: None, shallow: found.shallow }, limit)?;
        Ok(objects)
    }

    pub(super) fn write_git_directory(&self, commit: &CommitId, work: &Path) -> Result<(), FetchError> {
        let limit = TimeLimit::of(FETCH_TIME);
        let _lock = self.lock(limit)?;
        let origin = self.address.to_string();
        if let Transport::File = self.address.transport {
            return repository::write(&local::open(&self.address)?, commit, &origin, work);
        }
        let objects = Objects::open(&self.home.join("repo.git"))?;
        // They are only a cache: the checkout may outlive them.
        let objects = if objects.tip().as_ref() == Some(commit) { objects } else { self.receive_anew(objects, commit, limit)? };
        repository::write(objects.repository(), commit, &origin, work)
    }

    fn tip(&self, found: &upload_pack::Advertisement, branch: Option<&str>) -> Result<CommitId, FetchError> {
        let repository = self.address.to_string();
        let named = branch.is_some();
        let branch = match branch.or(found.default_branch.as_deref()) {
            Some(branch) => branch,
            None => return Err(FetchError::Empty { repository }),
        };
        let tag = branch.strip_prefix("refs/tags/").unwrap_or(branch);
        // A branch first, then a tag, then a commit by its whole id, which a server may refuse.
        match found.branches.get(branch).or_else(|| found.tags.get(tag)).cloned().or_else(|| branch.parse().ok()) {
            Some(commit) => Ok(commit),
            None if found.branches.is_empty() && !named => Err(FetchError::Empty { repository }),
            None => Err(branch_missing(repository, branch, found.branches.keys().cloned())),
        }
    }

    /// One fetch or prune at a time, over all processes.
    fn lock(&self, limit: TimeLimit) -> Result<Hold, FetchError> {
        loop {
            if let Some(file) = self.try_lock()? {
                return Ok(file);
            }
            if limit.is_over() {
                return Err(FetchError::Busy { repository: self.address.to_string() });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    /// The lock, if nobody has it. The kernel releases it when its holder dies.
    fn try_lock(&self) -> Result<Option<Hold>, FetchError> {
        let path = self.home.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(FetchError::local("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Hold(file.into()))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(FetchError::system("lock", path)(errno)),
        }
    }
}

/// Names some of the branches that there are.
fn branch_missing(repository: String, branch: &str, known: impl Iterator<Item = String>) -> FetchError {
    const SHOWN: usize = 10;
    FetchError::BranchMissing { repository, branch: branch.to_owned(), known: known.take(SHOWN).collect() }
}
