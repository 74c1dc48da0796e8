//! What the registry of this host holds, for whoever counts its bytes and removes what nothing needs, whether it is served or not.

use super::kept::Kept;
use super::upload;
use runtime::image::ImageId;
use runtime::store::usage::Footprint;
use runtime::store::{FileError, atomic};
use spec::value::Digest;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was pushed here, as far as others have to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Tags, and manifests that were pushed by digest alone.
    pub names: usize,
    /// Images of the store among it.
    pub images: BTreeSet<ImageId>,
    /// Manifests, configurations, layers: those of images of the store are kept there.
    pub blobs: BTreeSet<Digest>,
    /// Bytes of disk that it takes beside the store.
    pub bytes: u64,
    /// Those of them that nothing needs: blobs that no name keeps, and uploads that were left alone.
    pub garbage_bytes: u64,
}

impl Holdings {
    /// Those of a registry's directory; none if it is absent.
    pub fn read(directory: &Path) -> Result<Self, FileError> {
        if !directory.exists() {
            return Ok(Self::default());
        }
        let kept = Kept::open(directory)?;
        let entries = kept.all();
        let mut garbage = Footprint::default();
        garbage_of(&kept, directory)?.iter().for_each(|path| garbage.add(path));
        Ok(Self {
            names: entries.len(),
            images: entries.iter().filter_map(|(_, entry)| entry.image).collect(),
            blobs: kept.needed(),
            bytes: Footprint::of(directory).bytes(),
            garbage_bytes: garbage.freed(),
        })
    }
}

/// Removes what nothing needs of a registry's directory; how many bytes that frees. It may be served meanwhile.
pub fn remove_garbage(directory: &Path) -> Result<u64, FileError> {
    if !directory.exists() {
        return Ok(0);
    }
    let kept = Kept::open(directory)?;
    let _alone = kept.change()?;
    let garbage = garbage_of(&kept, directory)?;
    let mut footprint = Footprint::default();
    garbage.iter().for_each(|path| footprint.add(path));
    garbage.iter().try_for_each(|path| atomic::remove_file(path))?;
    Ok(footprint.freed())
}

fn garbage_of(kept: &Kept, directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    Ok([kept.nameless()?, upload::expired(directory)?].concat())
}
