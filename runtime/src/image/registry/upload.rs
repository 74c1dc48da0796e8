//! One blob on its way into a repository (distribution specification, "Pushing Blobs"): asked for, mounted from another repository
//! of the same registry, else sent. What was sent before a connection broke is not sent again.

use super::blob::RECOVERED_BYTES;
use super::client::Client;
use super::error::RequestError;
use super::http::{Content, Message, accepted};
use crate::image::manifest::Descriptor;
use std::fs::File;
use ureq::http::{Method, Response, StatusCode, Uri, header};

/// Up to this size a blob is sent with the request that ends its upload: one round trip less, and little to send again.
const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Most sent at a time to a registry, or a proxy before it, that takes no larger request: the smallest of the usual limits.
const PIECE_BYTES: u64 = 32 << 20;

/// How a blob came to be in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was there.
    Present,
    /// It was in this repository of the registry.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// A blob and where it goes.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client<'a>,
    pub(super) blob: &'a Descriptor,
    /// Its bytes.
    pub(super) file: &'a File,
    /// Repositories of the registry that had it when we last looked.
    pub(super) known_in: &'a [String],
    /// Told how many bytes have been sent so far.
    pub(super) sent: &'a (dyn Fn(u64) + Sync),
}

/// What is left of an attempt that failed.
enum Session {
    /// Nothing.
    None,
    /// An upload whose connection broke; the registry knows how much of it came, after so many bytes that it had.
    Broken { url: Uri, from: u64 },
}

/// What a registry makes of the wish to upload.
enum Begun {
    /// The blob was mounted from this repository.
    Mounted(String),
    /// It takes bytes there.
    Open(Uri),
}

impl Upload<'_> {
    /// Sees to it that the repository has the blob; tries again as often as the client does.
    pub(super) fn run(&self) -> Result<Arrival, RequestError> {
        let what = format!("blob {}", self.blob.digest);
        let mut session = Session::None;
        let mut piece = u64::MAX;
        let mut failures = 0;
        loop {
            let error = match self.attempt(&mut session, piece, &mut failures) {
                Ok(arrival) => return Ok(arrival),
                Err(error) => error,
            };
            if error.status() == Some(StatusCode::PAYLOAD_TOO_LARGE) && piece > PIECE_BYTES {
                piece = PIECE_BYTES;
                continue;
            }
            failures += 1;
            self.client.wait_or_give_up(&what, failures, error)?;
        }
    }

    fn attempt(&self, session: &mut Session, piece: u64, failures: &mut u32) -> Result<Arrival, RequestError> {
        // Also after a break: the answer to the last request may be all that was lost.
        if self.is_there()? {
            return Ok(Arrival::Present);
        }
        let resumed = match session {
            Session::Broken { url, from } => self.progress_of(url)?.map(|reached| {
                if reached >= *from + RECOVERED_BYTES {
                    *failures = 0;
                }
                (url.clone(), reached)
            }),
            Session::None => None,
        };
        let (at, from) = match resumed {
            Some(resumed) => resumed,
            None => match self.begin()? {
                Begun::Mounted(from) => return Ok(Arrival::Mounted(from)),
                Begun::Open(at) => (at, 0),
            },
        };
        self.send(session, at, from, piece).map(|()| Arrival::Sent)
    }

    fn is_there(&self) -> Result<bool, RequestError> {
        let response = self.client.request(&format!("blobs/{}", self.blob.digest), &Message::bare(Method::HEAD))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => accepted(response).map(|_| true),
        }
    }

    /// Begins an upload, or ends it at once.
    fn begin(&self) -> Result<Begun, RequestError> {
        for from in self.known_in {
            let path = format!("blobs/uploads/?mount={}&from={from}", self.blob.digest);
            let response = self.client.request(&path, &empty(Method::POST))?;
            match response.status() {
                StatusCode::CREATED => return Ok(Begun::Mounted(from.clone())),
                StatusCode::ACCEPTED => return Ok(Begun::Open(self.client.location_below(&path, &response)?)),
                // It may not be read, or is not there any more: the next one.
                _ => {}
            }
        }
        let path = "blobs/uploads/";
        let response = accepted(self.client.request(path, &empty(Method::POST))?)?;
        Ok(Begun::Open(self.client.location_below(path, &response)?))
    }

    /// How many bytes of an upload the registry has; `None` if it knows nothing of it any more.
    fn progress_of(&self, url: &Uri) -> Result<Option<u64>, RequestError> {
        let response = self.client.authenticated(url, &Message::bare(Method::GET))?;
        if response.status() == StatusCode::NOT_FOUND || response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(None);
        }
        Ok(received(&accepted(response)?).filter(|reached| *reached <= self.blob.size))
    }

    /// Sends what is left and ends the upload.
    fn send(&self, session: &mut Session, mut at: Uri, mut from: u64, piece: u64) -> Result<(), RequestError> {
        if from == 0 && self.blob.size <= WHOLE_BYTES_MAX {
            *session = Session::None;
            return self.finish(&at, &self.part(Method::PUT, 0, self.blob.size));
        }
        while from < self.blob.size {
            let length = piece.min(self.blob.size - from);
            let mut message = self.part(Method::PATCH, from, length);
            // All of it in one request is what every registry takes; the range is only for a part.
            if length < self.blob.size {
                message.headers.push((header::CONTENT_RANGE, format!("{from}-{}", from + length - 1)));
            }
            *session = Session::Broken { url: at.clone(), from };
            let response = self.client.authenticated(&at, &message)?;
            if [StatusCode::RANGE_NOT_SATISFIABLE, StatusCode::NOT_FOUND].contains(&response.status()) {
                *session = Session::None;
            }
            at = self.client.location(&at, &accepted(response)?)?;
            from += length;
        }
        *session = Session::None;
        self.finish(&at, &self.part(Method::PUT, from, 0))
    }

    fn finish(&self, at: &Uri, message: &Message<'_>) -> Result<(), RequestError> {
        let separator = if at.query().is_some() { '&' } else { '?' };
        let url = format!("{at}{separator}digest={}", self.blob.digest);
        let url = url.parse().map_err(|_| RequestError::Redirect(at.path().to_owned()))?;
        accepted(self.client.authenticated(&url, message)?).map(drop)
    }

    fn part(&self, method: Method, from: u64, length: u64) -> Message<'_> {
        let headers = vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        let body = if length == 0 { Content::Bytes(&[]) } else { Content::Part { file: self.file, from, length, sent: self.sent } };
        Message { method, headers, body }
    }
}

/// A request with a body of nothing: some servers insist on its length being said.
fn empty(method: Method) -> Message<'static> {
    Message { method, headers: Vec::new(), body: Content::Bytes(&[]) }
}

/// The bytes that came, by the header `Range: 0-<last>`. A registry that has nothing says `0-0`, as for one byte.
fn received(response: &Response<ureq::Body>) -> Option<u64> {
    let range = response.headers().get(header::RANGE)?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_it_has() {
        for (range, expected) in
            [("0-1023", Some(1024)), ("bytes=0-9", Some(10)), ("0-0", Some(0)), ("5-9", None), ("", None), ("0--1", None)]
        {
            let response = Response::builder().header(header::RANGE, range).body(ureq::Body::builder().data("")).unwrap();
            assert_eq!(received(&response), expected, "{range}");
        }
    }
}
