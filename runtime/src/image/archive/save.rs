//! Images to a file: one tar that is an OCI layout and a `docker save` archive at once, as Docker 25 and later write it.
//!
//! The parts are those that a push would send, byte for byte: whoever loads the file has the same manifest digest. The same images
//! give the same file.

use crate::image::ImageId;
use crate::image::manifest::{Descriptor, media_type};
use crate::image::publish::{Published, manifest_of};
use crate::image::store::{ImageStore, StoreError};
use serde::Serialize;
use spec::value::{Digest, ImageReference};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

/// Full name of an image in an index: containerd's annotation, which docker writes and reads too.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Its tag, or a full name, in an index (OCI image specification, "Pre-Defined Annotation Keys").
pub(super) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// What the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Both of the others.
    Both,
    /// An OCI layout.
    Oci,
    /// What `docker load` has read for ten years.
    Docker,
}

/// An image to be saved, with the names it is saved under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSave {
    /// Which.
    pub id: ImageId,
    /// Its names; those with a digest cannot be given by a load and are left out.
    pub names: BTreeSet<ImageReference>,
}

/// Why images could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// An image, or a part of it, cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part was removed while the file was written.
    #[error("blob {0} went away while it was saved: save again")]
    Gone(Digest),
    /// The file cannot be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

/// One image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `index.json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SavedIndex {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// Writes images to a sink.
pub fn save(store: &ImageStore, images: &[ToSave], format: Format, sink: impl Write) -> Result<(), SaveError> {
    let published = images.iter().map(|image| manifest_of(store, &image.id)).collect::<Result<Vec<Published>, _>>()?;
    let mut archive = Archive { tar: tar::Builder::new(sink), written: BTreeSet::new() };
    if format != Format::Docker {
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    }
    for image in &published {
        for part in std::iter::once(&image.config).chain(&image.layers) {
            archive.blob(store, part)?;
        }
        if format != Format::Docker && archive.written.insert(image.digest) {
            archive.file(&blob_name(&image.digest), &image.manifest)?;
        }
    }
    if format != Format::Docker {
        let manifests = images.iter().zip(&published).flat_map(|(image, published)| descriptors(image, published)).collect();
        archive.json("index.json", &SavedIndex { schema_version: 2, media_type: media_type::OCI_INDEX, manifests })?;
    }
    if format != Format::Oci {
        archive.json("manifest.json", &images.iter().zip(&published).map(|(image, it)| saved_image(image, it)).collect::<Vec<_>>())?;
    }
    let mut sink = archive.tar.into_inner().map_err(SaveError::Write)?;
    sink.flush().map_err(SaveError::Write)
}

/// An image's lines in the index: one a name, one without if it has none.
fn descriptors(image: &ToSave, published: &Published) -> Vec<Descriptor> {
    let line = |annotations| Descriptor {
        media_type: published.media_type.clone(),
        digest: published.digest,
        size: published.manifest.len() as u64,
        platform: None,
        annotations,
    };
    let tagged = tagged(image);
    if tagged.is_empty() {
        return vec![line(BTreeMap::new())];
    }
    let annotations = |(name, tag): (&ImageReference, &str)| {
        BTreeMap::from([(NAME_ANNOTATION.to_owned(), name.to_string()), (REF_ANNOTATION.to_owned(), tag.to_owned())])
    };
    tagged.into_iter().map(|name| line(annotations(name))).collect()
}

fn saved_image(image: &ToSave, published: &Published) -> SavedImage {
    let tags: Vec<String> = tagged(image).into_iter().map(|(name, _)| familiar(name)).collect();
    SavedImage {
        config: blob_name(&published.config.digest),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: published.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
    }
}

/// The names that a load can give, with their tags.
fn tagged(image: &ToSave) -> Vec<(&ImageReference, &str)> {
    image.names.iter().filter(|name| name.digest().is_none()).filter_map(|name| Some((name, name.tag()?))).collect()
}

/// A name as Docker shows it: `docker.io/library/nginx:1` is `nginx:1`.
pub fn familiar(name: &ImageReference) -> String {
    let text = name.to_string();
    let short = text.strip_prefix("docker.io/").map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
    short.map(str::to_owned).unwrap_or(text)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
    written: BTreeSet<Digest>,
}

impl<W: Write> Archive<W> {
    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), SaveError> {
        let bytes = serde_json::to_vec(value).map_err(|error| SaveError::Write(error.into()))?;
        self.file(name, &bytes)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), SaveError> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    fn blob(&mut self, store: &ImageStore, part: &Descriptor) -> Result<(), SaveError> {
        if !self.written.insert(part.digest) {
            return Ok(());
        }
        let file = store.open_blob(&part.digest)?.ok_or(SaveError::Gone(part.digest))?;
        self.entry(&blob_name(&part.digest), part.size, file)
    }

    fn entry(&mut self, name: &str, size: u64, content: impl Read) -> Result<(), SaveError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        self.tar.append_data(&mut header, name, content.take(size)).map_err(SaveError::Write)
    }
}
