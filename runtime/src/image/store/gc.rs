//! Garbage collection: what neither a name nor the caller needs is removed. Ownership decides, never age.

use super::{ImageStore, StoreError};
use crate::image::ImageId;
use crate::store::{Lock, atomic};
use spec::value::Digest;
use std::collections::BTreeSet;
use std::time::SystemTime;

/// What must stay besides everything that has a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Images that containers or past generations of the site use.
    pub images: BTreeSet<ImageId>,
    /// Layers of a build cache that belong to no image yet.
    pub layers: BTreeSet<Digest>,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Images.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes of their files and blobs.
    pub bytes: u64,
}

impl ImageStore {
    /// Removes every image that has no name and is no root, then every layer and blob that no image left uses.
    ///
    /// An image that is removed while a container's overlay holds its layers stays mounted, but cannot be started again: name the
    /// images of all containers in `roots`. Errors: [`StoreError::Busy`] while a pull, import or build is running anywhere.
    pub fn gc(&self, roots: &Roots) -> Result<Freed, StoreError> {
        let _alone = Lock::try_exclusive(&self.use_lock())?.ok_or(StoreError::Busy)?;
        let mut keep_images = roots.images.clone();
        keep_images.extend(self.names_of_images()?.into_values());
        let mut keep_layers = roots.layers.clone();
        let mut keep_blobs = BTreeSet::new();
        let mut freed = Freed::default();
        for id in self.digests("images", ".json")? {
            if keep_images.contains(&id) {
                let record = self.record(&id)?;
                keep_layers.extend(record.layers);
                keep_blobs.extend(record.manifest);
                keep_blobs.insert(id);
            } else {
                atomic::remove_file(&self.image_path(&id))?;
                self.remove_verdicts(&id)?;
                freed.images += 1;
            }
        }
        for diff_id in self.digests("layers", "")? {
            let record = self.layer(&diff_id)?;
            if keep_layers.contains(&diff_id) {
                keep_blobs.extend(record.and_then(|layer| layer.blob).map(|blob| blob.digest));
            } else {
                freed.bytes += record.map_or(0, |layer| layer.size_bytes);
                freed.layers += 1;
                self.remove_layer(&diff_id)?;
            }
        }
        for digest in self.digests("blobs/sha256", "")? {
            if !keep_blobs.contains(&digest) {
                freed.bytes += std::fs::metadata(self.blob_path(&digest)).map_or(0, |found| found.len());
                self.remove_blob(&digest)?;
            }
        }
        freed.bytes += self.remove_stale_partials(SystemTime::now())?;
        self.remove_free_locks()?;
        Ok(freed)
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
