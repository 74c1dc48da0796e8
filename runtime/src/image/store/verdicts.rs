//! What is known about the signatures of images, kept beside them: `images/<hex>.verdicts`.

use super::{ImageStore, StoreError, read_record};
use crate::image::ImageId;
use crate::store::atomic;
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::path::PathBuf;

/// Most verdicts of one image that are kept: each name and key makes one. Beyond that the oldest go.
const VERDICTS_MAX: usize = 100;

/// A signature that was found good when the image was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Under which name: `docker.io/library/nginx`.
    pub repository: String,
    /// And which tag, if it was pulled by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What the name led to: the index, if there was one, and the manifest.
    pub manifests: Vec<Digest>,
    /// Fingerprint of the key: SHA-256 of its DER form.
    pub key: Digest,
}

impl ImageStore {
    /// What is known about the signatures of an image.
    pub fn verdicts(&self, id: &ImageId) -> Result<Vec<Verdict>, StoreError> {
        Ok(read_record(&self.verdicts_path(id))?.unwrap_or_default())
    }

    /// Remembers a signature with an image of the store. Two at once keep the last one: the other is then asked for again.
    pub(crate) fn put_verdict(&self, id: &ImageId, verdict: &Verdict) -> Result<(), StoreError> {
        let mut verdicts = self.verdicts(id)?;
        if verdicts.contains(verdict) {
            return Ok(());
        }
        verdicts.push(verdict.clone());
        verdicts.drain(..verdicts.len().saturating_sub(VERDICTS_MAX));
        Ok(atomic::write_json(&self.verdicts_path(id), &verdicts)?)
    }

    /// Forgets them. Fine if there are none.
    pub(super) fn remove_verdicts(&self, id: &ImageId) -> Result<(), StoreError> {
        Ok(atomic::remove_file(&self.verdicts_path(id))?)
    }

    fn verdicts_path(&self, id: &ImageId) -> PathBuf {
        self.directory.join("images").join(format!("{}.verdicts", id.hex()))
    }
}
