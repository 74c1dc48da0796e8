//! What lies between "written to the log" and "taken out of the pipe": the batch in hand, noted in the run directory, so that
//! the successor of a killed shim neither loses nor repeats it.
//!
//! It can be wrong in one case: killed after taking a batch out and before clearing the note, with an equal batch next in the
//! pipe. Then as many equal lines too few are logged.

use super::file::Mark;
use super::record::Stream;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Stream, length, digest, inode, size: five words.
const ENTRY_BYTES: usize = 40;

/// The note of one container, on memory-backed disk: a system call each way, no fsync.
pub struct Journal {
    file: File,
}

/// A batch in hand.
pub struct Entry {
    /// Which pipe it comes from.
    pub stream: Stream,
    /// How many bytes of the pipe.
    pub length: usize,
    /// Where the log ended before it.
    pub mark: Mark,
    digest: u64,
}

impl Journal {
    /// Opens or makes it.
    pub fn open(run: &Path) -> io::Result<Self> {
        let path = run.join("log.journal");
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { file })
    }

    /// Notes a batch that is about to be written.
    pub fn begin(&self, stream: Stream, bytes: &[u8], mark: Mark) -> io::Result<()> {
        let stream = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        let words = [stream, bytes.len() as u64, digest(bytes), mark.inode, mark.size_bytes];
        let mut entry = [0; ENTRY_BYTES];
        for (place, word) in entry.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.file.write_all_at(&entry, 0)
    }

    /// Notes that the batch is done.
    pub fn clear(&self) -> io::Result<()> {
        self.file.write_all_at(&[0; 8], 0)
    }

    /// The batch that was in hand, if one was.
    pub fn read(&self) -> Option<Entry> {
        let mut bytes = [0; ENTRY_BYTES];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        let mut word = || words.next().expect("five words");
        let stream = match word() {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        let length = usize::try_from(word()).ok()?;
        let digest = word();
        Some(Entry { stream, length, digest, mark: Mark { inode: word(), size_bytes: word() } })
    }
}

impl Entry {
    /// Whether these are its bytes.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.length && digest(bytes) == self.digest
    }
}

/// FNV-1a, 64 bits: tells accidents apart, not forgeries; a container could only spoil its own log.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
