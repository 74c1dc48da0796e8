//! Blobs of the store: configurations and manifests, and layers as they travel, compressed. Files named by their digests.
//!
//! A compressed layer is a convenience: whoever has the unpacked one can make another. It may be missing at any time, and it is not
//! synced: what reads it checks it.

use super::{ImageStore, LayerRecord, StoreError};
use crate::image::layer::{LayerError, compress};
use crate::image::manifest::{Descriptor, media_type};
use crate::store::{FileError, Scratch, atomic};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Bytes read from a source at a time.
const READ_BYTES: usize = 256 << 10;

impl ImageStore {
    /// Adds a small blob by content; returns its digest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        if !path.exists() {
            atomic::write(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Adds a blob that is promised to have this digest and size, without a copy in memory; nothing stays if the promise is broken.
    pub fn put_blob_from(&self, promised: &Descriptor, source: impl Read) -> Result<(), StoreError> {
        if self.has_blob(&promised.digest) {
            return Ok(());
        }
        let scratch = self.scratch()?;
        let path = scratch.path().join("blob");
        let mut file = File::create(&path).map_err(FileError::of("create", &path))?;
        let mut source = source.take(promised.size.saturating_add(1));
        let (mut sha256, mut size, mut buffer) = (Sha256::new(), 0, vec![0; READ_BYTES]);
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(LayerError::Read { after: String::new(), source }.into()),
            };
            sha256.update(&buffer[..count]);
            size += count as u64;
            file.write_all(&buffer[..count]).map_err(FileError::of("write", &path))?;
        }
        let found = Digest::from_bytes(sha256.finalize().into());
        if size != promised.size || found != promised.digest {
            return Err(LayerError::Digest { what: "blob", expected: promised.digest, found }.into());
        }
        self.keep_blob(&path, &promised.digest)
    }

    /// A configuration or manifest, as it was added.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        Ok(fs::read(&path).map_err(FileError::of("read", &path))?)
    }

    /// Whether the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Opens a blob for reading; `None` if it is not there. It stays readable while it is open, whatever is collected meanwhile.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::of("open", &path)(error).into()),
        }
    }

    /// Whether a blob that is in the store is what it is called; one that is absent is.
    pub fn blob_is_sound(&self, promised: &Descriptor) -> Result<bool, StoreError> {
        let Some(mut file) = self.open_blob(&promised.digest)? else { return Ok(true) };
        let (mut sha256, mut buffer) = (Sha256::new(), vec![0; READ_BYTES]);
        loop {
            let count = file.read(&mut buffer).map_err(FileError::of("read", &self.blob_path(&promised.digest)))?;
            if count == 0 {
                return Ok(Digest::from_bytes(sha256.finalize().into()) == promised.digest);
            }
            sha256.update(&buffer[..count]);
        }
    }

    /// Removes a blob: one that turned out to be damaged, or a compressed layer whose room is needed. Fine if it is absent.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        Ok(atomic::remove_file(&self.blob_path(digest))?)
    }

    /// The record of a layer that has its blob in the store: packed and compressed now if it is not there.
    ///
    /// Deterministic: the same files give the same bytes. A layer that was pulled may have had its entries in another order or form:
    /// then what is packed here has a diff id of its own, [`LayerRecord::blob_diff_id`].
    pub fn ensure_layer_blob(&self, diff_id: &Digest) -> Result<LayerRecord, StoreError> {
        let kept = |record: &LayerRecord| record.blob.as_ref().is_some_and(|blob| self.has_blob(&blob.digest));
        let _lease = self.lease()?;
        let record = self.layer(diff_id)?.ok_or(StoreError::NoLayer(*diff_id))?;
        if kept(&record) {
            return Ok(record);
        }
        let lock = self.lock_layer(diff_id)?;
        // Whoever held the lock before us may have compressed this very layer.
        let record = match self.layer(diff_id)?.ok_or(StoreError::NoLayer(*diff_id))? {
            record if kept(&record) => record,
            record => self.compress_layer(record)?,
        };
        lock.remove()?;
        Ok(record)
    }

    fn compress_layer(&self, mut record: LayerRecord) -> Result<LayerRecord, StoreError> {
        let scratch: Scratch = self.scratch()?;
        let path = scratch.path().join("blob");
        let file = File::create(&path).map_err(FileError::of("create", &path))?;
        let (packed, compressed) = compress::gzip(file, |blocks| {
            let mut stream = Hashing { sha256: Sha256::new(), sink: blocks };
            self.export_layer(&record.diff_id, &mut stream)?;
            Ok::<_, StoreError>(Digest::from_bytes(stream.sha256.finalize().into()))
        });
        let packed = packed?;
        if Self::is_sound(&record, &packed) == Some(false) {
            return Err(StoreError::Damaged(record.diff_id));
        }
        let compressed = compressed.map_err(FileError::of("write", &path))?;
        self.keep_blob(&path, &compressed.digest)?;
        record.blob = Some(Descriptor {
            media_type: media_type::OCI_LAYER_GZIP.to_owned(),
            digest: compressed.digest,
            size: compressed.bytes,
            platform: None,
            annotations: Default::default(),
        });
        record.blob_diff_id = (packed != record.diff_id).then_some(packed);
        self.write_layer_record(&record)?;
        Ok(record)
    }

    /// Gives a blob that was verified its lasting name.
    pub(super) fn keep_blob(&self, from: &std::path::Path, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        Ok(fs::rename(from, &path).map_err(FileError::of("rename to", &path))?)
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }
}

/// Hashes what passes.
struct Hashing<'a, W> {
    sha256: Sha256,
    sink: &'a mut W,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.sha256.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
