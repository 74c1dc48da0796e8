//! Manifests that are pushed and deleted.
//!
//! An image that runs here is imported: its layers are unpacked into the store and checked against its configuration, so that this
//! host can use what it serves. All else is kept as it came once all that it names is here: indexes, images of other platforms,
//! signatures, and images that contradict themselves, which is for those to find who pull them.

use super::Registry;
use super::document::{self, Document};
use super::kept::{Entry, Place};
use super::names::key_of;
use super::problem::Problem;
use super::pull;
use super::push::created;
use super::request::Request;
use super::response::Response;
use runtime::image::ImageId;
use runtime::image::archive::{self, ImportError};
use runtime::image::config::ImageConfig;
use runtime::image::manifest::{self, CONFIG_BYTES_MAX, Document as Parsed, MANIFEST_BYTES_MAX, Manifest, media_type};
use runtime::image::platform::Platform;
use runtime::image::store::{StoreError, no_room};
use spec::value::{Digest, ImageReference};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

impl Registry {
    /// `PUT …/manifests/<tag or digest>`.
    pub(super) fn put_manifest(&self, request: &mut Request<'_>, repository: &str, reference: &str) -> Result<Response, Problem> {
        let served_as = request.header("content-type").map(str::to_owned);
        let promised = reference.contains(':').then(|| pull::digest(reference)).transpose()?;
        let bytes = request.small_body(MANIFEST_BYTES_MAX)?;
        let digest = Digest::of(&bytes);
        if promised.is_some_and(|promised| promised != digest) {
            return Err(Problem::digest_invalid(format!("the manifest has digest {digest}, not {reference}")));
        }
        let document = Arc::new(document::parse(&bytes, served_as.as_deref()).map_err(Problem::manifest_invalid)?);
        let place = Place::new(repository, reference);
        let key = self.key(&place);
        key.parse::<ImageReference>().map_err(|error| Problem::new(400, "NAME_INVALID", error.to_string()))?;
        let image = self.with_room(|| self.take(&place, &bytes, &document))?;
        tracing::info!(name = key, %digest, image = image.map(|id| id.to_string()), "pushed");
        let response = created(repository, "manifests", &digest);
        // Tells the client that it need not keep a list of what is about the subject itself.
        Ok(match document.subject {
            Some(subject) => response.with("OCI-Subject", subject.to_string()),
            None => response,
        })
    }

    /// Takes a manifest in; the image of the store that it is, or leads to on this host.
    fn take(&self, place: &Place, bytes: &[u8], document: &Arc<Document>) -> Result<Option<ImageId>, Problem> {
        // Held until the image has its name.
        let _lease = self.store.lease().map_err(Problem::failed)?;
        self.check_parts(&place.repository, document)?;
        let image = match document.manifests.is_empty() {
            true => self.import(&place.repository, document, bytes)?,
            false => self.member_for_this_host(&place.repository, bytes),
        };
        self.name(place, bytes, Entry { digest: Digest::of(bytes), size: bytes.len() as u64, image, document: Arc::clone(document) })?;
        Ok(image)
    }

    /// Keeps what the store does not, and gives the name.
    fn name(&self, place: &Place, bytes: &[u8], entry: Entry) -> Result<(), Problem> {
        let _alone = self.kept.change().map_err(Problem::failed)?;
        let document = &entry.document;
        // Again: what was here a moment ago may have been deleted.
        self.check_parts(&place.repository, document)?;
        for part in &document.blobs {
            let is_kept = entry.image.is_some() && self.store.has_blob(&part.digest);
            if !is_kept && let Some(mut file) = self.open_blob(&place.repository, &part.digest)? {
                let path = self.uploads.blob_path(&part.digest);
                self.kept.keep_blob(&part.digest, &path, &mut file).map_err(Problem::failed)?;
            }
            self.uploads.forget(&part.digest);
        }
        for member in &document.manifests {
            self.name_member(&place.repository, &member.digest)?;
        }
        match &entry.image {
            Some(id) => self.store.tag(&self.key(place), id).map_err(Problem::failed)?,
            None => self.store.untag(&self.key(place)).map_err(Problem::failed)?,
        }
        let gone = self.kept.put(place, bytes, entry).map_err(Problem::failed)?;
        self.untag(&gone)
    }

    /// A member of an index has a name by its digest: it stays when its tag moves on.
    fn name_member(&self, repository: &str, digest: &Digest) -> Result<(), Problem> {
        let place = Place::new(repository, &digest.to_string());
        match self.kept.find(repository, &place.reference) {
            Some((other, entry)) if other != place => {
                let bytes = self.kept.bytes(digest).map_err(Problem::failed)?;
                if let Some(id) = &entry.image {
                    self.store.tag(&self.key(&place), id).map_err(Problem::failed)?;
                }
                self.kept.put(&place, &bytes, entry).map(drop).map_err(Problem::failed)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether all that a manifest names is here.
    fn check_parts(&self, repository: &str, document: &Document) -> Result<(), Problem> {
        let missing = |what: &str, digest: &Digest| {
            let message = format!("{what} {digest} of the manifest is not here: push it first");
            Problem::new(400, "MANIFEST_BLOB_UNKNOWN", message)
        };
        for part in &document.blobs {
            let Some(file) = self.open_blob(repository, &part.digest)? else {
                if part.is_elsewhere() {
                    continue;
                }
                return Err(missing("blob", &part.digest));
            };
            let size = file.metadata().map_err(Problem::failed)?.len();
            if size != part.size {
                return Err(Problem::manifest_invalid(format!("blob {} has {size} bytes, not {}", part.digest, part.size)));
            }
        }
        match document.manifests.iter().find(|part| self.served(repository, &part.digest.to_string()).is_err()) {
            Some(part) => Err(missing("manifest", &part.digest)),
            None => Ok(()),
        }
    }

    /// The image of the store that an index leads to on this host.
    fn member_for_this_host(&self, repository: &str, bytes: &[u8]) -> Option<ImageId> {
        let Ok(Parsed::Index(index)) = manifest::parse(bytes, None) else { return None };
        let chosen = manifest::choose(&index, &Platform::host()).ok()?;
        self.kept.find(repository, &chosen.digest.to_string())?.1.image
    }

    /// Brings an image that runs here into the store; `None` of what is no such image.
    fn import(&self, repository: &str, document: &Document, bytes: &[u8]) -> Result<Option<ImageId>, Problem> {
        let Ok(Parsed::Manifest(manifest)) = manifest::parse(bytes, Some(&document.media_type)) else { return Ok(None) };
        if document.subject.is_some() || !self.runs_here(repository, &manifest)? {
            return Ok(None);
        }
        let layout = self.store.scratch().map_err(Problem::failed)?;
        self.lay_out(repository, &manifest, bytes, layout.path()).map_err(Problem::failed)?;
        match archive::import(&self.store, layout.path()) {
            Ok(id) => Ok(Some(id)),
            Err(error) if no_room(&error).is_some() => Err(Problem::failed(error)),
            Err(error @ ImportError::File(_)) => Err(Problem::failed(error)),
            Err(ImportError::Store { source, .. }) if !matches!(*source, StoreError::Layer(_)) => Err(Problem::failed(*source)),
            Err(error) => {
                tracing::warn!(repository, error = crate::host::chain(&error), "kept as it came: an image that does not hold together");
                Ok(None)
            }
        }
    }

    /// Whether it is an image of a form and for a platform that this host takes.
    fn runs_here(&self, repository: &str, manifest: &Manifest) -> Result<bool, Problem> {
        let is_config = matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
        let is_layer = |kind: &str| {
            let kinds = [media_type::OCI_LAYER, media_type::OCI_LAYER_GZIP, media_type::OCI_LAYER_ZSTD, media_type::DOCKER_LAYER];
            kinds.contains(&kind)
        };
        if !is_config || !manifest.layers.iter().all(|layer| is_layer(&layer.media_type)) {
            return Ok(false);
        }
        let Some(file) = self.open_blob(repository, &manifest.config.digest)? else { return Ok(false) };
        let mut config = Vec::new();
        file.take(CONFIG_BYTES_MAX).read_to_end(&mut config).map_err(Problem::failed)?;
        let Ok(config) = serde_json::from_slice::<ImageConfig>(&config) else { return Ok(false) };
        let platform = Platform { os: config.os, architecture: config.architecture, variant: config.variant };
        Ok(Platform::host().rank(&platform).is_some())
    }

    /// An OCI layout of an image whose blobs are here.
    fn lay_out(&self, repository: &str, manifest: &Manifest, bytes: &[u8], layout: &Path) -> io::Result<()> {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let parts: BTreeSet<&Digest> = manifest.layers.iter().chain([&manifest.config]).map(|part| &part.digest).collect();
        for digest in parts {
            let to = blobs.join(digest.hex());
            if fs::hard_link(self.uploads.blob_path(digest), &to).is_err() {
                // It is in the store or among what was kept.
                let found = self.open_blob(repository, digest).map_err(|problem| io::Error::other(problem.message))?;
                io::copy(&mut found.ok_or(io::ErrorKind::NotFound)?, &mut fs::File::create(&to)?)?;
            }
        }
        let media_type = manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        let digest = Digest::of(bytes);
        let entry = serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(blobs.join(digest.hex()), bytes)?;
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// `DELETE …/manifests/<tag or digest>`: of what was pushed here. A tag goes alone, a digest with the tags that stand for it; the
    /// image goes with the next collection.
    pub(super) fn delete_manifest(&self, repository: &str, reference: &str) -> Result<Response, Problem> {
        let _alone = self.kept.change().map_err(Problem::failed)?;
        let mut deleted = false;
        while let Some((place, _)) = self.kept.find(repository, reference) {
            let gone = self.kept.remove(&place).map_err(Problem::failed)?;
            self.untag(&gone)?;
            deleted = true;
        }
        if !deleted {
            // It may be an image of this host by another way: that is not for others to delete.
            self.served(repository, reference)?;
            return Err(Problem::new(405, "UNSUPPORTED", "only what was pushed here can be deleted from here"));
        }
        Ok(Response::empty(202))
    }

    /// `DELETE …/blobs/<digest>`: of a blob that nobody names.
    pub(super) fn delete_blob(&self, repository: &str, text: &str) -> Result<Response, Problem> {
        let digest = pull::digest(text)?;
        let _alone = self.kept.change().map_err(Problem::failed)?;
        if self.open_blob(repository, &digest)?.is_none() {
            return Err(Problem::blob_unknown(text));
        }
        if self.kept.needs(&digest) || self.store.has_blob(&digest) || !self.uploads.blob_path(&digest).exists() {
            return Err(Problem::new(405, "UNSUPPORTED", "blobs go with the manifests that name them"));
        }
        self.uploads.forget(&digest);
        Ok(Response::empty(202))
    }

    /// The store's name for a place.
    pub(super) fn key(&self, place: &Place) -> String {
        key_of(&self.own_name, &place.repository, &place.reference)
    }

    fn untag(&self, places: &[Place]) -> Result<(), Problem> {
        places.iter().try_for_each(|place| self.store.untag(&self.key(place))).map_err(Problem::failed)
    }
}
