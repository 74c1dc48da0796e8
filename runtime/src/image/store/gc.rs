//! Garbage collection by reference: what neither a name nor the caller needs is removed. Ownership decides, never age.
//!
//! Two halves: [`ImageStore::garbage`] says what would go, and how much that is, without touching anything; [`ImageStore::gc`] removes
//! just that. Names go first, then images, layers, blobs: killed anywhere between, nothing points at what is gone.

use super::{ImageStore, StoreError, Usage};
use crate::image::ImageId;
use crate::store::usage::tree_bytes;
use crate::store::{Lock, atomic};
use serde::Serialize;
use spec::value::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

/// What must stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Images that containers or past generations of a site use.
    pub images: BTreeSet<ImageId>,
    /// Which names keep their images.
    pub named: Named,
    /// Layers of a build cache, whether or not an image has them.
    pub layers: BTreeSet<Digest>,
    /// Blobs that others name.
    pub blobs: BTreeSet<Digest>,
    /// What becomes of layers in the form in which they travelled.
    pub travelled: Travelled,
}

/// Which names keep their images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Named {
    /// All of them: what has no name is garbage.
    #[default]
    All,
    /// These. Every other name goes, with its image if nothing else keeps it. A name of an image that is kept stays too.
    Only(BTreeSet<String>),
}

/// What becomes of layers in the form in which they travelled. All of it can be had again: made anew, or fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Travelled {
    /// Kept as long as the layer is, and what interrupted pulls left too, as long as somebody may come back for it.
    #[default]
    Keep,
    /// Blobs are kept, what interrupted pulls left goes.
    Whole,
    /// All of it goes.
    Drop,
}

/// What nothing needs, with the bytes of disk that each thing takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Garbage {
    /// Names.
    pub names: BTreeSet<String>,
    /// Images: what they take is that of their layers.
    pub images: BTreeSet<ImageId>,
    /// Unpacked layers, each with its part of what it has in common with others.
    pub layers: BTreeMap<Digest, u64>,
    /// What they take together that no layer has which stays.
    pub layer_bytes: u64,
    /// Blobs.
    pub blobs: BTreeMap<Digest, u64>,
    /// What interrupted pulls left.
    pub partial: u64,
    /// Records of names and images, and what was noted about where they came from.
    pub records: u64,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Images.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes of disk.
    pub bytes: u64,
}

/// Keeps everybody else from adding to the store while it lives.
#[derive(Debug)]
pub struct Alone {
    _lock: Lock,
}

impl Garbage {
    /// Bytes of disk that would be free.
    pub fn bytes(&self) -> u64 {
        self.layer_bytes + self.blobs.values().sum::<u64>() + self.partial + self.records
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        // What was noted of what is gone long ago is not worth a word.
        *self == Self { records: self.records, ..Self::default() }
    }
}

impl ImageStore {
    /// What no root, no name and no lease keeps. Looks only; what is being pulled or built at this moment may be among it.
    pub fn garbage(&self, roots: &Roots) -> Result<Garbage, StoreError> {
        self.garbage_of(roots, &self.usage()?)
    }

    /// [`Self::garbage`], where the sizes are known.
    pub fn garbage_of(&self, roots: &Roots, usage: &Usage) -> Result<Garbage, StoreError> {
        let mut garbage = Garbage::default();
        let mut keep_images = roots.images.clone();
        let names = self.names_of_images()?;
        match &roots.named {
            Named::All => keep_images.extend(names.values()),
            Named::Only(kept) => {
                keep_images.extend(names.iter().filter(|(name, _)| kept.contains(*name)).map(|(_, id)| *id));
                garbage.names.extend(names.into_iter().filter(|(_, id)| !keep_images.contains(id)).map(|(name, _)| name));
            }
        }
        let mut keep_layers = roots.layers.clone();
        let mut keep_blobs = roots.blobs.clone();
        for id in self.digests("images", ".json")? {
            if keep_images.contains(&id) {
                let record = match self.record(&id) {
                    Err(StoreError::NoImage(_)) => continue, // removed since it was listed
                    other => other?,
                };
                keep_layers.extend(record.layers);
                keep_blobs.extend(record.manifest);
                keep_blobs.insert(id);
            } else {
                garbage.images.insert(id);
            }
        }
        garbage.layers.extend(usage.layers.iter().filter(|(diff_id, _)| !keep_layers.contains(diff_id)));
        if roots.travelled != Travelled::Drop {
            keep_blobs.extend(self.travelled_blobs(&keep_layers)?.into_values());
        }
        garbage.layer_bytes = self.freed_without(garbage.layers.keys(), usage);
        garbage.partial = self.partials_that_go(roots.travelled)?.iter().map(|path| tree_bytes(path)).sum();
        garbage.blobs.extend(usage.blobs.iter().filter(|(digest, _)| !keep_blobs.contains(digest)));
        garbage.records = self.records_of(&garbage)?.iter().map(|path| tree_bytes(path)).sum();
        Ok(garbage)
    }

    fn partials_that_go(&self, travelled: Travelled) -> Result<Vec<PathBuf>, StoreError> {
        match travelled {
            Travelled::Keep => self.stale_partials(SystemTime::now()),
            Travelled::Whole | Travelled::Drop => self.partials(|_| true),
        }
    }

    /// The records of what goes, and those of what is gone already.
    fn records_of(&self, garbage: &Garbage) -> Result<Vec<PathBuf>, StoreError> {
        let stays = |id: &ImageId| self.has_image(id) && !garbage.images.contains(id);
        let mut records: Vec<PathBuf> = garbage.names.iter().map(|name| self.name_path(name)).collect();
        records.extend(garbage.images.iter().map(|id| self.image_path(id)));
        records.extend(self.images_with_origins()?.into_iter().filter(|id| !stays(id)).map(|id| self.origins_path(&id)));
        let has_blob = |blob: &Digest| self.has_blob(blob) && !garbage.blobs.contains_key(blob);
        records.extend(self.digests("places", "")?.into_iter().filter(|blob| !has_blob(blob)).map(|blob| self.places_path(&blob)));
        Ok(records)
    }

    /// The store for oneself, as long as what is returned lives. Errors: [`StoreError::Busy`] while a pull, import or build is
    /// running anywhere.
    pub fn alone(&self) -> Result<Alone, StoreError> {
        Ok(Alone { _lock: Lock::try_exclusive(&self.use_lock())?.ok_or(StoreError::Busy)? })
    }

    /// [`Self::alone`], waited for.
    pub fn alone_in_time(&self) -> Result<Alone, StoreError> {
        Ok(Alone { _lock: Lock::exclusive(&self.use_lock())? })
    }

    /// [`Self::alone`], waited for as long as it is wanted.
    pub fn alone_while(&self, is_wanted: &dyn Fn() -> bool) -> Result<Alone, StoreError> {
        Ok(Alone { _lock: Lock::exclusive_while(&self.use_lock(), is_wanted)?.ok_or(StoreError::Busy)? })
    }

    /// Removes what [`Self::garbage`] finds. Errors: [`StoreError::Busy`], see [`Self::alone`].
    pub fn gc(&self, roots: &Roots) -> Result<Freed, StoreError> {
        self.sweep(&self.alone()?, roots)
    }

    /// Removes what [`Self::garbage`] finds.
    ///
    /// An image that is removed while a container's overlay holds its layers stays mounted, but cannot be started again: name the
    /// images of all containers in `roots`.
    pub fn sweep(&self, _alone: &Alone, roots: &Roots) -> Result<Freed, StoreError> {
        let garbage = self.garbage(roots)?;
        for name in &garbage.names {
            self.untag(name)?;
        }
        for id in &garbage.images {
            atomic::remove_file(&self.image_path(id))?;
        }
        for diff_id in garbage.layers.keys() {
            self.remove_layer(diff_id)?;
        }
        self.count_shared_again()?;
        let needed = self.seal_before_they_go(&|blob| garbage.blobs.contains_key(blob))?;
        let mut kept = 0;
        for (digest, bytes) in &garbage.blobs {
            if needed.contains(digest) {
                kept += bytes;
            } else {
                self.remove_blob(digest)?;
            }
        }
        for path in self.partials_that_go(roots.travelled)?.into_iter().chain(self.records_of(&Garbage::default())?) {
            atomic::remove_file(&path)?;
        }
        self.remove_free_locks()?;
        Ok(Freed { images: garbage.images.len() as u64, layers: garbage.layers.len() as u64, bytes: garbage.bytes() - kept })
    }

    /// The blobs that these layers came as, those that are recorded.
    pub fn travelled_blobs(&self, layers: &BTreeSet<Digest>) -> Result<BTreeMap<Digest, Digest>, StoreError> {
        let mut blobs = BTreeMap::new();
        for diff_id in layers {
            let record = self.layer(diff_id)?;
            blobs.extend(record.and_then(|record| record.blob).map(|blob| (*diff_id, blob.digest)));
        }
        Ok(blobs)
    }

    /// Removes the locks of layers that nobody makes.
    fn remove_free_locks(&self) -> Result<(), StoreError> {
        for diff_id in self.digests("locks", "")? {
            if let Some(lock) = Lock::try_exclusive(&self.directory.join("locks").join(diff_id.hex()))? {
                lock.remove()?;
            }
        }
        Ok(())
    }
}
