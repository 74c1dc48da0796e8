//! How much of the other side is taken, and how long reaching it may take: a reader that gives up there, and what its errors mean.

use crate::source::FetchError;
use crate::source::time_limit::TimeLimit;
use std::io::{self, Read};
use std::time::Duration;

/// What an advertisement may be: 500,000 references of 64 bytes.
pub(super) const ADVERTISEMENT_BYTES_MAX: u64 = 32 << 20;
/// What a pack may be. A site is manifests and build contexts; more belongs into an image.
pub(super) const PACK_BYTES_MAX: u64 = 2 << 30;
/// How long reaching a host may take.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(15);

/// Counts what the other side sends.
pub(super) struct Metered<R> {
    inner: R,
    left: u64,
    limit: TimeLimit,
}

impl<R> Metered<R> {
    /// Lets at most `bytes` through until the time is over.
    pub(super) fn new(inner: R, bytes: u64, limit: TimeLimit) -> Self {
        Self { inner, left: bytes, limit }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.limit.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = self.inner.read(buffer)?;
        let bytes = u64::try_from(count).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}

/// What a reading error of a transfer means: `bytes` and `limit` are those of its [`Metered`].
pub(super) fn explain(error: io::Error, repository: &str, bytes: u64, limit: TimeLimit) -> FetchError {
    let repository = repository.to_owned();
    match error.kind() {
        io::ErrorKind::TimedOut => FetchError::TimedOut { repository, limit: limit.span },
        io::ErrorKind::FileTooLarge => FetchError::TooMuch { what: "received bytes", of: repository, limit: bytes },
        io::ErrorKind::InvalidData => FetchError::Protocol { repository, problem: error.to_string() },
        io::ErrorKind::UnexpectedEof => FetchError::Protocol { repository, problem: "the connection ended early".into() },
        _ => FetchError::Unreachable { repository, source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_or_too_late_is_told_apart() {
        let limit = TimeLimit::of(Duration::from_secs(60));
        let read = |bytes, limit| {
            let mut all = Vec::new();
            Metered::new(&[0u8; 100][..], bytes, limit).read_to_end(&mut all).map_err(|error| explain(error, "x", bytes, limit).to_string())
        };
        assert_eq!(read(100, limit), Ok(100));
        assert_eq!(read(99, limit), Err("received bytes of x exceed 99".into()));
        assert_eq!(read(100, TimeLimit::of(Duration::ZERO)), Err("x did not deliver within 0 s".into()));
    }
}
