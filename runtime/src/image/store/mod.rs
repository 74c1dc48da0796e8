//! The image store: configurations and manifests by digest, unpacked layers by diff id, names that point at images.
//!
//! ```text
//! <images>/blobs/sha256/<hex>      configurations, manifests and compressed layers, as they were pulled or made
//! <images>/partial/<hex>           the first bytes of a blob that is being fetched, or was when its fetcher died
//! <images>/places/<hex>            repositories of registries that have a blob
//! <images>/images/<hex>.json       an image that is complete: written last, removed first
//! <images>/images/<hex>.origins    where it was pulled from and who signed it; absent for what was made here
//! <images>/layers/<hex>/root       an unpacked layer in overlay format, named by the digest of its uncompressed stream
//! <images>/layers/<hex>/layer.json its record; the whole directory appears by one rename
//! <images>/records/<hex>.json      a name (registry reference or key of a site) and the image it stands for
//! <images>/scratch/                what is being made; whatever a dead process left here is removed by the next opening
//! <images>/locks/                  one lock a layer being made, and `use`: held shared by whoever adds, exclusively by `gc`
//! ```
//!
//! Safe against a crash at every instruction: nothing has its lasting name before it is complete. Safe against a power cut too:
//! a layer counts in later boots only once it was synced (`durable`), which [`ImageStore::put_image`] sees to, once for all layers of
//! an image, off the path of unpacking. A layer that was not is unpacked again.

mod blobs;
mod budget;
mod gc;
mod images;
mod layers;
mod origins;
mod places;
mod repair;
mod seal;
mod spool;
mod usage;
mod verify;

#[cfg(test)]
mod tests;

pub use budget::{Limits, NoRoom, no_room};
pub use gc::{Alone, Freed, Garbage, Named, Roots, Travelled};
pub use images::{Image, ImageSummary};
pub(crate) use layers::Expected;
pub use layers::LayerRecord;
pub use origins::Origin;
pub use repair::{Lost, Repaired};
pub use usage::Usage;
pub use verify::{Finding, Subject, Verified};

use super::ImageId;
use super::layer::LayerError;
use super::layer::writeback::Unwritten;
use crate::places::Places;
use crate::store::{FileError, Lock, Scratch, ScratchSpace, atomic};
use spec::value::Digest;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The store of one instance. Cheap to clone; any number may be open, in any number of processes.
#[derive(Debug, Clone)]
pub struct ImageStore {
    directory: PathBuf,
    /// What a registry keeps that is served from here: it counts for the budget.
    registry: Option<PathBuf>,
    scratch: ScratchSpace,
    /// Tells this boot from others: layers that were not synced count only in the boot that wrote them.
    boot: String,
    limits: Limits,
    unwritten: Arc<Unwritten>,
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store.
    #[error("image store: {}", .0)]
    File(#[source] FileError),
    /// Whoever wanted something to be put here does not any more.
    #[error("broken off: it is not wanted any more")]
    Unwanted,
    /// A record that is no JSON, or not of its kind: somebody wrote to the store.
    #[error("image store: record {path:?} is broken (agent image verify --repair may mend it)")]
    Record {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// No such image.
    #[error("there is no image {0}")]
    NoImage(ImageId),
    /// An image cannot be added before its layers.
    #[error("image has layer {0}, which is not in the store")]
    NoLayer(Digest),
    /// A blob that an image needs is gone, though a collection was kept out.
    #[error("blob {0} is not in the store any more")]
    NoBlob(Digest),
    /// It must not travel like that.
    #[error("layer {0} is damaged: agent image verify --repair makes it whole if it can be")]
    Damaged(Digest),
    /// An upper directory must be renamed into the store.
    #[error("{path:?} is not on the file system of the image store: make it with scratch()")]
    OtherFileSystem {
        /// The directory.
        path: PathBuf,
    },
    /// A pull, import or build is running; nothing may be removed meanwhile.
    #[error("the image store is in use by a pull, an import or a build: try again when it is done")]
    Busy,
    /// It would take more disk than it may.
    #[error("the image store takes no more")]
    NoRoom(#[from] NoRoom),
    /// A layer that could not be unpacked or packed.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// Keeps [`ImageStore::gc`] out while it lives: what was added under it and is not named yet stays.
#[derive(Debug)]
pub struct Lease {
    _lock: Lock,
}

impl ImageStore {
    /// Opens the store of an instance, making it if needed, and clears away what processes that died were making.
    pub fn open(places: &Places) -> Result<Self, StoreError> {
        Ok(Self { registry: Some(places.registry()), ..Self::open_at(&places.images())? })
    }

    /// Opens a store in a directory of its own.
    pub fn open_at(directory: &Path) -> Result<Self, StoreError> {
        for part in ["blobs/sha256", "partial", "places", "images", "layers", "records", "locks"] {
            let path = directory.join(part);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(FileError::of("create", &path))?;
        }
        let boot_id = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(boot_id).map_err(FileError::of("read", boot_id))?.trim().to_owned();
        let scratch = ScratchSpace::open(&directory.join("scratch"))?;
        let store =
            Self { directory: directory.to_owned(), registry: None, scratch, boot, limits: Limits::default(), unwritten: Arc::default() };
        if let Some(_alone) = Lock::try_exclusive(&store.use_lock())? {
            store.clear_temporary_files()?;
            store.drop_unsynced_layers()?;
        }
        Ok(store)
    }

    /// Where it is kept: the build cache lives beside its layers.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps [`Self::gc`] out. Take one for as long as a build adds layers and images before the last one is named.
    /// Waits while a collection runs.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        Ok(Lease { _lock: Lock::shared(&self.use_lock())? })
    }

    /// A temporary directory on the store's file system (for an upper and a work directory, or a file being made), removed when
    /// dropped, or, if this process dies, by the next opening of the store.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        Ok(self.scratch.create()?)
    }

    fn use_lock(&self) -> PathBuf {
        self.directory.join("locks/use")
    }

    /// Removes files that a dead process was writing. Only with the `use` lock held exclusively: then nobody writes.
    fn clear_temporary_files(&self) -> Result<(), StoreError> {
        for part in ["blobs/sha256", "images", "records"] {
            for name in self.names(part)? {
                if name.starts_with(atomic::TEMPORARY_PREFIX) {
                    atomic::remove_file(&self.directory.join(part).join(name))?;
                }
            }
        }
        Ok(())
    }

    /// The names in a directory of the store, sorted. All of them are ours and text.
    fn names(&self, part: &str) -> Result<Vec<String>, StoreError> {
        let path = self.directory.join(part);
        let entries = fs::read_dir(&path).map_err(FileError::of("list", &path))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(FileError::of("list", &path))?;
        names.sort_unstable();
        Ok(names)
    }

    /// The digests that name the files of a directory, `<hex><suffix>` each; other names are passed over.
    fn digests(&self, part: &str, suffix: &str) -> Result<Vec<Digest>, StoreError> {
        let names = self.names(part)?;
        Ok(names.iter().filter_map(|name| format!("sha256:{}", name.strip_suffix(suffix)?).parse().ok()).collect())
    }

    fn same_file_system(&self, path: &Path) -> Result<(), StoreError> {
        let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev()).map_err(FileError::of("stat", path));
        if device(path)? == device(&self.directory)? { Ok(()) } else { Err(StoreError::OtherFileSystem { path: path.to_owned() }) }
    }
}

/// Reads a record; `None` if there is none.
fn read_record<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(source) => Err(StoreError::Record { path: path.to_owned(), source }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", path)(error).into()),
    }
}
