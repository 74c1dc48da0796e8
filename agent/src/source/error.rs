//! Why a source could not be brought here. Each says what was tried on what; [`FetchError::remedy`] says what to do.

use super::CommitId;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A fetch that did not happen. The checkout of before, if there is one, is untouched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The directory is not there, or is none.
    #[error("{} is not a directory that can be read", path.display())]
    Directory {
        /// What was named.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Nobody answers.
    #[error("reach {repository}")]
    Unreachable {
        /// The repository without credentials.
        repository: String,
        /// The network's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Someone answers, and it is not a Git repository, or not one we may know of.
    #[error("{repository} is not a Git repository: {detail}")]
    NotARepository {
        /// The repository without credentials.
        repository: String,
        /// What the other side said.
        detail: String,
    },
    /// The other side does not accept who we are.
    #[error("{repository} refuses access: {detail}")]
    Authentication {
        /// The repository without credentials.
        repository: String,
        /// What the other side said.
        detail: String,
        /// What to do about it.
        remedy: String,
    },
    /// We do not accept who the other side is.
    #[error("the host key of {host} is not the known one: {detail}")]
    HostKey {
        /// The ssh host.
        host: String,
        /// What ssh said.
        detail: String,
    },
    /// The repository has no such branch.
    #[error("{repository} has no branch {branch:?}")]
    BranchMissing {
        /// The repository without credentials.
        repository: String,
        /// What was looked for.
        branch: String,
        /// Branches it has, sorted, at most ten.
        known: Vec<String>,
    },
    /// The repository has no commit at all, or no default branch.
    #[error("{repository} is empty or has no default branch")]
    Empty {
        /// The repository without credentials.
        repository: String,
    },
    /// The commit has no such folder.
    #[error("commit {} has no folder {folder:?}", commit.short())]
    FolderMissing {
        /// The commit.
        commit: CommitId,
        /// What was looked for.
        folder: String,
    },
    /// The commit holds something that is never written to disk.
    #[error("commit {} is refused: {path:?} {problem}", commit.short())]
    Hostile {
        /// The commit.
        commit: CommitId,
        /// Where in the folder.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something is bigger than it may be.
    #[error("{what} of {of} exceed {limit}")]
    TooMuch {
        /// What is counted: files, bytes, levels.
        what: &'static str,
        /// In what.
        of: String,
        /// How much it may be.
        limit: u64,
    },
    /// It takes too long.
    #[error("{repository} did not deliver within {} s", limit.as_secs())]
    TimedOut {
        /// The repository without credentials.
        repository: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The other side does not speak the protocol as we know it, or gave up.
    #[error("talk to {repository}: {problem}")]
    Protocol {
        /// The repository without credentials.
        repository: String,
        /// What was unexpected, or what the other side said.
        problem: String,
    },
    /// Another process is fetching the same source and does not finish.
    #[error("wait for another fetch of {repository}")]
    Busy {
        /// The repository without credentials.
        repository: String,
    },
    /// Our own files.
    #[error("{action} {}", path.display())]
    Local {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Our own objects, or those of a repository on this host.
    #[error("{action} in {}", path.display())]
    Objects {
        /// The operation.
        action: &'static str,
        /// The repository's directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: git2::Error,
    },
}

impl FetchError {
    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Directory { .. } => Some("name an existing directory, or a repository as file:///…, https://… or ssh://…".into()),
            Self::Unreachable { .. } => Some("check the address and the network; the last good checkout stays in use".into()),
            Self::NotARepository { .. } => Some("check the address; private repositories may also hide behind this answer".into()),
            Self::Authentication { remedy, .. } => Some(remedy.clone()),
            Self::HostKey { host, .. } => Some(format!("verify the key of {host} and put it into the known_hosts file (ssh-keyscan)")),
            Self::BranchMissing { known, .. } if known.is_empty() => Some("the repository has no branches: push one".into()),
            Self::BranchMissing { known, .. } => Some(format!("it has: {}", known.join(", "))),
            Self::Empty { .. } => Some("push a commit, or name a branch with --branch".into()),
            Self::FolderMissing { .. } => Some("check --path: it is relative to the root of the repository".into()),
            Self::Hostile { .. } => Some("remove it from the repository; nothing of this commit was written".into()),
            Self::Busy { .. } => Some("try again".into()),
            Self::TooMuch { .. } | Self::TimedOut { .. } | Self::Protocol { .. } | Self::Local { .. } | Self::Objects { .. } => None,
        }
    }

    /// For `map_err` on an operation on one of our own files.
    pub(super) fn local(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Local { action, path, source }
    }

    /// The same for rustix.
    pub(super) fn system(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Local { action, path, source: errno.into() }
    }

    /// The same for git2.
    pub(super) fn objects(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(git2::Error) -> Self {
        let path = path.into();
        move |source| Self::Objects { action, path, source }
    }
}
