//! What an image is to others: a manifest, a configuration and compressed layers, all of them in the store. What is pushed, saved
//! and served.
//!
//! An image that was pulled is published by the bytes it came by, as long as the store has them. For everything else a manifest is
//! made: OCI, layers as gzip, the same bytes for the same image on any host and any number of processors.

use super::ImageId;
use super::layer::stream::Compression;
use super::manifest::{self, Descriptor, Document, Manifest, media_type};
use super::store::{ImageStore, Lease, StoreError};
use crate::store::FileError;
use spec::value::Digest;
use std::collections::BTreeSet;
use std::io::Read;

/// An image as others get it. While it lives nothing of it is collected.
#[derive(Debug)]
pub struct Published {
    /// The exact bytes of the manifest.
    pub manifest: Vec<u8>,
    /// Media type of the manifest.
    pub media_type: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The configuration; its bytes are a blob of the store.
    pub config: Descriptor,
    /// Compressed layers, lowest first, each a blob of the store. An image may have the same one several times.
    pub layers: Vec<Descriptor>,
    /// Where the manifest comes from.
    pub origin: Origin,
    _lease: Lease,
}

/// Where the manifest of a published image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is the one the image was pulled by or published by before.
    Kept,
    /// It was made for an image that had none: built, imported, committed.
    Made,
    /// It was made because a layer's compressed form is no longer in the store: the image is the same to whoever runs it, its digest
    /// in a registry is another one.
    Remade {
        /// The manifest it came by.
        was: Digest,
    },
}

/// Told of blobs that are there now.
type Ready<'a, E> = &'a mut dyn FnMut(&Descriptor) -> Result<(), E>;

/// The blobs that an image may be published with, as far as they are known before one is made.
pub fn known_blobs(store: &ImageStore, id: &ImageId) -> Result<BTreeSet<Digest>, StoreError> {
    let mut known = BTreeSet::from([*id]);
    for diff_id in store.layers_of(id)? {
        known.extend(store.layer(&diff_id)?.and_then(|record| record.blob).map(|blob| blob.digest));
    }
    if let Some((_, bytes)) = store.manifest_of(id)?
        && let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes, None)
    {
        known.extend(manifest.layers.iter().map(|layer| layer.digest));
    }
    Ok(known)
}

/// The manifest of an image and all that it names; blobs that are missing are made.
///
/// The configuration is the image's own, unless a layer whose blob is gone could not be packed to the stream it came by: then it
/// names the new stream, and [`Published::config`] has another digest than the image has here.
pub fn manifest_of(store: &ImageStore, id: &ImageId) -> Result<Published, StoreError> {
    manifest_with(store, id, &mut |_| Ok(()))
}

/// The same, telling of each blob as soon as it is there: while one layer is compressed others can be on their way. A blob may be
/// told of twice. What `ready` fails with ends it.
pub fn manifest_with<E: From<StoreError>>(store: &ImageStore, id: &ImageId, ready: Ready<'_, E>) -> Result<Published, E> {
    let lease = store.lease()?;
    let known = store.manifest_of(id)?;
    if let Some((digest, bytes)) = &known
        && let Ok(Document::Manifest(manifest)) = manifest::parse(bytes, None)
        && manifest.layers.iter().all(|layer| store.has_blob(&layer.digest))
    {
        let media_type = manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        let (manifest, config, layers) = (bytes.clone(), manifest.config, manifest.layers);
        let mut largest_first: Vec<_> = layers.iter().chain([&config]).collect();
        largest_first.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        largest_first.into_iter().try_for_each(ready)?;
        return Ok(Published { manifest, media_type, digest: *digest, config, layers, origin: Origin::Kept, _lease: lease });
    }
    make(store, id, known.map(|(digest, _)| digest), lease, ready)
}

fn make<E: From<StoreError>>(
    store: &ImageStore,
    id: &ImageId,
    was: Option<Digest>,
    lease: Lease,
    ready: Ready<'_, E>,
) -> Result<Published, E> {
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    let all = store.layers_of(id)?;
    for diff_id in &all {
        if let Some(blob) = store.layer(diff_id)?.and_then(|record| record.blob).filter(|blob| store.has_blob(&blob.digest)) {
            ready(&blob)?;
        }
    }
    for diff_id in all {
        let record = store.ensure_layer_blob(&diff_id)?;
        diff_ids.push(record.blob_diff_id.unwrap_or(diff_id));
        let blob = record.blob.ok_or(StoreError::NoLayer(diff_id))?;
        ready(&blob)?;
        layers.push(descriptor(layer_type(store, &blob.digest)?, blob.digest, blob.size));
    }
    let config_bytes = with_diff_ids(store.blob(id)?, &diff_ids).map_err(|source| store.broken(id, source))?;
    let config = descriptor(media_type::OCI_CONFIG, store.put_blob(&config_bytes)?, config_bytes.len() as u64);
    ready(&config)?;
    let media_type = media_type::OCI_MANIFEST.to_owned();
    let manifest = Manifest { schema_version: 2, media_type: Some(media_type.clone()), config: config.clone(), layers: layers.clone() };
    let manifest = serde_json::to_vec(&manifest).map_err(|source| store.broken(id, source))?;
    let digest = store.put_manifest(id, &manifest)?;
    let origin = match was {
        None => Origin::Made,
        Some(was) if was == digest => Origin::Kept,
        Some(was) => Origin::Remade { was },
    };
    Ok(Published { manifest, media_type, digest, config, layers, origin, _lease: lease })
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: Default::default() }
}

/// The OCI type of a layer by its content: it may have been called by one of Docker's names, or by a wrong one.
fn layer_type(store: &ImageStore, blob: &Digest) -> Result<&'static str, StoreError> {
    let mut start = Vec::new();
    if let Some(file) = store.open_blob(blob)? {
        file.take(8).read_to_end(&mut start).map_err(FileError::of("read", store.directory()))?;
    }
    Ok(match Compression::detect(&start) {
        Ok(Compression::Gzip) => media_type::OCI_LAYER_GZIP,
        Ok(Compression::Zstd) => media_type::OCI_LAYER_ZSTD,
        Ok(Compression::None) | Err(_) => media_type::OCI_LAYER,
    })
}

/// A configuration with these layers: its own bytes if it has them already.
fn with_diff_ids(config: Vec<u8>, diff_ids: &[Digest]) -> Result<Vec<u8>, serde_json::Error> {
    let mut document: serde_json::Value = serde_json::from_slice(&config)?;
    let wanted = serde_json::to_value(diff_ids)?;
    let found = &mut document["rootfs"]["diff_ids"];
    if *found == wanted || (found.is_null() && diff_ids.is_empty()) {
        return Ok(config);
    }
    *found = wanted;
    serde_json::to_vec(&document)
}

#[cfg(test)]
mod tests;
