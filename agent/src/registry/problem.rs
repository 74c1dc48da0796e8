//! Refusals in the words of the distribution specification ("Error codes").

use super::response::Response;
use crate::host::chain;
use runtime::image::store::{NoRoom, no_room};
use std::error::Error;

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Problem {
    pub status: u16,
    /// The specification's code.
    pub code: &'static str,
    pub message: String,
    /// More headers of the answer.
    pub headers: Vec<(&'static str, String)>,
    /// For our log only: what went wrong on this host.
    pub cause: Option<String>,
    /// For want of which room it went wrong.
    pub no_room: Option<Box<NoRoom>>,
}

impl Problem {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new(), cause: None, no_room: None }
    }

    /// Something failed here. What exactly is for this host's log, not for whoever asked; that there is no room is for both.
    pub(super) fn failed(error: impl Error + 'static) -> Self {
        let problem = match no_room(&error) {
            None => Self::new(500, "UNKNOWN", "the registry failed; its log says why"),
            Some(refusal) => Self {
                no_room: Some(Box::new(refusal)),
                ..Self::new(507, "DENIED", "the registry has no room for it; its log says how much is missing")
            },
        };
        Self { cause: Some(chain(&error)), ..problem }
    }

    pub(super) fn no_such_route() -> Self {
        Self::new(404, "UNSUPPORTED", "no such endpoint: this is an OCI registry, below /v2/")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(405, "UNSUPPORTED", "this endpoint does not take this method")
    }

    pub(super) fn read_only() -> Self {
        Self::new(405, "UNSUPPORTED", "this registry is read-only: it was started without --writable")
    }

    pub(super) fn manifest_unknown(reference: &str) -> Self {
        Self::new(404, "MANIFEST_UNKNOWN", format!("no manifest {reference} in this repository"))
    }

    pub(super) fn manifest_invalid(message: impl Into<String>) -> Self {
        Self::new(400, "MANIFEST_INVALID", message)
    }

    pub(super) fn blob_unknown(digest: &str) -> Self {
        Self::new(404, "BLOB_UNKNOWN", format!("no blob {digest}"))
    }

    pub(super) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::new(400, "DIGEST_INVALID", message)
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(404, "BLOB_UPLOAD_UNKNOWN", "no such upload: it was finished, cancelled, or idle for too long")
    }

    /// The request itself cannot be read.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "UNSUPPORTED", message)
    }

    pub(super) fn response(self) -> Response {
        let body = serde_json::json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = Response::json(self.status, &body);
        response.headers.extend(self.headers);
        response
    }
}
