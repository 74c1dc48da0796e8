//! Where images were pulled from and who signed them, kept beside them: `images/<hex>.origins`. An image without is of this host's
//! own making: built, imported, committed.

use super::{ImageStore, StoreError, read_record};
use crate::image::ImageId;
use crate::store::atomic;
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::path::PathBuf;

/// Most origins of one image that are kept: each name and key makes one. Beyond that the oldest go.
const ORIGINS_MAX: usize = 100;
/// Ends the names of the files.
const SUFFIX: &str = ".origins";

/// A pull of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Under which name: `docker.io/library/nginx`.
    pub repository: String,
    /// And which tag, if it was pulled by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What the name led to: the index, if there was one, and the manifest.
    pub manifests: Vec<Digest>,
    /// Fingerprint of the key whose signature was found good then (SHA-256 of its DER form), if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Digest>,
}

impl ImageStore {
    /// How an image was pulled; nothing if it was made here.
    pub fn origins(&self, id: &ImageId) -> Result<Vec<Origin>, StoreError> {
        Ok(read_record(&self.origins_path(id))?.unwrap_or_default())
    }

    /// Remembers how an image comes here: before the image is there, so that a pulled one never looks as if it was made here. Two
    /// at once keep one of them: a signature that is not remembered is asked for again.
    pub(crate) fn put_origin(&self, id: &ImageId, origin: &Origin) -> Result<(), StoreError> {
        let mut origins = match self.origins(id) {
            // Nobody knows any more where else it came from.
            Err(StoreError::Record { .. }) => Vec::new(),
            origins => origins?,
        };
        if origins.contains(origin) {
            return Ok(());
        }
        origins.push(origin.clone());
        origins.drain(..origins.len().saturating_sub(ORIGINS_MAX));
        Ok(atomic::write_json(&self.origins_path(id), &origins)?)
    }

    /// Images of which that is known, whether or not they are here: a pull writes it first.
    pub(super) fn images_with_origins(&self) -> Result<Vec<ImageId>, StoreError> {
        self.digests("images", SUFFIX)
    }

    pub(super) fn origins_path(&self, id: &ImageId) -> PathBuf {
        self.directory.join("images").join(format!("{}{SUFFIX}", id.hex()))
    }
}
