//! What is kept of remotes, all together: which of it nobody needs any more.
//!
//! ```text
//! <state>/sources/<hash>/        what is kept of one branch of one remote
//! <state>/sources/old <hash>/    the same on its way out
//! ```

use super::checkouts::remove_tree;
use super::hold::Hold;
use crate::source::{CommitId, FetchError};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How what is on its way out is named.
const OLD: &str = "old ";

/// What somebody may want again.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Whatever holds one of these.
    pub commits: BTreeSet<CommitId>,
    /// Remotes, each by where it is kept.
    pub homes: BTreeSet<PathBuf>,
}

/// What is kept of remotes that are not wanted and that nobody works with right now.
pub fn unused(state: &Path, wanted: &Wanted) -> Result<Vec<PathBuf>, FetchError> {
    let mut unused = Vec::new();
    for path in entries(&state.join("sources"))? {
        let is_wanted = wanted.homes.contains(&path) || commits(&path)?.iter().any(|commit| wanted.commits.contains(commit));
        if is_old(&path) || !is_wanted && hold(&path)?.is_some() {
            unused.push(path);
        }
    }
    Ok(unused)
}

/// Removes what is kept of a remote, unless somebody works with it: the next fetch begins anew.
pub fn remove(home: &Path) -> Result<(), FetchError> {
    if is_old(home) {
        return remove_tree(home);
    }
    let Some(_held) = hold(home)? else { return Ok(()) };
    let old = home.with_file_name(format!("{OLD}{}", home.file_name().unwrap_or_default().display()));
    remove_tree(&old)?;
    fs::rename(home, &old).map_err(FetchError::local("rename", home))?;
    remove_tree(&old)
}

fn is_old(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(OLD))
}

/// Its lock and its checkouts, if all of them are free.
fn hold(home: &Path) -> Result<Option<Vec<Hold>>, FetchError> {
    let checkouts = commits(home)?.into_iter().map(|commit| home.join(commit.as_str()));
    let mut held = Vec::new();
    for path in std::iter::once(home.join("lock")).chain(checkouts) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(FetchError::local("open", path)(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => held.push(Hold(file.into())),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(FetchError::system("lock", path)(errno)),
        }
    }
    Ok(Some(held))
}

/// The commits whose files it has.
fn commits(home: &Path) -> Result<Vec<CommitId>, FetchError> {
    let names = entries(home)?.into_iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
    Ok(names.collect())
}

/// What is in a directory, in order; nothing if it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, FetchError> {
    let found = match fs::read_dir(directory) {
        Ok(found) => found.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let mut paths = found.map_err(FetchError::local("list", directory))?;
    paths.sort();
    Ok(paths)
}
