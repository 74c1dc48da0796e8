//! Reading files for their digests: those that the index does not know, on all processors.

use super::index::StatIndex;
use super::tree::{Content, Entry, SourceDirectory, TreeError};
use rustix::fs::{Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 << 10;
/// Files that one thread takes at a time: enough to open their directory once for many, few enough to share a large directory.
const BATCH_FILES: usize = 128;
/// Below this many bytes a second thread costs more than it saves.
const ALONE_BYTES: u64 = 4 << 20;
/// Most threads: beyond, the disk and not hashing is the bound.
const THREADS_MAX: usize = 8;

/// Files of one directory that are not known.
struct Batch<'a> {
    directory: Arc<SourceDirectory>,
    files: Vec<(&'a [u8], &'a Stat)>,
}

/// What a thread found out: per file its state, its digest, and the time before it was read.
type Learnt<'a> = Vec<(&'a Stat, Digest, SystemTime)>;

/// Reads one file and remembers its digest.
pub(super) fn one(index: &mut StatIndex, from: &SourceDirectory, name: &[u8], stat: &Stat) -> Result<Digest, io::Error> {
    let read_at = SystemTime::now();
    let digest = digest_of(&from.open()?, name, &mut Vec::new())?;
    index.put(stat, digest, read_at);
    Ok(digest)
}

/// Reads all files among the entries that the index does not know.
pub(super) fn all<'a>(
    index: &mut StatIndex,
    entries: impl Iterator<Item = (&'a Arc<SourceDirectory>, &'a Entry)>,
) -> Result<(), TreeError> {
    let mut batches = Vec::new();
    for (directory, entry) in entries {
        unknown(index, directory, std::slice::from_ref(entry), &mut batches);
    }
    let bytes: u64 = batches.iter().flat_map(|batch| &batch.files).map(|(_, stat)| stat.st_size as u64).sum();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if bytes < ALONE_BYTES { 1 } else { processors.min(THREADS_MAX) };
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let work = || {
            let result = learn(&batches, &next);
            results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        };
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    for result in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        for (stat, digest, read_at) in result? {
            index.put(stat, digest, read_at);
        }
    }
    Ok(())
}

/// Takes batches until none is left.
fn learn<'a>(batches: &[Batch<'a>], next: &AtomicUsize) -> Result<Learnt<'a>, TreeError> {
    let mut learnt = Vec::new();
    let mut buffer = Vec::new();
    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
        let failed = |error: io::Error| TreeError::reading(&String::from_utf8_lossy(batch.directory.path()), error);
        let directory = batch.directory.open().map_err(|errno| failed(errno.into()))?;
        for (name, stat) in &batch.files {
            let read_at = SystemTime::now();
            let digest = digest_of(&directory, name, &mut buffer).map_err(failed)?;
            learnt.push((*stat, digest, read_at));
        }
    }
    Ok(learnt)
}

/// Collects unknown files, those of one directory together.
fn unknown<'a>(index: &StatIndex, directory: &Arc<SourceDirectory>, entries: &'a [Entry], batches: &mut Vec<Batch<'a>>) {
    let mut files = Vec::new();
    for entry in entries {
        match &entry.content {
            Content::File if !index.knows(&entry.stat) => files.push((entry.name.as_slice(), &entry.stat)),
            Content::Directory(children) => unknown(index, &directory.of(entry), children, batches),
            Content::File | Content::Link(_) | Content::Special => {}
        }
    }
    for files in files.chunks(BATCH_FILES) {
        batches.push(Batch { directory: Arc::clone(directory), files: files.to_vec() });
    }
}

fn digest_of(directory: &OwnedFd, name: &[u8], buffer: &mut Vec<u8>) -> Result<Digest, io::Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    buffer.resize(READ_BYTES, 0);
    let mut hash = Sha256::new();
    loop {
        match file.read(buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}
