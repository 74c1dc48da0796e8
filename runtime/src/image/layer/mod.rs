//! Layers: tar streams in, directories in overlay format out, and back.
//!
//! In overlay format a deleted name is a character device 0:0 and a directory that hides everything below it has the extended
//! attribute `trusted.overlay.opaque=y` (kernel documentation, overlayfs "whiteouts and opaque directories").

mod ahead;
pub(crate) mod compress;
pub(crate) mod hashing;
pub(crate) mod header;
mod ids;
pub(crate) mod name;
pub mod pack;
mod root;
pub(crate) mod source;
mod sparse;
pub mod stream;
mod tar_writer;
pub mod unpack;
pub(crate) mod writeback;

#[cfg(test)]
pub(in crate::image) mod tests;

pub use pack::Times;

use spec::value::Digest;
use std::io;

/// Most entries of one layer: some ten times the largest images in use; each costs an inode.
pub const ENTRIES_MAX: u64 = 4_000_000;
/// Most bytes of one layer, unpacked: larger than any model image in use, smaller than a disk that a bomb should fill.
pub const BYTES_MAX: u64 = 256 << 30;
/// Longest path in a layer: the kernel's own limit for one call (PATH_MAX, its final NUL included).
pub const PATH_BYTES_MAX: usize = 4095;
/// Most bytes of names that unpacking remembers to its end, those of directories and whiteouts: memory, where all else is disk. Two
/// million directories with names of usual length.
pub const KEPT_NAME_BYTES_MAX: u64 = 128 << 20;
/// Longest part of a path (NAME_MAX).
pub const NAME_BYTES_MAX: usize = 255;
/// Deepest path: one open descriptor a level while packing must stay well under the usual limit of 1024.
pub const DEPTH_MAX: usize = 256;
/// Most bytes of extension headers before one entry: 64 KiB for each of a dozen attributes is already absurd.
pub const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Up to this many bytes a layer may expand as it likes; zeros compress a thousandfold.
pub const RATIO_FREE_BYTES: u64 = 1 << 30;
/// Beyond [`RATIO_FREE_BYTES`] a layer may be at most this many times larger than it was compressed. Deflate ends at 1032, real
/// layers stay under 20.
pub const RATIO_MAX: u64 = 200;

/// The extended attribute that makes a directory hide all that lower layers have in it.
pub(crate) const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// Begins the names of tar entries that delete a name of a lower layer.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The tar entry that makes its directory opaque.
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Why a layer could not be unpacked or packed. Names are shown as far as they are text.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream broke off, or could not be decompressed.
    #[error("read the layer{}", after_entry(.after))]
    Read {
        /// The last entry that was read; empty at the start.
        after: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a layer at all.
    #[error("not a layer: {0}")]
    Format(String),
    /// An entry that is broken, or that a layer must not have.
    #[error("refused entry {name:?}: {problem}")]
    Refused {
        /// Its name as written.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The host refused.
    #[error("{operation} {name:?} of the layer")]
    System {
        /// The call.
        operation: &'static str,
        /// The entry, relative to the layer's root.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Larger than [`BYTES_MAX`], [`ENTRIES_MAX`] or [`RATIO_MAX`] allow.
    #[error("layer is over the limit: {0}")]
    Limit(String),
    /// Not the bytes that were promised.
    #[error("digest of the {what} is {found}, not {expected} as promised")]
    Digest {
        /// Compressed or uncompressed bytes.
        what: &'static str,
        /// What the manifest or configuration says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
}

fn after_entry(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" after {name:?}") }
}

impl LayerError {
    fn refused(name: &[u8], problem: impl Into<String>) -> Self {
        Self::Refused { name: text(name), problem: problem.into() }
    }

    /// Names the call and the entry of a failed system call.
    fn system<E: Into<io::Error>>(operation: &'static str, name: &[u8]) -> impl FnOnce(E) -> Self {
        let name = text(name);
        move |source| Self::System { operation, name, source: source.into() }
    }
}

/// A name for a message: hostile bytes are escaped by the `{:?}` it is printed with, and it is cut where it is absurdly long.
fn text(name: &[u8]) -> String {
    const SHOWN: usize = 300;
    let shown = String::from_utf8_lossy(&name[..name.len().min(SHOWN)]).into_owned();
    if name.len() > SHOWN { format!("{shown}… ({} bytes)", name.len()) } else { shown }
}

/// Which extended attributes travel in a layer: those that mean the same on every host. Not `trusted.*` (it steers overlayfs) and not
/// the labels of security modules.
fn is_portable_attribute(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
}
