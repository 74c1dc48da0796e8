//! What changes the store: uploads, manifests, deletions.
//!
//! A manifest is taken by importing it: its layers are unpacked and checked against its configuration, so that this host can run what
//! it serves, and nothing that cannot be run is ever served.

use super::Registry;
use super::names::key_of;
use super::problem::Problem;
use super::pull;
use super::request::Request;
use super::response::Response;
use super::upload::Upload;
use runtime::image::archive::{self, ImportError};
use runtime::image::manifest::{self, Document, MANIFEST_BYTES_MAX, Manifest, media_type};
use spec::value::{Digest, ImageReference};
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

impl Registry {
    /// `POST …/uploads/`: begins an upload, takes a whole blob, or finds that it is here.
    pub(super) fn begin_upload(&self, request: &mut Request<'_>, repository: &str) -> Result<Response, Problem> {
        if let Some(mount) = request.query.get("mount").map(|text| pull::digest(text)).transpose()? {
            let from = request.query.get("from").map_or(repository, String::as_str);
            if self.open_blob(from, &mount)?.is_some() {
                return Ok(created(repository, "blobs", &mount));
            }
        }
        let whole = request.query.get("digest").map(|text| pull::digest(text)).transpose()?;
        let id = self.uploads.begin()?;
        match whole {
            None => Ok(under_way(202, repository, &id, &*locked(&self.uploads.get(&id)?)?)),
            Some(digest) => self.finish(request, repository, &id, &digest),
        }
    }

    /// `GET …/uploads/<id>`: how far it is.
    pub(super) fn upload_status(&self, repository: &str, id: &str) -> Result<Response, Problem> {
        Ok(under_way(204, repository, id, &*locked(&self.uploads.get(id)?)?))
    }

    /// `PATCH …/uploads/<id>`: the next chunk.
    pub(super) fn append(&self, request: &mut Request<'_>, repository: &str, id: &str) -> Result<Response, Problem> {
        let upload = self.uploads.get(id)?;
        let mut upload = locked(&upload)?;
        in_order(request, repository, id, &upload)?;
        upload.append(&self.store, request)?;
        Ok(under_way(202, repository, id, &upload))
    }

    /// `PUT …/uploads/<id>?digest=`: the last chunk, if any, and the promise.
    pub(super) fn finish_upload(&self, request: &mut Request<'_>, repository: &str, id: &str) -> Result<Response, Problem> {
        let text = request.query.get("digest").ok_or_else(|| Problem::digest_invalid("the query says no digest"))?;
        let digest = pull::digest(text)?;
        self.finish(request, repository, id, &digest)
    }

    fn finish(&self, request: &mut Request<'_>, repository: &str, id: &str, digest: &Digest) -> Result<Response, Problem> {
        let upload = self.uploads.get(id)?;
        let mut upload = locked(&upload)?;
        in_order(request, repository, id, &upload)?;
        upload.append(&self.store, request)?;
        // Right or wrong, it is over.
        self.uploads.remove(id)?;
        self.uploads.finish(&mut upload, digest)?;
        Ok(created(repository, "blobs", digest))
    }

    /// `DELETE …/uploads/<id>`.
    pub(super) fn cancel_upload(&self, id: &str) -> Result<Response, Problem> {
        self.uploads.remove(id)?;
        Ok(Response::empty(204))
    }

    /// `PUT …/manifests/<tag or digest>`.
    pub(super) fn put_manifest(&self, request: &mut Request<'_>, repository: &str, reference: &str) -> Result<Response, Problem> {
        let served_as = request.header("content-type").map(str::to_owned);
        let bytes = request.small_body(MANIFEST_BYTES_MAX)?;
        let digest = Digest::of(&bytes);
        if reference.contains(':') && pull::digest(reference)? != digest {
            return Err(Problem::digest_invalid(format!("the manifest has digest {digest}, not {reference}")));
        }
        let manifest = match manifest::parse(&bytes, served_as.as_deref()) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => {
                let message = "this registry keeps images that its host can run, one platform each: push the image, not the index";
                return Err(Problem::manifest_invalid(message));
            }
            Err(error) => return Err(Problem::manifest_invalid(told(&error))),
        };
        if !matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
            let message = format!("{:?} is no image configuration: only images are kept here", manifest.config.media_type);
            return Err(Problem::manifest_invalid(message));
        }
        let key = key_of(&self.own_name, repository, reference);
        key.parse::<ImageReference>().map_err(|error| Problem::new(400, "NAME_INVALID", error.to_string()))?;
        self.take(repository, &manifest, &bytes, &key)?;
        Ok(created(repository, "manifests", &digest))
    }

    /// Imports an image whose blobs are here and gives it its name.
    fn take(&self, repository: &str, manifest: &Manifest, bytes: &[u8], key: &str) -> Result<(), Problem> {
        // Held until the image has its name.
        let _lease = self.store.lease().map_err(Problem::failed)?;
        let layout = self.store.scratch().map_err(Problem::failed)?;
        let blobs = layout.subdirectory("blobs").map_err(Problem::failed)?.join("sha256");
        let written = |name: &Path, bytes: &[u8]| fs::write(name, bytes).map_err(Problem::failed);
        fs::create_dir(&blobs).map_err(Problem::failed)?;
        let parts = || [&manifest.config].into_iter().chain(&manifest.layers);
        for part in parts() {
            let Some(mut file) = self.open_blob(repository, &part.digest)? else {
                let message = format!("blob {} of the manifest is not here: push it first", part.digest);
                return Err(Problem::new(400, "MANIFEST_BLOB_UNKNOWN", message));
            };
            let size = file.metadata().map_err(Problem::failed)?.len();
            if size != part.size {
                return Err(Problem::manifest_invalid(format!("blob {} has {size} bytes, not {}", part.digest, part.size)));
            }
            let to = blobs.join(part.digest.hex());
            let from = self.uploads.blob_path(&part.digest);
            // A blob of the store itself is opened, so it is there, but another one may remove it before it is linked: a copy then.
            if !to.exists() && fs::hard_link(from, &to).is_err() {
                let mut copy = fs::File::create(&to).map_err(Problem::failed)?;
                io::copy(&mut file, &mut copy).map_err(Problem::failed)?;
            }
        }
        let media_type = manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        let digest = Digest::of(bytes);
        let entry = serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        written(&blobs.join(digest.hex()), bytes)?;
        written(&layout.path().join("index.json"), index.to_string().as_bytes())?;
        written(&layout.path().join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let id = archive::import(&self.store, layout.path()).map_err(refused)?;
        self.kept.put(key, bytes)?;
        self.store.tag(key, &id).map_err(Problem::failed)?;
        tracing::info!(name = key, image = %id, "image pushed");
        // A layer that the store has already, compressed another way, stays with us as it came.
        self.uploads.forget(parts().map(|part| &part.digest).filter(|digest| self.store.has_blob(digest)));
        Ok(())
    }

    /// `DELETE …/manifests/<tag or digest>`: of what was pushed here. The image goes with the next collection.
    pub(super) fn delete_manifest(&self, repository: &str, reference: &str) -> Result<Response, Problem> {
        let prefix = format!("{}/{repository}", self.own_name);
        let is_own = |key: &str| key.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with([':', '@']));
        let mut deleted = 0;
        // Of a digest there may be several names.
        while let Ok(served) = self.served(repository, reference)
            && is_own(&served.key)
        {
            self.store.untag(&served.key).map_err(Problem::failed)?;
            self.kept.remove(&served.key)?;
            deleted += 1;
        }
        if deleted == 0 {
            // It may be an image of this host by another way: that is not for others to delete.
            self.served(repository, reference)?;
            return Err(Problem::new(405, "UNSUPPORTED", "only what was pushed here can be deleted from here"));
        }
        Ok(Response::empty(202))
    }
}

/// Whoever has an upload writes to it alone.
fn locked(upload: &Arc<Mutex<Upload>>) -> Result<MutexGuard<'_, Upload>, Problem> {
    Ok(upload.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether a chunk begins where the last one ended. `Content-Range` is `first-last` here, without a unit.
fn in_order(request: &Request<'_>, repository: &str, id: &str, upload: &Upload) -> Result<(), Problem> {
    let Some(range) = request.header("content-range") else { return Ok(()) };
    let numbers = range.trim_start_matches("bytes ").split('/').next().and_then(|range| range.split_once('-'));
    let first = numbers.and_then(|(first, _)| first.trim().parse::<u64>().ok());
    let length = numbers.and_then(|(first, last)| (last.trim().parse::<u64>().ok()? + 1).checked_sub(first.trim().parse().ok()?));
    let fits = first == Some(upload.size) && request.content_length().is_none_or(|content| Some(content) == length);
    if fits {
        return Ok(());
    }
    let mut problem = Problem::new(416, "BLOB_UPLOAD_INVALID", format!("{range} does not go on after {} bytes", upload.size));
    problem.headers = vec![("Location", location(repository, id)), ("Range", upload.range())];
    Err(problem)
}

fn location(repository: &str, id: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

fn under_way(status: u16, repository: &str, id: &str, upload: &Upload) -> Response {
    Response::empty(status).with("Location", location(repository, id)).with("Range", upload.range()).with("Docker-Upload-UUID", id)
}

fn created(repository: &str, kind: &str, digest: &Digest) -> Response {
    let location = format!("/v2/{repository}/{kind}/{digest}");
    Response::empty(201).with("Location", location).with("Docker-Content-Digest", digest.to_string())
}

/// An image that is not one is its sender's fault; all else is ours.
fn refused(error: ImportError) -> Problem {
    match &error {
        ImportError::File(_) => Problem::failed(error),
        // Told without the paths of this host.
        ImportError::Image { problem, .. } => Problem::manifest_invalid(problem),
        ImportError::Digest { name, expected, found, .. } => {
            Problem::digest_invalid(format!("{name} has digest {found} instead of {expected}"))
        }
        ImportError::Archive { source, .. } => Problem::manifest_invalid(told(source)),
        ImportError::Manifest { source, .. } => Problem::manifest_invalid(told(source)),
        ImportError::Store { source, .. } => Problem { cause: Some(told(&error)), ..Problem::manifest_invalid(told(source)) },
    }
}

fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}
