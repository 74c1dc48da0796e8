//! The digest of a stream while it is written: hashed on a thread beside the writer's once there is enough to make that worth it.

use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes handed over at a time: a hand-over costs some ten microseconds, hashing this much two hundred.
const CHUNK_BYTES: usize = 256 << 10;
/// Pieces in flight: full chunks are 16 MiB at most, files that wait to be read are few enough for any limit of open files.
const PIECES_MAX: usize = 64;

/// A sink that keeps nothing of what is written but its digest.
pub(crate) struct HashingSink {
    chunk: Vec<u8>,
    hasher: Hasher,
}

enum Hasher {
    /// The writer hashes itself: so far there is little.
    Here(Sha256),
    /// A thread does.
    Beside { pieces: SyncSender<Piece>, empty: Receiver<Vec<u8>>, thread: JoinHandle<io::Result<Sha256>> },
}

/// What is hashed next.
enum Piece {
    Bytes(Vec<u8>),
    /// This many bytes of a file.
    File(File, u64),
}

impl HashingSink {
    pub(crate) fn new() -> Self {
        Self { chunk: Vec::new(), hasher: Hasher::Here(Sha256::new()) }
    }

    /// The digest of all that was written. Errors: a file could not be read, or was shorter than announced.
    pub(crate) fn finish(self) -> io::Result<Digest> {
        let mut hash = match self.hasher {
            Hasher::Here(hash) => hash,
            Hasher::Beside { pieces, empty, thread } => {
                drop((pieces, empty));
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
            }
        };
        hash.update(&self.chunk);
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    /// Writes this many bytes of a file, read by the thread that hashes them.
    pub(crate) fn file(&mut self, file: File, size: u64) {
        self.hand_over();
        if let Hasher::Beside { pieces, .. } = &self.hasher {
            let _ = pieces.send(Piece::File(file, size));
        }
    }

    /// Hands the chunk over and takes an empty one.
    fn hand_over(&mut self) {
        if let Hasher::Here(hash) = &self.hasher {
            self.hasher = beside(hash.clone());
        }
        let Hasher::Beside { pieces, empty, .. } = &self.hasher else { return };
        let next = empty.try_recv().unwrap_or_default();
        let chunk = std::mem::replace(&mut self.chunk, next);
        // It receives until this side hangs up; should it have failed, `finish` says so.
        let _ = pieces.send(Piece::Bytes(chunk));
    }
}

impl Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.hand_over();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn beside(mut hash: Sha256) -> Hasher {
    let (pieces, received) = sync_channel::<Piece>(PIECES_MAX);
    let (emptied, empty) = sync_channel(PIECES_MAX);
    let thread = std::thread::spawn(move || {
        let mut buffer = Vec::new();
        for piece in received {
            match piece {
                Piece::Bytes(mut chunk) => {
                    hash.update(&chunk);
                    chunk.clear();
                    // The writer may have all it needs, or be done.
                    let _ = emptied.try_send(chunk);
                }
                Piece::File(file, size) => hash_file(&mut hash, file, size, &mut buffer)?,
            }
        }
        Ok(hash)
    });
    Hasher::Beside { pieces, empty, thread }
}

fn hash_file(hash: &mut Sha256, mut file: File, size: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(CHUNK_BYTES, 0);
    let mut left = size;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..wanted])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                hash.update(&buffer[..count]);
                left -= count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_does_not_depend_on_how_it_was_written() {
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|number| ((number * 31) >> 3) as u8).collect();
        for step in [1000, CHUNK_BYTES - 1, CHUNK_BYTES, 3_000_001] {
            let mut sink = HashingSink::new();
            bytes.chunks(step).for_each(|part| sink.write_all(part).unwrap());
            assert_eq!(sink.finish().unwrap(), Digest::of(&bytes), "{step}");
        }
        assert_eq!(HashingSink::new().finish().unwrap(), Digest::of(b""));
    }
    #[test]
    fn files_are_hashed_where_they_stand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 600_000]).unwrap();
        let mut sink = HashingSink::new();
        sink.write_all(b"before").unwrap();
        sink.file(File::open(&path).unwrap(), 600_000);
        sink.write_all(b"after").unwrap();
        assert_eq!(sink.finish().unwrap(), Digest::of(&[&b"before"[..], &[7; 600_000], b"after"].concat()));
        let mut sink = HashingSink::new();
        sink.file(File::open(&path).unwrap(), 600_001);
        assert!(sink.finish().is_err());
    }
}
