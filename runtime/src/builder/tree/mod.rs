//! File trees: contexts, stages and the layer being built, reached beneath descriptors only.

mod archive;
mod chmod;
mod draft;
mod overlay;
mod root;
mod scan;
mod times;
mod veil;
mod write;

pub(crate) use archive::{ArchiveOwners, is_archive, unpack};
pub(crate) use chmod::Chmod;
pub(crate) use draft::{CopyTimes, Draft, Existing, Look, Ownership, SourceDirectory};
pub(crate) use overlay::{Overlay, OverlayError, Writing};
pub(crate) use root::{LastLink, Missing, Owner, Root, Spot};
pub(crate) use scan::{Content, Entry, Scan};
pub(crate) use times::settle;
pub(crate) use veil::Veil;
pub(crate) use write::{Files, Reuse, Written, write_layer, write_tree};

use crate::image::layer::LayerError;
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
    /// What a layer cannot hold.
    #[error(transparent)]
    Layer(#[from] LayerError),
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
            Self::Refused { .. } | Self::Layer(_) => false,
        }
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
