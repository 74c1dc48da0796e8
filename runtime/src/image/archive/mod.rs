//! Images from files: root file system archives, OCI layouts (directory or tar) and `docker save` archives, told apart by content.
//!
//! The same file gives the same image id, always: a root file system becomes one layer below a configuration without times.

mod contents;
mod layout;
mod load;
pub mod save;

#[cfg(test)]
mod tests;

pub use load::Loaded;

use super::ImageId;
use super::config::{History, ImageConfig};
use super::layer::LayerError;
use super::manifest::ManifestError;
use super::platform::Platform;
use super::store::{ImageStore, StoreError};
use crate::store::{FileError, Scratch};
use contents::{Contents, Kind, Names};
use spec::value::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no archive.
    #[error("import {path:?}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<LayerError>,
    },
    /// It is an image archive whose parts do not fit together.
    #[error("import {path:?}: {problem}")]
    Image {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// Its manifest is not one we take.
    #[error("import {path:?}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ManifestError>,
    },
    /// Not the bytes that its manifest promises.
    #[error("import {path:?}: {name} has digest {found} instead of {expected}")]
    Digest {
        /// The file.
        path: PathBuf,
        /// The part of it.
        name: String,
        /// The promised digest.
        expected: Digest,
        /// That of what is there.
        found: Digest,
    },
    /// The store failed, or a layer of the file is not one.
    #[error("import {path:?}")]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
}

/// Imports a file or an OCI layout directory; returns the image, which has no name yet: hold a [`ImageStore::lease`] until it has one.
///
/// An archive of several images is refused unless one of them alone runs on this platform.
pub fn import(store: &ImageStore, path: &Path) -> Result<ImageId, ImportError> {
    let failed = |source: StoreError| ImportError::Store { path: path.to_owned(), source: Box::new(source) };
    let _lease = store.lease().map_err(failed)?;
    if path.is_dir() {
        return layout::import(store, path, &Contents::directory(path)?);
    }
    let file = File::open(path).map_err(FileError::of("open", path))?;
    // Unpacked it is no smaller.
    store.check_room(file.metadata().map_or(0, |found| found.len())).map_err(failed)?;
    let scratch = store.scratch().map_err(failed)?;
    match contents::recognise(store, path, file, scratch.path(), Names::Usual)? {
        Kind::Image(contents) => layout::import(store, path, &contents),
        Kind::RootFileSystem(file) => import_root(store, file).map_err(failed),
    }
}

/// Imports every image of an archive (an OCI layout, as directory or tar, or what `docker save` writes) that runs on this platform.
pub fn load(store: &ImageStore, path: &Path) -> Result<Vec<Loaded>, ImportError> {
    let failed = |source: StoreError| ImportError::Store { path: path.to_owned(), source: Box::new(source) };
    let _lease = store.lease().map_err(failed)?;
    if path.is_dir() {
        return layout::load(store, path, &Contents::directory(path)?);
    }
    let file = File::open(path).map_err(FileError::of("open", path))?;
    store.check_room(file.metadata().map_or(0, |found| found.len())).map_err(failed)?;
    let scratch = store.scratch().map_err(failed)?;
    match contents::recognise(store, path, file, scratch.path(), Names::Any)? {
        Kind::Image(contents) => layout::load(store, path, &contents),
        Kind::RootFileSystem(_) => {
            let problem = "it is no image, but a tree of files: agent image import makes an image of it".to_owned();
            Err(ImportError::Image { path: path.to_owned(), problem })
        }
    }
}

/// What a reader gave (a pipe, standard input), kept in a file of the store until this is dropped: what it is may only be known at its
/// end, and it may have to be read again.
#[derive(Debug)]
pub struct Spooled {
    scratch: Scratch,
}

impl Spooled {
    /// Keeps all that a reader gives, as long as there is room.
    pub fn new(store: &ImageStore, source: impl Read) -> Result<Self, ImportError> {
        let scratch = store.scratch().map_err(|source| ImportError::Store { path: "-".into(), source: Box::new(source) })?;
        let spooled = Self { scratch };
        let path = spooled.path();
        let mut file = File::create(&path).map_err(FileError::of("create", &path))?;
        io::copy(&mut store.watched(source), &mut file).map_err(FileError::of("read", Path::new("-")))?;
        Ok(spooled)
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("archive")
    }
}

/// A root file system becomes an image of one layer that says nothing but its platform.
fn import_root(store: &ImageStore, file: File) -> Result<ImageId, StoreError> {
    let layer = store.import_files(file)?;
    let mut config = ImageConfig::empty(&Platform::host());
    config.rootfs.diff_ids.push(layer.diff_id);
    config.history.push(History { created_by: Some("import of a root file system".to_owned()), ..History::default() });
    store.put_image(&config)
}
