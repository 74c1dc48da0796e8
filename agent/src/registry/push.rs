//! Uploads of blobs: whole, in pieces, from another repository.

use super::Registry;
use super::problem::Problem;
use super::pull;
use super::request::Request;
use super::response::Response;
use super::upload::Upload;
use spec::value::Digest;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

impl Registry {
    /// `POST …/uploads/`: begins an upload, takes a whole blob, or finds that it is here.
    pub(super) fn begin_upload(&self, request: &mut Request<'_>, repository: &str) -> Result<Response, Problem> {
        if let Some(mount) = request.query("mount").map(pull::digest).transpose()? {
            let from = request.query("from").unwrap_or(repository);
            if self.open_blob(from, &mount)?.is_some() {
                return Ok(created(repository, "blobs", &mount));
            }
        }
        let whole = request.query("digest").map(pull::digest).transpose()?;
        let id = self.uploads.begin(repository)?;
        match whole {
            None => Ok(under_way(202, repository, &id, &*locked(&self.uploads.get(repository, &id)?)?)),
            Some(digest) => self.finish(request, repository, &id, &digest),
        }
    }

    /// `GET …/uploads/<id>`: how far it is.
    pub(super) fn upload_status(&self, repository: &str, id: &str) -> Result<Response, Problem> {
        Ok(under_way(204, repository, id, &*locked(&self.uploads.get(repository, id)?)?))
    }

    /// `PATCH …/uploads/<id>`: the next chunk.
    pub(super) fn append(&self, request: &mut Request<'_>, repository: &str, id: &str) -> Result<Response, Problem> {
        let upload = self.uploads.get(repository, id)?;
        let mut upload = locked(&upload)?;
        in_order(request, repository, id, &upload)?;
        self.receive(request, &mut upload)?;
        Ok(under_way(202, repository, id, &upload))
    }

    /// `PUT …/uploads/<id>?digest=`: the last chunk, if any, and the promise.
    pub(super) fn finish_upload(&self, request: &mut Request<'_>, repository: &str, id: &str) -> Result<Response, Problem> {
        let text = request.query("digest").ok_or_else(|| Problem::digest_invalid("the query says no digest"))?;
        let digest = pull::digest(text)?;
        self.finish(request, repository, id, &digest)
    }

    fn finish(&self, request: &mut Request<'_>, repository: &str, id: &str, digest: &Digest) -> Result<Response, Problem> {
        let upload = self.uploads.get(repository, id)?;
        let mut upload = locked(&upload)?;
        in_order(request, repository, id, &upload)?;
        self.receive(request, &mut upload)?;
        // Right or wrong, it is over.
        self.uploads.remove(id);
        self.uploads.finish(&mut upload, digest)?;
        Ok(created(repository, "blobs", digest))
    }

    /// Adds the body to an upload, as long as there is room.
    fn receive(&self, request: &mut Request<'_>, upload: &mut Upload) -> Result<(), Problem> {
        let length = request.content_length().unwrap_or(u64::MAX);
        upload.append(&|need| self.check_room(need.min(length)), request)
    }

    /// `DELETE …/uploads/<id>`.
    pub(super) fn cancel_upload(&self, repository: &str, id: &str) -> Result<Response, Problem> {
        self.uploads.get(repository, id)?;
        self.uploads.remove(id);
        Ok(Response::empty(204))
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
    let length = numbers.and_then(|(first, last)| last.trim().parse::<u64>().ok()?.checked_add(1)?.checked_sub(first.trim().parse().ok()?));
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

pub(super) fn created(repository: &str, kind: &str, digest: &Digest) -> Response {
    let location = format!("/v2/{repository}/{kind}/{digest}");
    Response::empty(201).with("Location", location).with("Docker-Content-Digest", digest.to_string())
}
