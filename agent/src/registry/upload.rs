//! Blobs on their way in. They wait in a directory of the process that serves until a manifest names them: what none names goes when
//! the process ends or after a time, and never was in the store.

use super::problem::Problem;
use runtime::store::{FileError, Scratch, ScratchSpace};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most uploads at once; a client sends three to six.
const UPLOADS_MAX: usize = 128;
/// How long an upload may be left alone before it is given up.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// How long a blob that is whole waits for a manifest that names it: those of an image are named once the last of them is here.
const STAGED_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most bytes of a blob, compressed: larger than any layer in use.
const BLOB_BYTES_MAX: u64 = 64 << 30;
/// Bytes between two looks at the room that is left.
const CHECK_BYTES: u64 = 64 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// All uploads, and the blobs that are whole.
pub(super) struct Uploads {
    directory: Scratch,
    under_way: Mutex<BTreeMap<String, Arc<Mutex<Upload>>>>,
}

/// One upload. Whoever holds its lock writes.
pub(super) struct Upload {
    repository: String,
    path: PathBuf,
    file: File,
    sha256: Sha256,
    pub size: u64,
    touched: Instant,
}

impl Uploads {
    /// In a directory within this one that goes with this process.
    pub(super) fn new(registry: &Path) -> Result<Self, FileError> {
        let directory = space(registry)?.create()?;
        for name in ["uploads", "blobs"] {
            directory.subdirectory(name)?;
        }
        Ok(Self { directory, under_way: Mutex::default() })
    }

    /// Begins one; its id.
    pub(super) fn begin(&self, repository: &str) -> Result<String, Problem> {
        self.give_up_old();
        let mut under_way = self.under_way();
        if under_way.len() >= UPLOADS_MAX {
            return Err(Problem::new(429, "TOOMANYREQUESTS", format!("{UPLOADS_MAX} uploads are under way")));
        }
        let id = random_id().map_err(Problem::failed)?;
        let path = self.directory.path().join("uploads").join(&id);
        let file = File::create_new(&path).map_err(Problem::failed)?;
        let upload = Upload { repository: repository.to_owned(), path, file, sha256: Sha256::new(), size: 0, touched: Instant::now() };
        under_way.insert(id.clone(), Arc::new(Mutex::new(upload)));
        Ok(id)
    }

    /// Gives up uploads that were left alone, and blobs that nobody named in time. What cannot be removed goes when the registry ends.
    pub(super) fn give_up_old(&self) {
        // One that is locked is written to.
        self.under_way().retain(|_, upload| upload.try_lock().map_or(true, |upload| upload.touched.elapsed() < IDLE_MAX));
        for path in expired_in(self.directory.path()) {
            let _ = fs::remove_file(path);
        }
    }

    pub(super) fn get(&self, repository: &str, id: &str) -> Result<Arc<Mutex<Upload>>, Problem> {
        let upload = self.under_way().get(id).cloned().ok_or_else(Problem::upload_unknown)?;
        let is_there = upload.lock().unwrap_or_else(PoisonError::into_inner).repository == repository;
        if is_there { Ok(upload) } else { Err(Problem::upload_unknown()) }
    }

    /// Takes one off the list; its file goes with the last who holds it. Fine if it is not there any more.
    pub(super) fn remove(&self, id: &str) {
        self.under_way().remove(id);
    }

    /// Makes an upload a blob, if it is the one it was promised to be.
    pub(super) fn finish(&self, upload: &mut Upload, promised: &Digest) -> Result<(), Problem> {
        let found = Digest::from_bytes(upload.sha256.clone().finalize().into());
        if found != *promised {
            return Err(Problem::digest_invalid(format!("the bytes have digest {found}, not {promised}")));
        }
        match fs::rename(&upload.path, self.blob_path(promised)) {
            // It was given up by somebody else.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Problem::upload_unknown()),
            renamed => renamed.map_err(Problem::failed),
        }
    }

    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<File>, Problem> {
        match File::open(self.blob_path(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Problem::failed(error)),
        }
    }

    /// Where a blob is, once it is whole.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.path().join("blobs").join(digest.hex())
    }

    /// Drops a blob that is kept elsewhere now, or that nobody wants.
    pub(super) fn forget(&self, digest: &Digest) {
        // Another push of the same blob may have been faster; what stays goes when the registry ends.
        let _ = fs::remove_file(self.blob_path(digest));
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Upload>>>> {
        // A thread that panicked left a map as good as before: it only inserts and removes.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Adds what a body has. What came before it broke off stays, and counts.
    /// `room` says whether so many bytes more would fit.
    pub(super) fn append(&mut self, room: &dyn Fn(u64) -> Result<(), Problem>, body: &mut impl Read) -> Result<(), Problem> {
        let mut buffer = vec![0; READ_BYTES];
        let mut unchecked = CHECK_BYTES;
        self.touched = Instant::now();
        loop {
            let broken = |_error: io::Error| Problem::new(400, "BLOB_UPLOAD_INVALID", "the body broke off; go on from where Range says");
            let count = match body.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(broken)?,
            };
            if count == 0 {
                self.touched = Instant::now();
                return Ok(());
            }
            unchecked += count as u64;
            if unchecked >= CHECK_BYTES {
                unchecked = 0;
                room(CHECK_BYTES)?;
            }
            if self.size + count as u64 > BLOB_BYTES_MAX {
                return Err(Problem::new(413, "SIZE_INVALID", format!("a blob has at most {BLOB_BYTES_MAX} bytes")));
            }
            self.file.write_all(&buffer[..count]).map_err(Problem::failed)?;
            self.sha256.update(&buffer[..count]);
            self.size += count as u64;
        }
    }

    /// `Range` of what has come: its last byte, and 0 if there is none.
    pub(super) fn range(&self) -> String {
        format!("0-{}", self.size.saturating_sub(1))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // One that became a blob is not there any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// Where the processes that serve a registry have what is on its way. What dead ones left goes.
fn space(registry: &Path) -> Result<ScratchSpace, FileError> {
    ScratchSpace::open(&registry.join("uploads"))
}

/// Files of uploads that were left alone, and of blobs that nobody named in time, of all processes that serve a registry.
pub(super) fn expired(registry: &Path) -> Result<Vec<PathBuf>, FileError> {
    space(registry)?;
    let processes = fs::read_dir(registry.join("uploads")).into_iter().flatten().flatten();
    Ok(processes.flat_map(|process| expired_in(&process.path())).collect())
}

/// Those of one process. What cannot be looked at is none.
fn expired_in(directory: &Path) -> Vec<PathBuf> {
    let old = |part: &str, most: Duration| {
        let files = fs::read_dir(directory.join(part)).into_iter().flatten().flatten();
        let age = |file: &fs::DirEntry| Some(file.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default());
        files.filter(move |file| age(file).is_some_and(|age| age > most)).map(|file| file.path()).collect::<Vec<_>>()
    };
    [old("uploads", IDLE_MAX), old("blobs", STAGED_MAX)].concat()
}

/// 128 random bits: an id that another client cannot guess.
fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open(Path::new("/dev/urandom"))?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
