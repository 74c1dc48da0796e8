//! Layers of the store: added by unpacking a stream or by taking over an overlay's upper directory.

use super::seal::tree_digest;
use super::{ImageStore, StoreError, read_record};
use crate::image::layer::hashing::HashingSink;
use crate::image::layer::pack::Packed;
use crate::image::layer::source::Source;
use crate::image::layer::{LayerError, Times, pack, unpack};
use crate::image::manifest::Descriptor;
use crate::store::{FileError, Lock, Scratch, atomic, remove};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerRecord {
    /// Digest of its uncompressed tar stream.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Its entries, whiteouts included; 0 for a step that changed nothing.
    pub entries: u64,
    /// The compressed form in which it came, or was made to go: what a registry may have already. The blob itself may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
    /// Digest of what the blob unpacks to, where that is not the diff id: the blob it came by is gone, and packing its files again
    /// gave another stream of the same meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob_diff_id: Option<Digest>,
    /// Whether it was made here by packing its files: packing them again gives the diff id. What came from elsewhere may have had its
    /// entries in another order or form.
    #[serde(default)]
    pub made_here: bool,
    /// What its files come to when they are packed, where that is not the diff id and was found out; see [`super::seal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Digest>,
    /// The boot that wrote it; see [`super`] on power cuts.
    boot: String,
}

/// What a stream must turn out to be; `None` is not checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected<'a> {
    /// The diff id that the image's configuration promises.
    pub(crate) diff_id: Option<Digest>,
    /// The compressed blob that its manifest promises; recorded with the layer.
    pub(crate) blob: Option<&'a Descriptor>,
}

impl ImageStore {
    /// Whether the layer is there, complete.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).join("layer.json").exists()
    }

    /// Where the unpacked layer is (or would be): a lower directory for overlayfs.
    pub fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.layer_path(diff_id).join("root")
    }

    /// The layer whose unpacked directory this is ([`Self::layer_dir`]); `None` if it is none of ours.
    pub fn layer_at(&self, directory: &Path) -> Option<Digest> {
        let name = directory.strip_prefix(self.directory.join("layers")).ok()?.parent()?;
        format!("sha256:{}", name.to_str()?).parse().ok()
    }

    /// The record of a layer; `None` if it is not there.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, StoreError> {
        read_record(&self.layer_path(diff_id).join("layer.json"))
    }

    /// Adds a layer from its tar stream: plain, gzip or zstd, recognised by content.
    pub fn import_layer(&self, source: impl Read + Send) -> Result<LayerRecord, StoreError> {
        self.unpack_layer(source, &Expected::default())
    }

    /// Adds a layer of the files that a tar stream holds. Its diff id is not that of the stream but that of the same files packed here:
    /// in whatever order and form they came, the layer can be made to travel again at any time, as the same bytes.
    pub fn import_files(&self, source: impl Read + Send) -> Result<LayerRecord, StoreError> {
        let _lease = self.lease()?;
        let scratch = self.scratch()?;
        self.unpack_into(&scratch, source, &Expected::default())?;
        self.commit_layer(&scratch.path().join("root"), Times::Keep)
    }

    /// Adds a layer whose digests are known beforehand; nothing stays if they do not come true.
    pub(crate) fn unpack_layer<'a>(&self, source: impl Into<Source<'a>>, expected: &Expected<'_>) -> Result<LayerRecord, StoreError> {
        let _lease = self.lease()?;
        let scratch = self.scratch()?;
        let mut record = self.unpack_into(&scratch, source, expected)?;
        if record.blob.is_none() {
            record.seal = Some(tree_digest(&scratch.path().join("root"))?);
        }
        self.keep(scratch, record)
    }

    /// Unpacks a stream beside the store and checks it; its record is not written yet.
    pub(super) fn unpack_into<'a>(
        &self,
        scratch: &Scratch,
        source: impl Into<Source<'a>>,
        expected: &Expected<'_>,
    ) -> Result<LayerRecord, StoreError> {
        let root = open_directory(&scratch.subdirectory("root")?)?;
        let unpacked = unpack::unpack_beside(source.into().through(|stream| self.watched(stream)), root, &self.unwritten)?;
        let matches = |what, expected: Option<Digest>, found| match expected {
            Some(expected) if expected != found => Err(LayerError::Digest { what, expected, found }),
            _ => Ok(()),
        };
        matches("compressed layer", expected.blob.map(|blob| blob.digest), unpacked.compressed.digest)?;
        matches("uncompressed layer", expected.diff_id, unpacked.diff_id)?;
        Ok(LayerRecord {
            diff_id: unpacked.diff_id,
            size_bytes: unpacked.size_bytes,
            entries: unpacked.entries,
            blob: expected.blob.cloned(),
            blob_diff_id: None,
            made_here: false,
            seal: None,
            boot: self.boot.clone(),
        })
    }

    /// Takes over an overlay's upper directory as a new layer, by rename, after its overlay was unmounted; it must be on the store's
    /// file system ([`Self::scratch`]).
    ///
    /// The diff id is that of the stream which [`pack::pack`] makes of it; the files are given the times that the stream has, so that
    /// what is kept equals what pulling the layer elsewhere would give. If the layer is there already the directory is dropped.
    pub fn commit_layer(&self, upper: &Path, times: Times) -> Result<LayerRecord, StoreError> {
        let _lease = self.lease()?;
        self.same_file_system(upper)?;
        let directory = open_directory(upper)?;
        let mut stream = HashingSink::new();
        let packed = pack::pack(&directory, times, pack::OnDisk::Settle, &mut stream)?;
        let diff_id = stream.finish().map_err(FileError::of("read", upper))?;
        self.take_over(upper, diff_id, packed)
    }

    /// As [`Self::commit_layer`] for a directory whose stream was hashed while it was written: `diff_id` and `packed` are what
    /// [`pack::pack`] would find.
    pub(crate) fn commit_written(&self, upper: &Path, diff_id: Digest, packed: Packed) -> Result<LayerRecord, StoreError> {
        let _lease = self.lease()?;
        self.same_file_system(upper)?;
        self.take_over(upper, diff_id, packed)
    }

    fn take_over(&self, upper: &Path, diff_id: Digest, packed: Packed) -> Result<LayerRecord, StoreError> {
        let scratch = self.scratch()?;
        let root = scratch.path().join("root");
        fs::rename(upper, &root).map_err(FileError::of("rename to", &root))?;
        self.keep(scratch, self.record_of(diff_id, packed))
    }

    /// The record of a layer that was packed here.
    fn record_of(&self, diff_id: Digest, Packed { size_bytes, entries }: Packed) -> LayerRecord {
        let boot = self.boot.clone();
        LayerRecord { diff_id, size_bytes, entries, blob: None, blob_diff_id: None, made_here: true, seal: None, boot }
    }

    /// Writes the record of a layer anew from its files; false if packing them does not give it.
    pub(super) fn record_again(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let Ok(root) = open_directory(&self.layer_dir(diff_id)) else { return Ok(false) };
        let mut stream = HashingSink::new();
        let packed = pack::pack(&root, Times::Keep, pack::OnDisk::Leave, &mut stream)?;
        let found = stream.finish().map_err(FileError::of("read", &self.layer_dir(diff_id)))?;
        if found != *diff_id {
            return Ok(false);
        }
        self.write_layer_record(&self.record_of(*diff_id, packed))?;
        Ok(true)
    }

    /// Writes a layer of the store as an uncompressed tar stream. Its digest is the diff id for layers committed here; a layer that was
    /// pulled had its entries in another order or form, so that its stream is equal in meaning only.
    pub fn export_layer(&self, diff_id: &Digest, sink: impl Write) -> Result<(), StoreError> {
        if !self.has_layer(diff_id) {
            return Err(StoreError::NoLayer(*diff_id));
        }
        pack::pack(&open_directory(&self.layer_dir(diff_id))?, Times::Keep, pack::OnDisk::Leave, sink)?;
        Ok(())
    }

    /// As [`Self::lock_layer`], as long as the layer is wanted. Errors: [`StoreError::Unwanted`].
    pub(crate) fn lock_layer_while(&self, diff_id: &Digest, is_wanted: &dyn Fn() -> bool) -> Result<Lock, StoreError> {
        let lock = Lock::exclusive_while(&self.directory.join("locks").join(diff_id.hex()), is_wanted)?;
        lock.ok_or(StoreError::Unwanted)
    }

    /// Waits until nobody else makes this layer. Whoever holds the lock looks again whether the layer is there.
    pub(crate) fn lock_layer(&self, diff_id: &Digest) -> Result<Lock, StoreError> {
        Ok(Lock::exclusive(&self.directory.join("locks").join(diff_id.hex()))?)
    }

    /// Makes layers count after a power cut: one sync of the file system for all of them, then a mark in each.
    pub(super) fn sync_layers(&self, diff_ids: &[Digest]) -> Result<(), StoreError> {
        let marks: Vec<_> = diff_ids.iter().map(|diff_id| self.layer_path(diff_id).join("durable")).collect();
        let missing: Vec<_> = marks.iter().filter(|mark| !mark.exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let directory = open_directory(&self.directory)?;
        rustix::fs::syncfs(&directory).map_err(FileError::of("sync", &self.directory))?;
        for mark in missing {
            fs::write(mark, "").map_err(FileError::of("create", mark))?;
        }
        Ok(())
    }

    /// Removes layers of an earlier boot that were never synced: after a power cut their files may be empty or torn.
    pub(super) fn drop_unsynced_layers(&self) -> Result<(), StoreError> {
        for diff_id in self.digests("layers", "")? {
            let path = self.layer_path(&diff_id);
            if path.join("durable").exists() {
                continue;
            }
            // A record that cannot be read is as torn as the rest.
            let of_this_boot = self.layer(&diff_id).is_ok_and(|record| record.is_some_and(|record| record.boot == self.boot));
            if !of_this_boot {
                self.remove_layer(&diff_id)?;
            }
        }
        Ok(())
    }

    /// Removes a layer; it is gone at once, its files follow. Fine if it is absent.
    pub(super) fn remove_layer(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let doomed = self.scratch()?;
        match fs::rename(self.layer_path(diff_id), doomed.path().join("layer")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FileError::of("remove", &self.layer_path(diff_id))(error).into()),
            Ok(()) => Ok(remove::remove_tree(doomed.path())?),
        }
    }

    /// Replaces the record of a layer that is there.
    pub(super) fn write_layer_record(&self, record: &LayerRecord) -> Result<(), StoreError> {
        Ok(atomic::write_json(&self.layer_path(&record.diff_id).join("layer.json"), record)?)
    }

    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.directory.join("layers").join(diff_id.hex())
    }

    /// Gives a finished layer its lasting name. Somebody else may have made the same one meanwhile: then theirs is kept.
    fn keep(&self, scratch: Scratch, record: LayerRecord) -> Result<LayerRecord, StoreError> {
        if let Some(existing) = self.layer(&record.diff_id)? {
            return Ok(existing);
        }
        // What it takes is on disk already: counted with the scratch directory.
        self.check_room(0)?;
        // Not synced: the layer counts in later boots only once all of it is.
        atomic::write_json_unsynced(&scratch.path().join("layer.json"), &record)?;
        match scratch.persist(&self.layer_path(&record.diff_id)) {
            Ok(()) => Ok(record),
            Err(error) => self.layer(&record.diff_id)?.ok_or_else(|| error.into()),
        }
    }
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(FileError::of("open", path))
}
