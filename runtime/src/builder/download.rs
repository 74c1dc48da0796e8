//! Files that ADD takes from the web: kept by content, asked for again only with what the server said last time.
//!
//! ```text
//! <build-cache>/downloads/<digest of the URL>.json   what the server said of it: validators, name, digest
//! <build-cache>/downloads/blobs/<hex>                the bytes, mode 0600
//! ```

use crate::image::registry::{IsWanted, install_crypto_provider};
use crate::image::store::{ImageStore, no_room};
use crate::store::usage::tree_bytes;
use crate::store::{FileError, atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};

/// Largest file taken: root file systems and models are below, a disk is above.
const BYTES_MAX: u64 = 64 << 30;
/// Most redirects: what browsers and curl take is 20 to 50, what release pages need is 3.
const REDIRECTS_MAX: u32 = 10;
/// How long a server may take to accept, and to send something.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a download is begun, and the pause before the second time; the third waits twice as long.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Where downloads of one store are kept.
#[derive(Debug, Clone)]
pub(crate) struct Downloads {
    directory: PathBuf,
    /// Whose room they take.
    store: ImageStore,
}

/// A downloaded file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Download {
    /// Of its bytes.
    pub digest: Digest,
    /// `Last-Modified`, seconds since 1970.
    pub modified: Option<i64>,
    /// `Content-Disposition`'s file name.
    pub name: Option<String>,
    etag: Option<String>,
    last_modified: Option<String>,
    /// Where it is from, without user and password.
    #[serde(default)]
    from: String,
}

/// A file that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDownload {
    /// Of its bytes.
    pub digest: Digest,
    /// Where it is from; nowhere, if the file there is another one by now.
    pub urls: BTreeSet<String>,
    /// Bytes of disk, with what is known of where it came from.
    pub size_bytes: u64,
    /// When a build last took it.
    pub last_used: SystemTime,
}

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server said no.
    #[error("{url} answered {status}")]
    Status {
        /// Without user and password.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// No answer, or one that broke off.
    #[error("get {url}")]
    Transport {
        /// Without user and password.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// An answer that broke off or could not be kept.
    #[error("get {url}")]
    Body {
        /// Without user and password.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not what `--checksum` says.
    #[error("{url} has digest {found}, not {expected} as --checksum says")]
    Checksum {
        /// Without user and password.
        url: String,
        /// What came.
        found: Digest,
        /// What was to come.
        expected: Digest,
    },
    /// The build has stopped.
    #[error("get {url}: nobody waits for it any more")]
    Unwanted {
        /// Without user and password.
        url: String,
    },
    /// Larger than any build takes.
    #[error("{url} is larger than {BYTES_MAX} bytes")]
    TooLarge {
        /// Without user and password.
        url: String,
    },
    /// Files of our own.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A file that is asked for.
struct Wish<'a> {
    url: &'a str,
    /// What the server said of it last time.
    known: Option<&'a Download>,
    is_wanted: &'a IsWanted<'a>,
}

/// What is known of a URL, and when it last served.
struct Record {
    path: PathBuf,
    download: Download,
    used: SystemTime,
}

impl Downloads {
    /// Downloads of a store, kept below its build cache.
    pub(crate) fn of(store: &ImageStore) -> Self {
        Self { directory: store.directory().join("build-cache/downloads"), store: store.clone() }
    }

    /// The directory of the bytes and the name of a download in it.
    pub(crate) fn place(&self, download: &Download) -> (PathBuf, String) {
        (self.directory.join("blobs"), download.digest.hex())
    }

    /// The files that are kept, the one that has not served for the longest time first.
    pub(crate) fn list(&self) -> Result<Vec<KeptDownload>, FileError> {
        let mut kept = BTreeMap::new();
        for (name, path) in self.files("blobs")? {
            let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else { continue };
            let last_used = fs::metadata(&path).and_then(|found| found.modified()).unwrap_or(UNIX_EPOCH);
            kept.insert(digest, KeptDownload { digest, urls: BTreeSet::new(), size_bytes: tree_bytes(&path), last_used });
        }
        for record in self.records()? {
            if let Some(download) = kept.get_mut(&record.download.digest) {
                download.size_bytes += tree_bytes(&record.path);
                download.urls.insert(record.download.from);
                download.last_used = download.last_used.max(record.used);
            }
        }
        let mut kept: Vec<_> = kept.into_values().collect();
        kept.sort_by_key(|download| (download.last_used, download.digest));
        Ok(kept)
    }

    /// Removes a file, and what is known of where it came from. No build runs meanwhile.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), FileError> {
        for record in self.records()?.into_iter().filter(|record| record.download.digest == *digest) {
            atomic::remove_file(&record.path)?;
        }
        atomic::remove_file(&self.directory.join("blobs").join(digest.hex()))
    }

    fn records(&self) -> Result<Vec<Record>, FileError> {
        let read = |path: PathBuf| {
            let download = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            let used = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
            Some(Record { path, download, used })
        };
        Ok(self.files("")?.into_iter().filter_map(|(_, path)| read(path)).collect())
    }

    fn files(&self, part: &str) -> Result<Vec<(String, PathBuf)>, FileError> {
        let path = self.directory.join(part);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(FileError::of("list", &path))?,
        };
        Ok(entries.into_iter().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect())
    }

    /// Gets a file. With `expected` nothing is asked for that is here already, and nothing else is taken. What is not wanted any more
    /// ends with what the server sends next, and leaves nothing behind.
    pub(crate) fn get(&self, url: &str, expected: Option<Digest>, is_wanted: &IsWanted<'_>) -> Result<Download, DownloadError> {
        let blobs = self.directory.join("blobs");
        fs::create_dir_all(&blobs).map_err(FileError::of("create", &blobs))?;
        let record = self.directory.join(format!("{}.json", Digest::of(url.as_bytes()).hex()));
        let known: Option<Download> = fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let known = known.filter(|known| blobs.join(known.digest.hex()).exists());
        if let (Some(known), Some(expected)) = (&known, expected)
            && known.digest == expected
        {
            // When it last served; one that cannot be marked only goes sooner.
            let _ = File::open(&record).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(known.clone());
        }
        let download = self.attempts(&Wish { url, known: known.as_ref(), is_wanted }, &blobs)?;
        if let Some(expected) = expected.filter(|expected| *expected != download.digest) {
            return Err(DownloadError::Checksum { url: shown(url), found: download.digest, expected });
        }
        atomic::write_json(&record, &download)?;
        Ok(download)
    }

    fn attempts(&self, wish: &Wish<'_>, blobs: &Path) -> Result<Download, DownloadError> {
        let agent = agent();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.download(&agent, wish, blobs) {
                Err(error) if attempt < ATTEMPTS && error.may_pass() && (wish.is_wanted)() => std::thread::sleep(PAUSE * attempt),
                other => return other,
            }
        }
    }

    fn download(&self, agent: &ureq::Agent, wish: &Wish<'_>, blobs: &Path) -> Result<Download, DownloadError> {
        let Wish { url, known, .. } = *wish;
        let mut request = agent.get(url);
        if let Some(etag) = known.and_then(|known| known.etag.as_ref()) {
            request = request.header(header::IF_NONE_MATCH, etag);
        } else if let Some(modified) = known.and_then(|known| known.last_modified.as_ref()) {
            request = request.header(header::IF_MODIFIED_SINCE, modified);
        }
        let mut response = request.call().map_err(|source| DownloadError::Transport { url: shown(url), source: Box::new(source) })?;
        match (response.status(), known) {
            (StatusCode::NOT_MODIFIED, Some(known)) => return Ok(known.clone()),
            (StatusCode::OK, _) => {}
            (status, _) => return Err(DownloadError::Status { url: shown(url), status: status.as_u16() }),
        }
        let text = |name: header::HeaderName| header_text(&response, &name);
        let (etag, last_modified) = (text(header::ETAG), text(header::LAST_MODIFIED));
        let name = text(header::CONTENT_DISPOSITION).as_deref().and_then(file_name);
        let digest = self.keep(&mut response, wish, blobs)?;
        let modified = last_modified.as_deref().and_then(crate::time::http_date);
        Ok(Download { digest, modified, name, etag, last_modified, from: shown(url) })
    }

    /// Writes the body under its digest.
    fn keep(&self, response: &mut Response<ureq::Body>, wish: &Wish<'_>, blobs: &Path) -> Result<Digest, DownloadError> {
        let temporary = blobs.join(format!("{}{}", atomic::TEMPORARY_PREFIX, atomic::unique()));
        let result = self.write_body(response, wish, &temporary).and_then(|digest| {
            let place = blobs.join(digest.hex());
            fs::rename(&temporary, &place).map_err(FileError::of("rename to", &place))?;
            Ok(digest)
        });
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    /// A body that leaves no room is not written to its end.
    fn write_body(&self, response: &mut Response<ureq::Body>, wish: &Wish<'_>, path: &Path) -> Result<Digest, DownloadError> {
        let Wish { url, is_wanted, .. } = *wish;
        let mut file = File::create_new(path).map_err(FileError::of("create", path))?;
        let mut body = self.store.watched(response.body_mut().as_reader());
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut total = 0;
        loop {
            let count = body.read(&mut buffer).map_err(|source| DownloadError::Body { url: shown(url), source })?;
            if !is_wanted() {
                return Err(DownloadError::Unwanted { url: shown(url) });
            }
            if count == 0 {
                return Ok(Digest::from_bytes(hash.finalize().into()));
            }
            total += count as u64;
            if total > BYTES_MAX {
                return Err(DownloadError::TooLarge { url: shown(url) });
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(FileError::of("write", path))?;
        }
    }
}

impl DownloadError {
    /// Whether the same question may be answered another time.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            Self::Transport { source, .. } => !matches!(**source, ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_)),
            Self::Body { source, .. } => no_room(source).is_none(),
            Self::Checksum { .. } | Self::TooLarge { .. } | Self::Unwanted { .. } | Self::File(_) => false,
        }
    }
}

fn agent() -> ureq::Agent {
    install_crypto_provider();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(REDIRECTS_MAX)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(SILENCE_TIMEOUT))
        .timeout_per_write(Some(SILENCE_TIMEOUT))
        .timeout_recv_response(Some(SILENCE_TIMEOUT))
        .user_agent(concat!("host-agent/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity") // what is hashed must be what was sent
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build());
    config.build().new_agent()
}

fn header_text(response: &Response<ureq::Body>, name: &header::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The name of what a URL leads to: the last part of its path, else what the server calls it, else BuildKit's word for none.
pub(crate) fn name_of(url: &str, download: &Download) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest).split(['?', '#']).next().unwrap_or_default();
    let base = path.split_once('/').and_then(|(_, path)| path.trim_end_matches('/').rsplit('/').next()).unwrap_or_default();
    let plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    match (plain(base), &download.name) {
        (true, _) => base.to_owned(),
        (false, Some(name)) if plain(name) => name.clone(),
        (false, _) => "__unnamed__".to_owned(),
    }
}

/// A URL as it may be shown: without what stands before `@`.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// The file name of a `Content-Disposition` header (RFC 6266), its extended form left aside.
fn file_name(text: &str) -> Option<String> {
    let parameter = text.split(';').map(str::trim).find_map(|part| part.strip_prefix("filename="))?;
    Some(parameter.trim_matches('"').to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let unnamed =
            Download { digest: Digest::of(b""), modified: None, name: None, etag: None, last_modified: None, from: String::new() };
        let named = Download { name: Some("given".to_owned()), ..unnamed.clone() };
        for (url, with, without) in [
            ("http://h/a/b.tar?x=/y#z", "b.tar", "b.tar"),
            ("http://h/a/", "a", "a"),
            ("http://h/", "given", "__unnamed__"),
            ("http://h", "given", "__unnamed__"),
            ("http://h/..", "given", "__unnamed__"),
        ] {
            assert_eq!((name_of(url, &named).as_str(), name_of(url, &unnamed).as_str()), (with, without), "{url}");
        }
        assert_eq!(file_name("attachment; filename=\"x y.zip\""), Some("x y.zip".to_owned()));
        assert_eq!(file_name("inline"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("https://me:secret@h/x@y"), "https://h/x@y");
        assert_eq!(shown("https://h/x@y"), "https://h/x@y");
    }
}
