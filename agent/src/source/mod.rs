//! Where a site's manifests come from: a directory of this host, or a branch of a Git repository.
//!
//! ```text
//! text ─SourceSpec::parse─► SourceSpec ─Source::open─► Source ─fetch─► Checkout{ root, revision }
//! ```
//!
//! A Git checkout is immutable, named after its commit and written in whole before it can be seen; the running one is never
//! changed in place, and a remote that is broken or gone leaves it alone. A directory is read where it lies. Blocking, no async.

mod address;
pub mod content;
mod directory;
mod error;
mod git;
pub mod manifests;
mod revision;
pub mod submodules;
mod time_limit;
pub mod watch;

pub use address::{Access, AddressError, GitAddress, SourceOptions, SourceSpec, Transport};
pub use content::{content_digest, read_text, resolve_inside};
pub use error::FetchError;
pub use git::homes;
pub use revision::{CommitId, Revision};

use crate::plan::actual::SiteId;
use address::Place;
use git::Hold;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A source that can be asked for its newest state.
#[derive(Debug)]
pub struct Source {
    site: SiteId,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory(PathBuf),
    Git(Box<git::Remote>),
}

/// A site's files as they were at one revision.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// The site's root: manifests and everything they refer to lie below it.
    pub root: PathBuf,
    /// What it is a checkout of.
    pub revision: Revision,
    /// Whose site this is.
    pub site: SiteId,
    /// Whether the files may change while they are read: true for a directory, never for Git.
    pub live: bool,
    /// What was left out, for people: submodules.
    pub notes: Vec<String>,
    /// The same for programs: by path, the commits they are at.
    pub submodules: BTreeMap<String, CommitId>,
    /// A shared flock on the root, which keeps [`Source::prune`] of any process away while a clone of this value lives.
    _hold: Option<Arc<Hold>>,
}

impl Checkout {
    /// A site that lies nowhere: a manifest made from a command line. Relative paths in it are those of the working directory.
    pub fn nowhere(site: SiteId, fingerprint: spec::value::Digest) -> Self {
        let root = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self {
            root,
            revision: Revision::Directory { fingerprint },
            site,
            live: true,
            notes: Vec::new(),
            submodules: BTreeMap::new(),
            _hold: None,
        }
    }
}

impl Source {
    /// Makes a source of a parsed one. `state` is the agent's state directory; Git keeps objects and checkouts in
    /// `<state>/sources/<hash>/`. Touches nothing but the path of a directory source, which must exist.
    pub fn open(spec: SourceSpec, state: &Path) -> Result<Self, FetchError> {
        match spec.place {
            Place::Directory(path) => {
                let root = directory::resolve(&path)?;
                let site = spec.site.unwrap_or_else(|| root.display().to_string());
                Ok(Self { site: SiteId(site), kind: Kind::Directory(root) })
            }
            Place::Git { address, branch, folder } => {
                let site = SiteId(spec.site.unwrap_or_else(|| address.site(folder.as_deref())));
                let remote = git::Remote::new(address, branch, folder, spec.access, state);
                Ok(Self { site, kind: Kind::Git(Box::new(remote)) })
            }
        }
    }

    /// The identity under which resources of this source are owned.
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// The source as people may see it: no credentials.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Directory(root) => root.display().to_string(),
            Kind::Git(remote) => remote.describe(),
        }
    }

    /// The directory to watch for changes; `None` for Git, which is polled.
    pub fn watched(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Directory(root) => Some(root),
            Kind::Git(_) => None,
        }
    }

    /// Where what is kept of it lies; `None` for a directory, of which nothing is.
    pub fn home(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Directory(_) => None,
            Kind::Git(remote) => Some(remote.home()),
        }
    }

    /// The newest state. For Git this asks the remote, and transfers and writes a checkout only if its branch has moved.
    /// On an error everything is as before and [`Source::kept`] still answers. Blocking, for minutes at worst.
    pub fn fetch(&self) -> Result<Checkout, FetchError> {
        match &self.kind {
            Kind::Directory(root) => directory::checkout(root, &self.site),
            Kind::Git(remote) => remote.fetch(&self.site),
        }
    }

    /// The commits that branches, tags or ids of a repository stand for now, one for one; `None` is its default branch. The remote is
    /// asked once, nothing is transferred or written. Empty for a directory.
    pub fn tips(&self, references: &[Option<&str>]) -> Result<Vec<Result<CommitId, FetchError>>, FetchError> {
        match &self.kind {
            Kind::Directory(_) => Ok(Vec::new()),
            Kind::Git(remote) => remote.tips(references),
        }
    }

    /// What the last successful [`Source::fetch`] of any process brought, from disk alone. `None` before the first one,
    /// and for a directory, which has no state but its present one.
    pub fn kept(&self) -> Result<Option<Checkout>, FetchError> {
        match &self.kind {
            Kind::Directory(_) => Ok(None),
            Kind::Git(remote) => remote.kept(&self.site),
        }
    }

    /// The checkout of an older commit, if it is still on disk: the last one that could be applied, say.
    pub fn checkout_of(&self, commit: &CommitId) -> Result<Option<Checkout>, FetchError> {
        match &self.kind {
            Kind::Directory(_) => Ok(None),
            Kind::Git(remote) => remote.checkout_of(&self.site, commit),
        }
    }

    /// Makes `work/.git` of a commit that was fetched, beside its files: the commit without its history, nothing secret, nothing that is
    /// another one the next time. A directory has none.
    pub fn write_git_directory(&self, commit: &CommitId, work: &Path) -> Result<(), FetchError> {
        match &self.kind {
            Kind::Directory(_) => Ok(()),
            Kind::Git(remote) => remote.write_git_directory(commit, work),
        }
    }

    /// Removes checkouts that nobody needs: all but the newest one, those named in `keep`, and those some process holds.
    /// Returns what it removed; nothing while a fetch is under way, for which it does not wait.
    pub fn prune(&self, keep: &BTreeSet<CommitId>) -> Result<Vec<CommitId>, FetchError> {
        match &self.kind {
            Kind::Directory(_) => Ok(Vec::new()),
            Kind::Git(remote) => remote.prune(keep),
        }
    }
}
