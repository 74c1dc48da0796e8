//! Images within an archive: an OCI layout (`oci-layout`, `index.json`), a `docker save` archive (`manifest.json`), or a directory of
//! skopeo's (`version`, `manifest.json`).

use super::ImportError;
use super::contents::{Contents, Form};
use super::load::Loaded;
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::image::manifest::{self, CONFIG_BYTES_MAX, Descriptor, Document, LAYERS_MAX, MANIFEST_BYTES_MAX, Manifest, ManifestError};
use crate::image::platform::Platform;
use crate::image::store::{Expected, ImageStore};
use serde::Deserialize;
use spec::value::Digest;
use std::io::{self, Read};
use std::path::Path;

/// Indexes within indexes; `docker buildx` writes two.
const INDEX_DEPTH_MAX: usize = 4;

/// One image of a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl SavedImage {
    /// The digest that its configuration's file is named by, where it is: `<hex>.json`, `blobs/sha256/<hex>`, `sha256:<hex>`.
    pub(super) fn config_hex(&self) -> &str {
        let name = self.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        name.strip_prefix("sha256:").unwrap_or(name)
    }
}

/// Imports the image of an archive. Where it is both (as new docker versions write), the OCI layout is read: it says all digests.
pub(super) fn import(store: &ImageStore, path: &Path, contents: &Contents) -> Result<ImageId, ImportError> {
    let archive = Archive { store, path, contents };
    match contents.form() {
        Form::Layout => archive.oci(),
        Form::Saved => archive.docker(),
        Form::Transport => archive.transport(),
    }
}

/// Every image of an archive, each with the names the archive has for it.
pub(super) fn load(store: &ImageStore, path: &Path, contents: &Contents) -> Result<Vec<Loaded>, ImportError> {
    Archive { store, path, contents }.load()
}

pub(super) struct Archive<'a> {
    store: &'a ImageStore,
    path: &'a Path,
    pub(super) contents: &'a Contents,
}

impl Archive<'_> {
    fn oci(&self) -> Result<ImageId, ImportError> {
        self.oci_from(self.required("index.json", MANIFEST_BYTES_MAX)?)
    }

    /// The image of a directory as skopeo's `dir:` writes it: a registry's manifest, and the blobs beside it.
    pub(super) fn transport(&self) -> Result<ImageId, ImportError> {
        self.oci_from(self.required("manifest.json", MANIFEST_BYTES_MAX)?)
    }

    /// The image of a manifest, or the one of an index that runs here.
    pub(super) fn oci_from(&self, mut bytes: Vec<u8>) -> Result<ImageId, ImportError> {
        for _ in 0..INDEX_DEPTH_MAX {
            let wrong = |source| self.wrong(source);
            match manifest::parse(&bytes, None).map_err(wrong)? {
                Document::Manifest(manifest) => return self.manifest(&manifest, &bytes),
                Document::Index(index) => {
                    let unmarked = index.manifests.iter().filter(|entry| entry.platform.is_none()).count();
                    if unmarked > 1 {
                        return Err(self.image(format!("it holds {unmarked} images: save one only")));
                    }
                    let chosen = manifest::choose(&index, &Platform::host());
                    let alone = || index.manifests.iter().find(|entry| entry.platform.is_none());
                    let chosen = chosen.or_else(|error| alone().ok_or(error)).map_err(wrong)?;
                    bytes = self.blob(&chosen.digest, MANIFEST_BYTES_MAX)?;
                }
            }
        }
        Err(self.image(format!("its indexes nest deeper than {INDEX_DEPTH_MAX}")))
    }

    fn manifest(&self, manifest: &Manifest, bytes: &[u8]) -> Result<ImageId, ImportError> {
        let config_bytes = self.blob(&manifest.config.digest, CONFIG_BYTES_MAX)?;
        let diff_ids = self.diff_ids(&config_bytes, manifest.layers.len())?;
        for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            self.layer(&self.blob_name(&layer.digest), diff_id, Some(layer))?;
        }
        self.store.put_image_bytes(&config_bytes, Some(bytes)).map_err(|source| self.store_error(source))
    }

    fn docker(&self) -> Result<ImageId, ImportError> {
        let images = self.saved_images()?;
        let [image] = images.as_slice() else {
            let names: Vec<_> = images.iter().flat_map(|image| image.repo_tags.iter().flatten()).map(String::as_str).collect();
            return Err(self.image(format!("it holds {} images ({}): save one only", images.len(), names.join(", "))));
        };
        self.docker_image(image)
    }

    pub(super) fn saved_images(&self) -> Result<Vec<SavedImage>, ImportError> {
        let bytes = self.required("manifest.json", MANIFEST_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| self.image(format!("its manifest.json is not docker's: {error}")))
    }

    pub(super) fn docker_image(&self, image: &SavedImage) -> Result<ImageId, ImportError> {
        let config_bytes = self.required(&image.config, CONFIG_BYTES_MAX)?;
        if let Ok(expected) = format!("sha256:{}", image.config_hex()).parse() {
            self.verify(&image.config, expected, &config_bytes)?;
        }
        let diff_ids = self.diff_ids(&config_bytes, image.layers.len())?;
        for (layer, diff_id) in image.layers.iter().zip(&diff_ids) {
            self.layer(layer, diff_id, None)?;
        }
        self.store.put_image_bytes(&config_bytes, None).map_err(|source| self.store_error(source))
    }

    fn layer(&self, name: &str, diff_id: &Digest, blob: Option<&Descriptor>) -> Result<(), ImportError> {
        let lock = self.store.lock_layer(diff_id).map_err(|source| self.store_error(source))?;
        if !self.store.has_layer(diff_id) {
            let open = || self.contents.open(name)?.ok_or_else(|| self.image(format!("its layer {name} is missing")));
            let unpacked = match blob {
                None => self.store.unpack_layer(open()?, &Expected { diff_id: Some(*diff_id), blob: None }),
                Some(blob) => {
                    open()?;
                    self.store.unpack_blob(blob, diff_id, |position| {
                        let mut file = open().map_err(io::Error::other)?;
                        io::copy(&mut Read::by_ref(&mut file).take(position), &mut io::sink()).map(|_| file)
                    })
                }
            };
            unpacked.map_err(|source| self.store_error(source))?;
        }
        Ok(lock.remove()?)
    }

    /// The layers that a configuration names, as many as there are files for. It has to be of an image that runs here, or say nothing of
    /// where it runs: its name might be that of one which does.
    fn diff_ids(&self, config: &[u8], layers: usize) -> Result<Vec<Digest>, ImportError> {
        let config: ImageConfig =
            serde_json::from_slice(config).map_err(|error| self.image(format!("its configuration is not valid: {error}")))?;
        let (host, offered) = (Platform::host(), Platform { os: config.os, architecture: config.architecture, variant: config.variant });
        let says_nothing = offered.os.is_empty() && offered.architecture.is_empty();
        if !says_nothing && host.rank(&offered).is_none() {
            return Err(self.image(format!("it is for {offered}, which does not run here: this host is {host}")));
        }
        let diff_ids = config.rootfs.diff_ids;
        if diff_ids.len() != layers || layers > LAYERS_MAX {
            let count = diff_ids.len();
            return Err(self.image(format!("its manifest has {layers} layers, its configuration {count} (at most {LAYERS_MAX})")));
        }
        Ok(diff_ids)
    }

    pub(super) fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ImportError> {
        let name = self.blob_name(digest);
        let bytes = self.required(&name, limit)?;
        self.verify(&name, *digest, &bytes)?;
        Ok(bytes)
    }

    fn blob_name(&self, digest: &Digest) -> String {
        match self.contents.form() {
            Form::Transport => digest.hex(),
            Form::Layout | Form::Saved => format!("blobs/sha256/{}", digest.hex()),
        }
    }

    pub(super) fn required(&self, name: &str, limit: u64) -> Result<Vec<u8>, ImportError> {
        self.contents.read(self.path, name, limit)?.ok_or_else(|| self.image(format!("{name} is missing")))
    }

    fn verify(&self, name: &str, expected: Digest, bytes: &[u8]) -> Result<(), ImportError> {
        let found = Digest::of(bytes);
        if found == expected {
            return Ok(());
        }
        Err(ImportError::Digest { path: self.path.to_owned(), name: name.to_owned(), expected, found })
    }

    pub(super) fn image(&self, problem: String) -> ImportError {
        ImportError::Image { path: self.path.to_owned(), problem }
    }

    pub(super) fn wrong(&self, source: ManifestError) -> ImportError {
        ImportError::Manifest { path: self.path.to_owned(), source: Box::new(source) }
    }

    fn store_error(&self, source: crate::image::store::StoreError) -> ImportError {
        ImportError::Store { path: self.path.to_owned(), source: Box::new(source) }
    }
}
