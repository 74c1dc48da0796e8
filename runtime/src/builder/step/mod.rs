//! One instruction: what it says of the image, or the layer it makes.

pub(crate) mod metadata;
pub(crate) mod mount;
mod mount_point;
mod process;
pub(crate) mod run;
pub(crate) mod source;
pub(crate) mod transfer;

use crate::store::Scratch;
use std::path::PathBuf;

/// Where a step's changes are made.
pub(crate) struct Layering {
    /// The directory of it all, removed in the end.
    pub scratch: Scratch,
    /// Gets the changes, in overlay format.
    pub upper: PathBuf,
    /// For the kernel.
    pub work: PathBuf,
    /// An empty directory that stands in where there is no layer below.
    pub empty: PathBuf,
}
