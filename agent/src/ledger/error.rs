//! Why the ledger does not answer.

use crate::plan::actual::SiteId;
use rusqlite::ErrorCode;
use spec::desired::ResourceId;
use std::io;
use std::path::{Path, PathBuf};

/// An operation of the ledger that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file is not a ledger any more, or never was. Nothing was changed.
    #[error("the ledger {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer version of the agent wrote it.
    #[error("the ledger {} has format {found}; this version knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another site owns it.
    #[error("{resource} belongs to the site {}", owner.0)]
    Taken {
        /// The resource.
        resource: ResourceId,
        /// Whose it is.
        owner: SiteId,
    },
    /// It is not in the ledger.
    #[error("{resource} is not in the ledger")]
    Unknown {
        /// The resource.
        resource: ResourceId,
    },
    /// Another process kept it locked for too long.
    #[error("{action}: the ledger {} is locked by another process", path.display())]
    Busy {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be reached.
    #[error("{action} {}", path.display())]
    File {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The database refused.
    #[error("{action} in the ledger {}", path.display())]
    Database {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: rusqlite::Error,
    },
}

impl LedgerError {
    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } => Some(
                "restore it from a backup; or move it away together with the -wal and -shm files beside it: \
                 what runs stays, and is adopted or reported as foreign by the next apply",
            ),
            Self::Newer { .. } => Some("run the newer version of the agent"),
            Self::Taken { .. } => Some("rename one of the two, or remove it from the other site first"),
            Self::Busy { .. } => Some("try again"),
            Self::File { .. } if self.is_full_disk() => {
                Some("make room on that disk; what runs runs on, and the next apply goes on from there")
            }
            Self::Unknown { .. } | Self::File { .. } | Self::Database { .. } => None,
        }
    }

    /// Whether all it wants is room.
    pub(super) fn is_full_disk(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    pub(super) fn of(action: &'static str, path: PathBuf, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, problem: source.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { action, path },
            Some(ErrorCode::DiskFull) => Self::full(action, path),
            // The database says only that reading or writing failed, and not why.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if has_no_room(&path) => Self::full(action, path),
            Some(_) | None => Self::Database { action, path, source },
        }
    }

    fn full(action: &'static str, path: PathBuf) -> Self {
        Self::File { action, path, source: rustix::io::Errno::NOSPC.into() }
    }
}

/// Whether the disk this lies on is full to the last block.
fn has_no_room(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|disk| disk.f_bavail == 0)
}
