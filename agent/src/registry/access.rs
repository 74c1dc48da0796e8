//! Who may do what: Basic credentials checked against a password file with bcrypt hashes, as `htpasswd -B` writes it.
//!
//! Basic, for every client speaks it and there is one trust domain: who knows a password may pull, and push if the registry is
//! writable. bcrypt is slow on purpose, and a pull is dozens of requests: a password that was right is remembered by a keyed digest.

use super::problem::Problem;
use super::request::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Most bytes of a password file: thousands of users.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Passwords checked at once: each takes a processor for up to a second.
const CHECKS_AT_ONCE: usize = 1;

/// Why a password file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It cannot be read.
    #[error("read password file {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A line that says nothing we take.
    #[error("{path:?}:{line}: not user:hash with a bcrypt hash: make the line with htpasswd -nB USER")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
}

/// Whether those who give no password may pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// No.
    Refused,
    /// Yes; to push takes a password all the same.
    MayPull,
}

/// Who may do what.
pub enum Access {
    /// Everybody may do everything that the registry does.
    Open,
    /// Those with a password.
    Passwords(Passwords),
}

/// Users and what they are known by.
pub struct Passwords {
    hashes: BTreeMap<String, String>,
    anonymous: Anonymous,
    /// Keyed digests of credentials that were right. The key is this process's own.
    known: Mutex<BTreeSet<[u8; 32]>>,
    key: [u8; 32],
    checking: Mutex<()>,
}

impl Access {
    /// Reads a password file.
    pub fn read(path: &Path, anonymous: Anonymous) -> Result<Self, AccessError> {
        let failed = |source| AccessError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)).map_err(failed)?;
        let mut hashes = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || AccessError::Line { path: path.to_owned(), line: index + 1 };
            let (user, hash) = line.split_once(':').ok_or_else(bad)?;
            if user.is_empty() || hash.parse::<bcrypt::HashParts>().is_err() {
                return Err(bad());
            }
            hashes.insert(user.to_owned(), hash.to_owned());
        }
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key)).map_err(failed)?;
        const { assert!(CHECKS_AT_ONCE == 1, "one lock is one check at once") };
        Ok(Self::Passwords(Passwords { hashes, anonymous, known: Mutex::default(), key, checking: Mutex::new(()) }))
    }

    /// Lets a request pass, or says what it lacks.
    pub(super) fn admit(&self, request: &Request<'_>, changes: bool) -> Result<(), Problem> {
        let Self::Passwords(passwords) = self else { return Ok(()) };
        match request.header("authorization") {
            None if passwords.anonymous == Anonymous::MayPull && !changes => Ok(()),
            None => Err(unauthorized("a user and a password are needed")),
            Some(given) if passwords.fits(given) => Ok(()),
            Some(_) => Err(unauthorized("no such user and password")),
        }
    }
}

impl Passwords {
    /// Whether an `Authorization` header is right.
    fn fits(&self, header: &str) -> bool {
        let Some((scheme, encoded)) = header.split_once(' ') else { return false };
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else { return false };
        let Some(hash) = self.hashes.get(user).filter(|_| scheme.eq_ignore_ascii_case("basic")) else { return false };
        let mark: [u8; 32] = Sha256::new().chain_update(self.key).chain_update(encoded.trim()).finalize().into();
        let is_known = || self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&mark);
        if is_known() {
            return true;
        }
        let _one_at_a_time = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
        // The request before this one may have been of the same user.
        let right = is_known() || bcrypt::verify(password, hash).unwrap_or(false);
        if right {
            // As many as there are users, at most: of each only one password is right.
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(mark);
        }
        right
    }
}

fn unauthorized(message: &str) -> Problem {
    let mut problem = Problem::new(401, "UNAUTHORIZED", message);
    problem.headers.push(("WWW-Authenticate", "Basic realm=\"agent registry\", charset=\"UTF-8\"".to_owned()));
    problem
}
