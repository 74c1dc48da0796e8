//! Digests of files by what stat(2) says of them, kept on disk: an unchanged context is not read again.
//!
//! An entry is believed only if device, inode, size, modification and change time are all the same, and if the file was quiet when it
//! was read: a change within the clock's grain after reading could leave all five as they were. The file ends with its own digest: it
//! is written without waiting for the disk, and one that a power cut tore is no index.

use crate::store::{FileError, atomic};
use rustix::fs::Stat;
use spec::value::Digest;
use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// First bytes of the file; another format is another word, and an index of a word not known is no index.
const MAGIC: &[u8; 8] = b"statidx2";
/// Bytes of an entry: five numbers and a digest.
const ENTRY_BYTES: usize = 5 * 8 + 32;
/// Largest index read: some two million files.
const INDEX_BYTES_MAX: u64 = 256 << 20;
/// A file changed this recently may change again within the same tick of a file system's clock: 4 ms on Linux's own, 10 ms at most.
const QUIET: Duration = Duration::from_millis(20);
/// The same for file systems that keep whole seconds.
const QUIET_SECONDS: Duration = Duration::from_secs(2);

/// What is known of files by their identity.
#[derive(Debug, Default)]
pub(crate) struct StatIndex {
    path: Option<PathBuf>,
    known: Known,
    used: Known,
    /// What was learnt of files that were not quiet: true for this build, not for the next.
    passing: Known,
    changed: bool,
}

type Known = HashMap<Identity, Digest, BuildHasherDefault<Mix>>;

/// What tells one state of one file from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Identity([u64; 5]);

impl std::hash::Hash for Identity {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // Inode and change time tell nearly all apart.
        hasher.write_u64(self.0[1] ^ self.0[4].rotate_left(32));
    }
}

/// A hash for numbers that nobody chose to collide: whoever could choose inodes and times of a context can slow down only its build.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The multiplier of Knuth's multiplicative hashing, 2^64 / golden ratio; the table takes high and low bits.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

impl StatIndex {
    /// Reads an index. One that is absent or broken is an empty one: it saves work, nothing else.
    pub(crate) fn open(path: &Path) -> Self {
        let small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= INDEX_BYTES_MAX);
        let bytes = if small { fs::read(path).unwrap_or_default() } else { Vec::new() };
        Self { path: Some(path.to_owned()), known: read(&bytes).unwrap_or_default(), ..Self::default() }
    }

    /// Whether the digest of a file is known.
    pub(crate) fn knows(&self, stat: &Stat) -> bool {
        let identity = Identity::of(stat);
        self.known.contains_key(&identity) || self.used.contains_key(&identity) || self.passing.contains_key(&identity)
    }

    /// The digest of a file, if it is known.
    pub(crate) fn get(&mut self, stat: &Stat) -> Option<Digest> {
        let identity = Identity::of(stat);
        if let Some(digest) = self.known.remove(&identity) {
            self.used.insert(identity, digest);
            return Some(digest);
        }
        self.used.get(&identity).or_else(|| self.passing.get(&identity)).copied()
    }

    /// Remembers a digest, if the file was quiet: `stat` is from before it was read, `read_at` the time then.
    pub(crate) fn put(&mut self, stat: &Stat, digest: Digest, read_at: SystemTime) {
        let whole_seconds = stat.st_mtime_nsec == 0 && stat.st_ctime_nsec == 0;
        let quiet = if whole_seconds { QUIET_SECONDS } else { QUIET };
        let changed = UNIX_EPOCH + Duration::new(u64::try_from(stat.st_ctime).unwrap_or(0), u32::try_from(stat.st_ctime_nsec).unwrap_or(0));
        if read_at.duration_since(changed).is_ok_and(|age| age >= quiet) {
            self.used.insert(Identity::of(stat), digest);
            self.changed = true;
        } else {
            self.passing.insert(Identity::of(stat), digest);
        }
    }

    /// Writes what was used this time; entries of files that are gone go with it.
    pub(crate) fn save(&self) -> Result<(), FileError> {
        let Some(path) = &self.path else { return Ok(()) };
        if !self.changed {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(MAGIC.len() + self.used.len() * ENTRY_BYTES + 32);
        bytes.extend_from_slice(MAGIC);
        for (identity, digest) in &self.used {
            identity.0.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
            bytes.extend_from_slice(digest.as_bytes());
        }
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        atomic::write_unsynced(path, &bytes)
    }
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        let time = |seconds: i64, nanoseconds: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds) as u64;
        let modified = time(stat.st_mtime, stat.st_mtime_nsec as i64);
        let changed = time(stat.st_ctime, stat.st_ctime_nsec as i64);
        Self([stat.st_dev, stat.st_ino, stat.st_size as u64, modified, changed])
    }
}

/// The entries of an index file; `None` if it is none, or torn.
fn read(bytes: &[u8]) -> Option<Known> {
    let (body, digest) = bytes.split_last_chunk::<32>()?;
    let entries = body.strip_prefix(MAGIC).filter(|rest| rest.len() % ENTRY_BYTES == 0)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let (numbers, digest) = bytes.split_at(5 * 8);
        let mut identity = [0; 5];
        for (number, bytes) in identity.iter_mut().zip(numbers.chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some((Identity(identity), Digest::from_bytes(digest.try_into().ok()?)))
    };
    Some(entries.chunks_exact(ENTRY_BYTES).filter_map(entry).collect())
}
