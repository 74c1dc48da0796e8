//! Images of the store and the names that point at them.

use super::{ImageStore, StoreError, read_record};
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::store::{FileError, atomic};
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// An image ready to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its identity.
    pub id: ImageId,
    /// What it says about itself.
    pub config: ImageConfig,
    /// Its unpacked layers, lowest first: lower directories for overlayfs.
    pub layers: Vec<PathBuf>,
}

/// An image as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// Its identity.
    pub id: ImageId,
    /// The names that point at it, sorted.
    pub keys: Vec<String>,
    /// When it was made, RFC 3339, if it says so.
    pub created: Option<String>,
    /// When it came into this store.
    pub added: SystemTime,
    /// Bytes of the files of all its layers, shared ones included.
    pub size_bytes: u64,
    /// Diff ids of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// Digest of the manifest it was pulled by, or first published by.
    pub manifest: Option<Digest>,
}

/// `images/<hex>.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageRecord {
    pub(super) id: ImageId,
    pub(super) layers: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<Digest>,
}

/// `records/<digest of the key>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub(super) key: String,
    pub(super) id: ImageId,
}

impl ImageStore {
    /// Adds an image; its id is the digest of its configuration. All its layers must be in the store.
    pub fn put_image(&self, config: &ImageConfig) -> Result<ImageId, StoreError> {
        let bytes = serde_json::to_vec(config).map_err(|source| StoreError::Record { path: self.directory.join("images"), source })?;
        self.put_image_bytes(&bytes, None)
    }

    /// Adds an image by the exact bytes of its configuration, and those of the manifest it came by.
    pub(crate) fn put_image_bytes(&self, config: &[u8], manifest: Option<&[u8]>) -> Result<ImageId, StoreError> {
        let _lease = self.lease()?;
        let parsed: ImageConfig =
            serde_json::from_slice(config).map_err(|source| StoreError::Record { path: self.directory.join("images"), source })?;
        let layers = parsed.rootfs.diff_ids;
        if let Some(missing) = layers.iter().find(|diff_id| !self.has_layer(diff_id)) {
            return Err(StoreError::NoLayer(*missing));
        }
        self.sync_layers(&layers)?;
        let manifest = manifest.map(|bytes| self.put_blob(bytes)).transpose()?;
        let id = self.put_blob(config)?;
        let path = self.image_path(&id);
        let known = read_record::<ImageRecord>(&path)?;
        if known.is_none_or(|known| manifest.is_some() && known.manifest != manifest) {
            atomic::write_json(&path, &ImageRecord { id, layers, manifest })?;
        }
        Ok(id)
    }

    /// The image a name stands for; `None` if the name is unknown.
    pub fn find(&self, key: &str) -> Result<Option<ImageId>, StoreError> {
        Ok(read_record::<NameRecord>(&self.name_path(key))?.filter(|record| record.key == key).map(|record| record.id))
    }

    /// Makes a name (a registry reference, an image of a site, any text) stand for an image, whatever it stood for before.
    pub fn tag(&self, key: &str, id: &ImageId) -> Result<(), StoreError> {
        let _lease = self.lease()?;
        if !self.has_image(id) {
            return Err(StoreError::NoImage(*id));
        }
        if self.find(key)? == Some(*id) {
            return Ok(());
        }
        Ok(atomic::write_json(&self.name_path(key), &NameRecord { key: key.to_owned(), id: *id })?)
    }

    /// Removes a name; the image stays until [`Self::gc`] or [`Self::remove`]. Fine if the name is unknown.
    pub fn untag(&self, key: &str) -> Result<(), StoreError> {
        Ok(atomic::remove_file(&self.name_path(key))?)
    }

    /// Whether the image is there, complete.
    pub fn has_image(&self, id: &ImageId) -> bool {
        self.image_path(id).exists()
    }

    /// An image with its configuration and its layers.
    pub fn image(&self, id: &ImageId) -> Result<Image, StoreError> {
        let record = self.record(id)?;
        let bytes = self.blob(id)?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|source| StoreError::Record { path: self.blob_path(id), source })?;
        Ok(Image { id: *id, config, layers: record.layers.iter().map(|diff_id| self.layer_dir(diff_id)).collect() })
    }

    /// The diff ids of an image's layers, lowest first.
    pub fn layers_of(&self, id: &ImageId) -> Result<Vec<Digest>, StoreError> {
        Ok(self.record(id)?.layers)
    }

    /// The error of a configuration or manifest that is not what it was.
    pub(crate) fn broken(&self, id: &ImageId, source: serde_json::Error) -> StoreError {
        StoreError::Record { path: self.blob_path(id), source }
    }

    /// All images, by id.
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        let mut keys: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
        for (key, id) in self.names_of_images()? {
            keys.entry(id).or_default().push(key);
        }
        let mut summaries = Vec::new();
        for id in self.digests("images", ".json")? {
            match self.summary(id, keys.remove(&id).unwrap_or_default()) {
                // Removed since it was listed.
                Err(StoreError::NoImage(_)) => {}
                Err(_) if !self.has_image(&id) => {}
                other => summaries.push(other?),
            }
        }
        Ok(summaries)
    }

    fn summary(&self, id: ImageId, keys: Vec<String>) -> Result<ImageSummary, StoreError> {
        let ImageRecord { layers, manifest, .. } = self.record(&id)?;
        let mut size_bytes = 0;
        for diff_id in &layers {
            size_bytes += self.layer(diff_id)?.map_or(0, |layer| layer.size_bytes);
        }
        let (created, added) = (self.image(&id)?.config.created, self.added(&id)?);
        Ok(ImageSummary { id, keys, created, added, size_bytes, layers, manifest })
    }

    /// When an image came: its configuration is written once, its record again when it is published.
    fn added(&self, id: &ImageId) -> Result<SystemTime, StoreError> {
        let path = self.blob_path(id);
        Ok(std::fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(FileError::of("look at", &path))?)
    }

    /// All names and the images they stand for, sorted by name.
    pub fn names_of_images(&self) -> Result<BTreeMap<String, ImageId>, StoreError> {
        let mut names = BTreeMap::new();
        for name in self.names("records")? {
            if name.ends_with(".json")
                && let Some(record) = read_record::<NameRecord>(&self.directory.join("records").join(name))?
            {
                names.insert(record.key, record.id);
            }
        }
        Ok(names)
    }

    /// The digest of the manifest an image was pulled by, or first published by.
    pub fn manifest_digest(&self, id: &ImageId) -> Result<Option<Digest>, StoreError> {
        Ok(self.record(id)?.manifest)
    }

    /// Removes an image and its names; layers and blobs that nothing else uses go with the next [`Self::gc`]. Fine if it is absent.
    pub fn remove(&self, id: &ImageId) -> Result<(), StoreError> {
        for (key, named) in self.names_of_images()? {
            if named == *id {
                self.untag(&key)?;
            }
        }
        Ok(atomic::remove_file(&self.image_path(id))?)
    }

    /// The manifest an image was pulled by, or first published by, with its bytes; `None` if it has none, or it is gone.
    pub(crate) fn manifest_of(&self, id: &ImageId) -> Result<Option<(Digest, Vec<u8>)>, StoreError> {
        match self.record(id)?.manifest {
            Some(digest) if self.has_blob(&digest) => Ok(Some((digest, self.blob(&digest)?))),
            Some(_) | None => Ok(None),
        }
    }

    /// Remembers the manifest that was made for an image that had none.
    pub(crate) fn put_manifest(&self, id: &ImageId, bytes: &[u8]) -> Result<Digest, StoreError> {
        let _lease = self.lease()?;
        let digest = self.put_blob(bytes)?;
        let record = self.record(id)?;
        if record.manifest.is_none() {
            atomic::write_json(&self.image_path(id), &ImageRecord { manifest: Some(digest), ..record })?;
        }
        Ok(digest)
    }

    /// Forgets the manifest of an image: it is published by a new one.
    pub(super) fn forget_manifest(&self, id: &ImageId) -> Result<(), StoreError> {
        Ok(atomic::write_json(&self.image_path(id), &ImageRecord { manifest: None, ..self.record(id)? })?)
    }

    pub(super) fn record(&self, id: &ImageId) -> Result<ImageRecord, StoreError> {
        read_record(&self.image_path(id))?.ok_or(StoreError::NoImage(*id))
    }

    pub(super) fn image_path(&self, id: &ImageId) -> PathBuf {
        self.directory.join("images").join(format!("{}.json", id.hex()))
    }

    /// A file name for any text: its digest.
    pub(super) fn name_path(&self, key: &str) -> PathBuf {
        self.directory.join("records").join(format!("{}.json", Digest::of(key.as_bytes()).hex()))
    }
}
