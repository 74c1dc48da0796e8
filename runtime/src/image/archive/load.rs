//! Archives of any number of images, with the names they were saved under.

use super::ImportError;
use super::contents::Form;
use super::layout::{Archive, SavedImage};
use super::save::{NAME_ANNOTATION, REF_ANNOTATION};
use crate::image::ImageId;
use crate::image::manifest::{self, Descriptor, Document, MANIFEST_BYTES_MAX};
use spec::value::{Digest, ImageReference};
use std::collections::BTreeSet;

/// Most images of one archive: a whole registry of a small shop.
const IMAGES_MAX: usize = 1_000;
/// Most names of one archive: each is a file that is synced.
const NAMES_MAX: usize = 10_000;

/// An image that was loaded. It has no name yet: hold a lease until it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Which.
    pub id: ImageId,
    /// The names that the archive has for it.
    pub names: BTreeSet<ImageReference>,
}

impl Archive<'_> {
    /// Every image of the archive that runs here, in the order it has them.
    pub(super) fn load(&self) -> Result<Vec<Loaded>, ImportError> {
        let is_layout = match self.contents.form() {
            Form::Transport => return Ok(vec![Loaded { id: self.transport()?, names: BTreeSet::new() }]),
            Form::Layout => true,
            Form::Saved => false,
        };
        let saved = if self.contents.has("manifest.json") { self.saved_images()? } else { Vec::new() };
        self.check_count("images", saved.len(), IMAGES_MAX)?;
        self.check_count("names", saved.iter().map(|image| image.repo_tags.iter().flatten().count()).sum(), NAMES_MAX)?;
        let mut loaded: Vec<Loaded> = Vec::new();
        if is_layout {
            for (entry, names) in self.entries()? {
                let id = self.oci_from(self.blob(&entry.digest, MANIFEST_BYTES_MAX)?)?;
                add(&mut loaded, id, names);
            }
        }
        for image in saved {
            let names = image.repo_tags.iter().flatten().filter_map(|name| name.parse().ok()).collect();
            match loaded.iter_mut().find(|known| image.is_of(&known.id)) {
                Some(known) => known.names.extend(names),
                // Where it is both, the layout has everything: what it leaves out runs elsewhere.
                None if is_layout => {}
                None => {
                    let id = self.docker_image(&image)?;
                    add(&mut loaded, id, names);
                }
            }
        }
        if loaded.is_empty() { Err(self.image("it holds no image".to_owned())) } else { Ok(loaded) }
    }

    fn check_count(&self, what: &str, count: usize, most: usize) -> Result<(), ImportError> {
        if count <= most {
            return Ok(());
        }
        Err(self.image(format!("it holds {count} {what}, at most {most} are taken")))
    }

    /// The images of the index with their names. Lines with a platform and without a name are forms of one image: the best is taken.
    fn entries(&self) -> Result<Vec<(Descriptor, BTreeSet<ImageReference>)>, ImportError> {
        let bytes = self.required("index.json", MANIFEST_BYTES_MAX)?;
        let index = match manifest::parse(&bytes, None).map_err(|source| self.wrong(source))? {
            Document::Index(index) => index,
            Document::Manifest(_) => return Err(self.image("its index.json is no index".to_owned())),
        };
        self.check_count("images", index.manifests.len(), IMAGES_MAX)?;
        let is_own = |entry: &Descriptor| entry.platform.is_none() || !names(entry).is_empty();
        if index.manifests.iter().any(is_own) {
            return Ok(index.manifests.into_iter().filter(is_own).map(|entry| (entry.clone(), names(&entry))).collect());
        }
        let chosen = manifest::choose(&index, &crate::image::platform::Platform::host()).map_err(|source| self.wrong(source))?;
        Ok(vec![(chosen.clone(), BTreeSet::new())])
    }
}

/// The names of a line of an index. A bare tag, as skopeo and podman may write it, names nothing.
fn names(entry: &Descriptor) -> BTreeSet<ImageReference> {
    let full = entry.annotations.get(NAME_ANNOTATION);
    let name = full.or_else(|| entry.annotations.get(REF_ANNOTATION).filter(|name| name.contains([':', '/'])));
    name.and_then(|name| name.parse().ok()).into_iter().collect()
}

fn add(loaded: &mut Vec<Loaded>, id: ImageId, names: BTreeSet<ImageReference>) {
    match loaded.iter_mut().find(|known| known.id == id) {
        Some(known) => known.names.extend(names),
        None => loaded.push(Loaded { id, names }),
    }
}

impl SavedImage {
    /// Whether its configuration, which is named by its digest, is this one.
    fn is_of(&self, id: &Digest) -> bool {
        self.config_hex() == id.hex()
    }
}
