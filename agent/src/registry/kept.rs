//! Manifests as they were pushed, by the name they were pushed as.
//!
//! The store keeps one manifest an image; two clients may push the same image by two (Docker's and OCI's), and each expects its own
//! bytes back. One file for each name: the manifest, byte for byte.

use super::problem::Problem;
use runtime::image::manifest::{self, Document, MANIFEST_BYTES_MAX, Manifest};
use runtime::store::atomic;
use spec::value::Digest;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A manifest that was pushed.
pub(super) struct KeptManifest {
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
}

/// The directory they are kept in.
pub(super) struct KeptManifests(PathBuf);

impl KeptManifests {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self(directory.to_owned()))
    }

    /// What was pushed as this name; `None` if nothing was, or if it is not readable as what it was.
    pub(super) fn get(&self, key: &str) -> Option<KeptManifest> {
        let mut bytes = Vec::new();
        File::open(self.path(key)).ok()?.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        match manifest::parse(&bytes, None) {
            Ok(Document::Manifest(manifest)) => Some(KeptManifest { bytes, manifest }),
            Ok(Document::Index(_)) | Err(_) => None,
        }
    }

    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<(), Problem> {
        atomic::write(&self.path(key), bytes).map_err(Problem::failed)
    }

    /// Fine if there is none.
    pub(super) fn remove(&self, key: &str) -> Result<(), Problem> {
        atomic::remove_file(&self.path(key)).map_err(Problem::failed)
    }

    /// Names have slashes; their digests have none.
    fn path(&self, key: &str) -> PathBuf {
        self.0.join(format!("{}.json", Digest::of(key.as_bytes()).hex()))
    }
}
