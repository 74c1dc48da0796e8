//! Seals: what the files of a layer come to when they are packed, noted in its record where that is not its diff id.
//!
//! A layer that came in another order or form than ours can only be told from a damaged one by what it came as. As long as that is
//! kept, nothing has to be noted, and a pull pays nothing; before it goes, and where it never was, the seal is made.

use super::layers::open_directory;
use super::{ImageStore, LayerRecord, StoreError};
use crate::image::layer::hashing::HashingSink;
use crate::image::layer::{LayerError, Times, pack, unpack};
use crate::store::FileError;
use spec::value::Digest;
use std::path::Path;

impl ImageStore {
    /// Notes what the files of a layer come to.
    pub(super) fn seal(&self, diff_id: &Digest, found: Digest) -> Result<(), StoreError> {
        let lock = self.lock_layer(diff_id)?;
        if let Some(mut record) = self.layer(diff_id)? {
            record.seal = Some(found);
            self.write_layer_record(&record)?;
        }
        Ok(lock.remove()?)
    }

    /// Whether files that come to this when packed are those of the layer. `None` if that is not known.
    pub(super) fn is_sound(record: &LayerRecord, found: &Digest) -> Option<bool> {
        let known = if record.made_here { Some(record.diff_id) } else { record.blob_diff_id.or(record.seal) };
        if *found == record.diff_id { Some(true) } else { known.map(|known| known == *found) }
    }

    /// Seals the layers that are about to lose what they came as; the blobs of those whose files are not what that unpacks to. Those
    /// have to stay: nothing else can mend the layer.
    pub(super) fn seal_before_they_go(&self, blobs: &dyn Fn(&Digest) -> bool) -> Result<Vec<Digest>, StoreError> {
        let mut needed = Vec::new();
        for diff_id in self.digests("layers", "")? {
            let Ok(Some(record)) = self.layer(&diff_id) else { continue };
            let Some(blob) = record.blob.as_ref().map(|blob| blob.digest).filter(|blob| blobs(blob)) else { continue };
            let found = tree_digest(&self.layer_dir(&diff_id))?;
            match Self::is_sound(&record, &found) {
                Some(true) => continue,
                Some(false) => {
                    needed.push(blob);
                    continue;
                }
                None => {}
            }
            // Where room is short, and that may be why they go, the files are taken to be what they were.
            let fits = self.check_room(record.size_bytes).is_ok();
            match if fits { self.tree_of_blob(&record)? } else { Some(found) } {
                Some(wanted) if wanted == found => self.seal(&diff_id, found)?,
                Some(_) => needed.push(blob),
                // It would be of no use either.
                None => {}
            }
        }
        Ok(needed)
    }

    /// What the blob of a layer unpacks to, packed; `None` without a blob that is what it was.
    pub(super) fn tree_of_blob(&self, record: &LayerRecord) -> Result<Option<Digest>, StoreError> {
        let Some(blob) = &record.blob else { return Ok(None) };
        let Some(file) = self.open_blob(&blob.digest)? else { return Ok(None) };
        let scratch = self.scratch()?;
        let root = scratch.subdirectory("root")?;
        match unpack::unpack_beside(file, open_directory(&root)?, &self.unwritten) {
            Ok(found) if found.diff_id == record.blob_diff_id.unwrap_or(record.diff_id) => Ok(Some(tree_digest(&root)?)),
            Err(error @ LayerError::System { .. }) => Err(error.into()),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

/// What a tree comes to, packed.
pub(super) fn tree_digest(root: &Path) -> Result<Digest, StoreError> {
    let mut stream = HashingSink::new();
    pack::pack(&open_directory(root)?, Times::Keep, pack::OnDisk::Leave, &mut stream)?;
    Ok(stream.finish().map_err(FileError::of("hash", root))?)
}
