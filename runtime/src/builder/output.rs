//! An image's files out of the store: into a directory, or as one tar. Its layers are seen as one tree and never changed.

use super::step::source::{Selection, find_in_layers};
use super::tree::{Chmod, CopyTimes, Draft, Existing, Look, Overlay, OverlayError, Owner, Ownership, Root, TreeError, Writing, write_tree};
use crate::image::ImageId;
use crate::image::layer::header::Time;
use crate::image::layer::{LayerError, Times, pack};
use crate::image::store::{ImageStore, StoreError};
use crate::store::FileError;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Why an image's files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The image cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its layers cannot be seen as one tree.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A file of it, or of the directory.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What no source could be found for: never, the root is always there.
    #[error(transparent)]
    Find(#[from] super::StepError),
    /// A file that a tar cannot say.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The directory itself.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes an image's files into a directory, which is made if it is not there; what it has besides stays. They belong to whoever runs
/// this, as with BuildKit; modes, times and links are the image's.
pub fn export_directory(store: &ImageStore, image: &ImageId, directory: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(directory).map_err(FileError::of("create", directory))?;
    let scratch = store.scratch()?;
    let empty = scratch.subdirectory("empty")?;
    let files = Overlay::mount(&store.image(image)?.layers, Writing::No { empty: &empty })?;
    let target = Root::open(directory)?;
    let owner = Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() };
    let look = Look {
        ownership: Ownership::Set(owner),
        chmod: Chmod::Keep,
        times: CopyTimes::Keep { latest: None },
        extended: true,
        existing: Existing::Overwrite,
    };
    let mut draft = Draft::new(&target, Time { seconds: 0, nanoseconds: 0 });
    for found in find_in_layers(&files.root, "the image", "/", &Selection::default())? {
        draft.place(&found.directory, found.entry, &found.base, b"/", &look)?;
    }
    Ok(write_tree(draft, target.descriptor())?)
}

/// Writes an image's files as a tar, with their owners.
pub fn export_tar(store: &ImageStore, image: &ImageId, sink: impl Write) -> Result<(), OutputError> {
    let scratch = store.scratch()?;
    let empty = scratch.subdirectory("empty")?;
    let files = Overlay::mount(&store.image(image)?.layers, Writing::No { empty: &empty })?;
    pack::pack(files.root.descriptor(), Times::Keep, pack::OnDisk::Leave, sink)?;
    Ok(())
}
