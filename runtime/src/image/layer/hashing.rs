//! The digest of a stream while it is written: hashed on a thread beside the writer's once there is enough to make that worth it.

use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes handed over at a time: a hand-over costs some ten microseconds, hashing this much two hundred.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks in flight: 2 MiB bridge the writer's pauses.
const CHUNKS_MAX: usize = 8;

/// A sink that keeps nothing of what is written but its digest.
pub(crate) struct HashingSink {
    chunk: Vec<u8>,
    hasher: Hasher,
}

enum Hasher {
    /// The writer hashes itself: so far there is little.
    Here(Sha256),
    /// A thread does.
    Beside { full: SyncSender<Vec<u8>>, empty: Receiver<Vec<u8>>, thread: JoinHandle<Sha256> },
}

impl HashingSink {
    pub(crate) fn new() -> Self {
        Self { chunk: Vec::new(), hasher: Hasher::Here(Sha256::new()) }
    }

    /// The digest of all that was written.
    pub(crate) fn finish(self) -> Digest {
        let mut hash = match self.hasher {
            Hasher::Here(hash) => hash,
            Hasher::Beside { full, empty, thread } => {
                drop((full, empty));
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        hash.update(&self.chunk);
        Digest::from_bytes(hash.finalize().into())
    }

    /// Hands the full chunk over and takes an empty one.
    fn hand_over(&mut self) {
        if let Hasher::Here(hash) = &self.hasher {
            self.hasher = beside(hash.clone());
        }
        let Hasher::Beside { full, empty, .. } = &self.hasher else { return };
        let next = empty.try_recv().unwrap_or_default();
        let chunk = std::mem::replace(&mut self.chunk, next);
        // It receives until this side hangs up; should it have panicked, `finish` says so.
        let _ = full.send(chunk);
        self.chunk.reserve(CHUNK_BYTES);
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
    let (full, filled) = sync_channel::<Vec<u8>>(CHUNKS_MAX);
    let (emptied, empty) = sync_channel(CHUNKS_MAX + 1);
    let thread = std::thread::spawn(move || {
        for mut chunk in filled {
            hash.update(&chunk);
            chunk.clear();
            // The writer may have all it needs, or be done.
            let _ = emptied.try_send(chunk);
        }
        hash
    });
    Hasher::Beside { full, empty, thread }
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
            assert_eq!(sink.finish(), Digest::of(&bytes), "{step}");
        }
        assert_eq!(HashingSink::new().finish(), Digest::of(b""));
    }
}
