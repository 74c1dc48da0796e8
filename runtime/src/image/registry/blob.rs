//! A blob as a stream that survives broken connections: resumed with `Range` from the byte reached.

use super::Progress;
use super::client::Client;
use super::error::RequestError;
use super::http::BodyReader;
use crate::image::layer::source::Source;
use crate::image::manifest::Descriptor;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ureq::http::StatusCode;

/// Progress is told this often: a line of output need not move more than some ten times a second on a fast link.
const PROGRESS_BYTES: u64 = 1 << 20;
/// So much must come for a connection to count as working again. Less, and a server that cuts after each byte is given up on.
pub(super) const RECOVERED_BYTES: u64 = 4 << 20;

/// Reads exactly the bytes that the descriptor announces. Whether they are the right ones is for the reader's digest to say.
pub(super) struct BlobReader<'a> {
    client: &'a Client<'a>,
    descriptor: &'a Descriptor,
    cancelled: &'a AtomicBool,
    given_up: Arc<AtomicBool>,
    body: Option<BodyReader>,
    position: u64,
    told: u64,
    failures: u32,
    failed_at: u64,
    /// How often the client had been interrupted when it was asked last.
    hang_ups: usize,
}

impl<'a> BlobReader<'a> {
    /// A blob from `position` on. Whoever gives up on it interrupts what its client is at; all but this blob is asked for again.
    pub(super) fn source(client: &'a Client<'a>, descriptor: &'a Descriptor, position: u64, cancelled: &'a AtomicBool) -> Source<'a> {
        let given_up = Arc::new(AtomicBool::new(false));
        let known = Arc::clone(&given_up);
        let (body, told, failed_at) = (None, position, position);
        let reader = Self { client, descriptor, cancelled, given_up, body, position, told, failures: 0, failed_at, hang_ups: 0 };
        Source::waiting(reader, move || {
            known.store(true, Ordering::Relaxed);
            client.hang_up();
        })
    }

    /// An error if no more of it is wanted.
    fn check_wanted(&self) -> Result<(), RequestError> {
        if self.cancelled.load(Ordering::Relaxed) || self.given_up.load(Ordering::Relaxed) {
            return Err(RequestError::Unwanted);
        }
        self.client.check_wanted()
    }

    /// Waits before another attempt, or gives up with the error.
    fn failed(&mut self, error: RequestError) -> io::Result<()> {
        self.body = None;
        // It was interrupted for the sake of another blob, or of this one.
        if self.hang_ups != self.client.hang_ups() {
            return self.check_wanted().map_err(io::Error::other);
        }
        if self.position >= self.failed_at + RECOVERED_BYTES {
            self.failures = 0;
        }
        self.failed_at = self.position;
        self.failures += 1;
        let what = format!("layer {} from byte {}", self.descriptor.digest, self.position);
        self.client.wait_while(&|| self.check_wanted(), &what, self.failures, error).map_err(io::Error::other)
    }

    fn open(&mut self) -> Result<BodyReader, RequestError> {
        self.hang_ups = self.client.hang_ups();
        let digest = &self.descriptor.digest;
        let (mut body, begins_at) = match self.client.blob(digest, self.position) {
            // Whether it is too short or its server cannot do it: all of it tells.
            Err(error) if error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => self.client.blob(digest, 0)?,
            opened => opened?,
        };
        if begins_at == self.position {
            return Ok(body);
        }
        // The server knows no ranges and sends all again: pass over what we have.
        let skipped = io::copy(&mut Read::by_ref(&mut body).take(self.position), &mut io::sink()).map_err(RequestError::Body)?;
        if skipped == self.position { Ok(body) } else { Err(RequestError::Body(io::ErrorKind::UnexpectedEof.into())) }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.descriptor.size - self.position;
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        loop {
            self.check_wanted().map_err(io::Error::other)?;
            let body = match &mut self.body {
                Some(body) => body,
                None => match self.open() {
                    Ok(body) => self.body.insert(body),
                    Err(error) => {
                        self.failed(error)?;
                        continue;
                    }
                },
            };
            match body.read(&mut buffer[..wanted]) {
                Ok(0) => self.failed(RequestError::Body(io::ErrorKind::UnexpectedEof.into()))?,
                Err(error) => self.failed(RequestError::Body(error))?,
                Ok(count) => {
                    self.position += count as u64;
                    if self.position >= self.told + PROGRESS_BYTES || self.position == self.descriptor.size {
                        self.told = self.position;
                        self.client.tell(Progress::LayerBytes { layer: self.descriptor, done: self.position });
                    }
                    return Ok(count);
                }
            }
        }
    }
}
