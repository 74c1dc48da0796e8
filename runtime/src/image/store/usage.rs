//! How much disk the parts of the store take.

use super::{ImageStore, StoreError};
use crate::store::usage::tree_bytes;
use spec::value::Digest;
use std::collections::BTreeMap;
use std::fs;

/// The file beside a layer that says what it takes: a layer never changes, so that it is walked once.
pub(super) const DISK_FILE: &str = "disk";

/// Bytes of disk, part by part. The parts do not overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Unpacked layers.
    pub layers: BTreeMap<Digest, u64>,
    /// Blobs: configurations, manifests, kept compressed layers.
    pub blobs: BTreeMap<Digest, u64>,
    /// Blobs on their way, of pulls that go on or were interrupted.
    pub partial: u64,
    /// What is being made at this moment.
    pub scratch: u64,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.layers.values().sum::<u64>() + self.blobs.values().sum::<u64>() + self.partial + self.scratch
    }
}

impl ImageStore {
    /// What the store takes now.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let layers = self.digests("layers", "")?.into_iter().map(|diff_id| (diff_id, self.layer_disk(&diff_id))).collect();
        let blobs = self.digests("blobs/sha256", "")?.into_iter().map(|digest| (digest, tree_bytes(&self.blob_path(&digest)))).collect();
        let partial =
            self.digests("partial", "")?.iter().map(|digest| tree_bytes(&self.directory.join("partial").join(digest.hex()))).sum();
        Ok(Usage { layers, blobs, partial, scratch: tree_bytes(&self.directory.join("scratch")) })
    }

    /// Bytes of disk a layer takes; counted the first time it is asked for.
    fn layer_disk(&self, diff_id: &Digest) -> u64 {
        let path = self.layer_path(diff_id);
        let note = path.join(DISK_FILE);
        if let Some(known) = fs::read_to_string(&note).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok()) {
            return known;
        }
        let counted = tree_bytes(&path);
        // Saves the walk next time, nothing else; a layer that goes at this moment takes its note along.
        let _ = fs::write(&note, format!("{counted}\n"));
        counted
    }
}
