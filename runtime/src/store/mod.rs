//! Files that outlive a crash: atomic writes, locks the kernel releases, temporary directories of dead processes cleared away.
//!
//! For paths we made ourselves. What lies inside a layer, volume or build context is reached through directory descriptors only.

pub mod atomic;
pub mod lock;
pub mod remove;
pub mod scratch;
pub(crate) mod small;
pub mod usage;

pub use lock::Lock;
pub use scratch::{Scratch, ScratchSpace};

use std::io;
use std::path::{Path, PathBuf};

/// A file operation that did not work: which one, on what, and the system's reason.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path:?}")]
pub struct FileError {
    /// What was tried: `open`, `rename`, `flock`.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Names the operation and the path of a failed call; takes `io::Error` and `rustix::io::Errno` alike.
    pub fn of<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self { operation, path, source: source.into() }
    }

    /// Whether the path, or one of its parents, is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }
}
