//! File trees: contexts, stages and the layer being built, reached beneath descriptors only.

mod archive;
mod copy;
mod overlay;
mod root;
mod scan;
mod times;

pub(crate) use archive::unpack;
pub(crate) use copy::{Attributes, Chmod, Copier, Ownership};
pub(crate) use overlay::{Overlay, OverlayError, Writing};
pub(crate) use root::{LastLink, Missing, Owner, Root, Spot};
pub(crate) use scan::{Content, Entry, Scan};
pub(crate) use times::settle;

use rustix::io::Errno;
use std::io;

/// What could not be done with a file, and why.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A call failed.
    #[error("{operation} {path:?}")]
    System {
        /// The call.
        operation: &'static str,
        /// On what, from the root.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that the rules of COPY and ADD forbid.
    #[error("{problem}: {path:?}")]
    Refused {
        /// What.
        problem: String,
        /// Where, from the root.
        path: String,
    },
}

impl TreeError {
    fn of(operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Self {
        let path = shown(path);
        move |errno| Self::System { operation, path, source: errno.into() }
    }

    fn io(operation: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Self {
        let path = shown(path);
        move |source| Self::System { operation, path, source }
    }

    fn limit(path: &[u8], problem: String) -> Self {
        Self::Refused { problem, path: shown(path) }
    }

    fn refused(path: &[u8], problem: &str) -> Self {
        Self::Refused { problem: problem.to_owned(), path: shown(path) }
    }

    /// A file that could not be read.
    pub fn reading(path: &str, source: io::Error) -> Self {
        Self::System { operation: "read", path: path.to_owned(), source }
    }

    /// Whether it is because something is not there.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::System { source, .. } => matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            Self::Refused { .. } => false,
        }
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
