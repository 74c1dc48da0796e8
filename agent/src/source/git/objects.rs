//! The objects of a remote: a bare repository that is only a cache. It may be removed at any time; the next fetch fills it again.

use super::connection::{Connection, Wanted};
use crate::source::address::GitAddress;
use crate::source::time_limit::TimeLimit;
use crate::source::{CommitId, FetchError};
use git2::{Oid, Repository, RepositoryInitOptions};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The commit whose files are here to the last one: what a fetch may tell the server that it has.
const TIP: &str = "refs/agent/tip";
/// Packs after which all begins anew. Each fetch adds one and each lookup asks them all; what is gained by keeping them is
/// only that a push transfers its difference.
const PACKS_MAX: usize = 64;

/// `GIT_ERROR`: the code of an error that has only words.
const GENERIC: i32 = -1;

/// The objects of one remote.
pub(super) struct Objects {
    path: PathBuf,
    repository: Repository,
}

impl Objects {
    /// Opens the objects, or begins anew where there are none, too many or broken ones.
    pub(super) fn open(path: &Path) -> Result<Self, FetchError> {
        let usable = if packs(path) < PACKS_MAX { Repository::open_bare(path).ok() } else { None };
        if let Some(repository) = usable {
            return Ok(Self { path: path.to_owned(), repository });
        }
        remove(path)?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false);
        let repository = Repository::init_opts(path, &options).map_err(FetchError::objects("make a repository", path))?;
        Ok(Self { path: path.to_owned(), repository })
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The commit that is here whole.
    pub(super) fn tip(&self) -> Option<CommitId> {
        let id = self.repository.refname_to_id(TIP).ok()?;
        self.repository.find_commit(id).ok().map(|commit| commit.id().into())
    }

    /// Brings a commit here with all its files.
    pub(super) fn receive(&self, address: &GitAddress, from: Connection, wanted: Wanted<'_>, limit: TimeLimit) -> Result<(), FetchError> {
        let commit = Oid::from_str(wanted.commit.as_str()).map_err(FetchError::objects("read a commit id", &self.path))?;
        let odb = self.repository.odb().map_err(FetchError::objects("open the objects", &self.path))?;
        let mut writer = odb.packwriter().map_err(FetchError::objects("begin a pack", &self.path))?;
        from.receive(address, wanted, limit, |piece| {
            writer.write_all(piece).map_err(|error| match git2::Error::last_error(GENERIC) {
                // The indexer's own words say more than the write that failed.
                last if !last.message().is_empty() => FetchError::objects("index the pack", &self.path)(last),
                _ => FetchError::local("write a pack", &self.path)(error),
            })
        })?;
        writer.commit().map_err(FetchError::objects("complete the pack", &self.path))?;
        drop(writer);
        odb.refresh().map_err(FetchError::objects("read the objects anew", &self.path))?;
        self.repository.reference(TIP, commit, true, "").map_err(FetchError::objects("record the commit", &self.path))?;
        Ok(())
    }

    /// Removes all of it.
    pub(super) fn remove(self) -> Result<(), FetchError> {
        let path = self.path.clone();
        drop(self);
        remove(&path)
    }
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::local("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn packs(path: &Path) -> usize {
    let entries = fs::read_dir(path.join("objects/pack")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pack")).count()
}
