//! How much disk the parts of the store take.

use super::{ImageStore, StoreError};
use crate::store::usage::{Footprint, tree_bytes};
use spec::value::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The file beside a layer that says what it takes: a layer never changes, so that it is walked once.
pub(super) const DISK_FILE: &str = "disk";

/// Ends the note of a layer that has files in common with others.
const SHARED: &str = " shared";

/// Bytes of disk, part by part. The parts do not overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Unpacked layers, each with its part of what it has in common with others.
    pub layers: BTreeMap<Digest, u64>,
    /// Layers that have files in common with others.
    pub shared: BTreeSet<Digest>,
    /// Blobs: configurations, manifests, kept compressed layers.
    pub blobs: BTreeMap<Digest, u64>,
    /// Blobs on their way, of pulls that go on or were interrupted.
    pub partial: u64,
    /// What is being made at this moment.
    pub scratch: u64,
    /// What the build cache keeps beside layers: cache mounts, what is remembered of steps and contexts.
    pub cache: u64,
    /// Records of names and images, and what was noted about where they came from.
    pub records: u64,
    /// What a registry served from here keeps.
    pub registry: u64,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> u64 {
        let parts = [self.partial, self.scratch, self.cache, self.records, self.registry];
        self.layers.values().chain(self.blobs.values()).chain(&parts).sum()
    }
}

impl ImageStore {
    /// What the store takes now.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let [cache, images, names, places] =
            ["build-cache", "images", "records", "places"].map(|part| tree_bytes(&self.directory.join(part)));
        let mut footprint = Footprint::of(&self.directory.join("scratch"));
        let scratch = footprint.bytes();
        // What is being imported has names in both.
        self.registry.iter().for_each(|registry| footprint.add(registry));
        let registry = footprint.bytes() - scratch;
        let mut usage = Usage { scratch, cache, records: images + names + places, registry, ..Usage::default() };
        for diff_id in self.digests("layers", "")? {
            let (bytes, is_shared) = self.layer_disk(&diff_id);
            usage.layers.insert(diff_id, bytes);
            if is_shared {
                usage.shared.insert(diff_id);
            }
        }
        let blobs = self.digests("blobs/sha256", "")?.into_iter();
        usage.blobs.extend(blobs.map(|digest| (digest, tree_bytes(&self.blob_path(&digest)))));
        usage.partial = self.partials(|_| true)?.iter().map(|path| tree_bytes(path)).sum();
        Ok(usage)
    }

    /// Bytes of disk that would be free without these layers.
    pub(super) fn freed_without<'a>(&self, layers: impl IntoIterator<Item = &'a Digest>, usage: &Usage) -> u64 {
        let (shared, alone): (Vec<_>, Vec<_>) = layers.into_iter().partition(|layer| usage.shared.contains(*layer));
        let mut together = Footprint::default();
        shared.into_iter().for_each(|layer| together.add(&self.layer_path(layer)));
        together.freed() + alone.into_iter().filter_map(|layer| usage.layers.get(layer)).sum::<u64>()
    }

    /// Has a layer counted again the next time: another one has taken files of it, or something was put beside it.
    pub(crate) fn count_again(&self, diff_id: &Digest) {
        // A note that cannot be removed tells a little too much, and nothing else.
        let _ = fs::remove_file(self.layer_path(diff_id).join(DISK_FILE));
    }

    /// Has every layer counted again that had files in common with others, some of which are gone.
    pub(super) fn count_shared_again(&self) -> Result<(), StoreError> {
        for diff_id in self.digests("layers", "")? {
            if self.disk_note(&diff_id).is_some_and(|(_, is_shared)| is_shared) {
                self.count_again(&diff_id);
            }
        }
        Ok(())
    }

    /// Bytes of disk a layer takes, and whether some of it is that of others too; counted the first time it is asked for.
    fn layer_disk(&self, diff_id: &Digest) -> (u64, bool) {
        if let Some(known) = self.disk_note(diff_id) {
            return known;
        }
        let path = self.layer_path(diff_id);
        let note = path.join(DISK_FILE);
        // There before it is counted, so that it counts itself. It saves the walk next time, nothing else; a layer that goes at this
        // moment takes its note along.
        let _ = fs::write(&note, "\n");
        let found = Footprint::of(&path);
        let _ = fs::write(&note, format!("{}{}\n", found.share(), if found.is_shared() { SHARED } else { "" }));
        (found.share(), found.is_shared())
    }

    fn disk_note(&self, diff_id: &Digest) -> Option<(u64, bool)> {
        let text = fs::read_to_string(self.layer_path(diff_id).join(DISK_FILE)).ok()?;
        let line = text.strip_suffix('\n')?;
        let (bytes, is_shared) = line.strip_suffix(SHARED).map_or((line, false), |bytes| (bytes, true));
        Some((bytes.parse().ok()?, is_shared))
    }
}
