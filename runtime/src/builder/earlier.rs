//! The layer that the same instruction made last time, and what its files hold: where little changed, most of it is linked and not
//! copied. Only a saving: a list that is absent, torn or of a layer that is gone is none.
//!
//! ```text
//! <build-cache>/layers/<recipe>    diff id, then per file: length of its path (4 bytes), path, digest; digest of all that at the end
//! ```

use super::cache::{Cache, KeyBuilder};
use super::tree::{Files, Written};
use crate::image::store::ImageStore;
use crate::store::atomic;
use rustix::fs::{Mode, OFlags};
use spec::value::Digest;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Fewer files are copied faster than a list of them is kept.
const FILES_MIN: usize = 256;
/// Largest list read: two million files with paths as long as they are in practice.
const LIST_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// A layer and the digests of its files.
pub(super) struct Earlier {
    /// Its root.
    pub(super) root: OwnedFd,
    /// What it holds.
    pub(super) files: Files,
}

/// What tells an instruction from others: its Dockerfile, its stage and its text.
pub(super) fn recipe(dockerfile: Digest, stage: usize, text: &str) -> Digest {
    let mut key = KeyBuilder::new("recipe", &[dockerfile]);
    key.text(&stage.to_string()).text(text);
    key.finish()
}

/// Notes what a layer holds for the next time. Lists of layers that are gone go with them.
pub(super) fn remember(cache: &Cache, store: &ImageStore, recipe: &Digest, written: &Written) {
    if written.files.len() < FILES_MIN || !written.steady {
        return;
    }
    forget_gone(cache, store);
    if let Ok(earlier) = first_digest(&cache.files(recipe)) {
        // Files of it have one name more.
        store.count_again(&earlier);
    }
    let mut bytes = written.diff_id.as_bytes().to_vec();
    for (path, digest) in &written.files {
        bytes.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(digest.as_bytes());
    }
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    // That it cannot be written only makes the next build slower.
    let _ = atomic::write_unsynced(&cache.files(recipe), &bytes);
}

fn forget_gone(cache: &Cache, store: &ImageStore) {
    for entry in fs::read_dir(cache.lists()).into_iter().flatten().flatten() {
        if !first_digest(&entry.path()).is_ok_and(|diff_id| store.has_layer(&diff_id)) {
            // One that cannot be removed now is tried again next time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The layer that a list is of.
fn first_digest(list: &Path) -> io::Result<Digest> {
    let mut diff_id = [0; DIGEST_BYTES];
    File::open(list)?.read_exact(&mut diff_id)?;
    Ok(Digest::from_bytes(diff_id))
}

impl Earlier {
    /// The layer that an instruction made last, if it is still here.
    pub(super) fn find(cache: &Cache, store: &ImageStore, recipe: &Digest) -> Option<Self> {
        let path = cache.files(recipe);
        if fs::metadata(&path).ok()?.len() > LIST_BYTES_MAX {
            return None;
        }
        let (diff_id, files) = read(&fs::read(&path).ok()?)?;
        if !store.has_layer(&diff_id) {
            return None;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(store.layer_dir(&diff_id), flags, Mode::empty()).ok()?;
        Some(Self { root, files })
    }
}

fn read(bytes: &[u8]) -> Option<(Digest, Files)> {
    let (body, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let (diff_id, mut rest) = body.split_first_chunk::<DIGEST_BYTES>()?;
    let mut files = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (path, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let (digest, after) = after.split_first_chunk::<DIGEST_BYTES>()?;
        files.push((path.to_vec(), Digest::from_bytes(*digest)));
        rest = after;
    }
    Some((Digest::from_bytes(*diff_id), files.into_iter().collect()))
}
