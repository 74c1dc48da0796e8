//! Streams that threads of their own read and hash ahead of whoever uses them.

use super::source::Source;
use super::stream::{Bounded, Compressed, read_full};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Scope;

/// Bytes handed from one thread to the next at a time: large enough that the hand-over costs nothing.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks in flight. 2 MiB bridge the pauses of either side (a directory of small files) and bound the memory of a pull.
const CHUNKS_MAX: usize = 8;

/// Lets `consume` read the content of a layer's stream while one thread reads the stream, one inflates it, and two hash both sides.
///
/// Returns what `consume` returned and, if the stream was read to its end, what it was as it came.
pub(crate) fn inflate_ahead<'a, T>(source: impl Into<Source<'a>>, consume: impl FnOnce(Ahead) -> T) -> (T, Option<Compressed>) {
    let (source, hang_up) = source.into().split();
    let compressed = OnceLock::new();
    let consumed = std::thread::scope(|scope| {
        let stream = Ahead::filled(scope, |chunks| chunks.fill(source));
        let content = Ahead::filled(scope, |chunks| {
            let mut content = Bounded::new(stream)?;
            chunks.fill(&mut content)?;
            // What follows the compressed data is part of what has the digest.
            let mut stream = content.into_source();
            io::copy(&mut stream, &mut io::sink())?;
            let (digest, bytes) = stream.digest();
            compressed.set(Compressed { digest, bytes }).map_err(|_| io::ErrorKind::AlreadyExists.into())
        });
        // It drops its end when it gives up, which ends the threads at their next chunk.
        let consumed = consume(content);
        if compressed.get().is_none() {
            // Nobody is to wait for a chunk that nobody wants.
            hang_up();
        }
        consumed
    });
    (consumed, compressed.into_inner())
}

/// A piece of the stream, which is used and hashed by two threads.
type Chunk = Arc<Vec<u8>>;

/// The thread that reads ahead.
struct Chunks {
    filled: SyncSender<io::Result<Chunk>>,
    to_hash: SyncSender<Chunk>,
    emptied: Receiver<Vec<u8>>,
}

impl Chunks {
    /// Hands on all that the source gives. Errors: it failed, or nobody wants more.
    fn fill(&self, mut source: impl Read) -> io::Result<()> {
        let unwanted = || io::Error::from(io::ErrorKind::BrokenPipe);
        loop {
            let mut chunk = self.emptied.try_recv().unwrap_or_default();
            chunk.resize(CHUNK_BYTES, 0);
            let (count, outcome) = read_full(&mut source, &mut chunk);
            if count > 0 {
                chunk.truncate(count);
                let chunk = Arc::new(chunk);
                self.to_hash.send(Arc::clone(&chunk)).map_err(|_| unwanted())?;
                self.filled.send(Ok(chunk)).map_err(|_| unwanted())?;
            }
            // What came before an error is used before it: what was wrong first is told.
            outcome?;
            if count == 0 {
                return Ok(());
            }
        }
    }
}

/// Where chunks go that were used.
struct Emptied(Sender<Vec<u8>>);

impl Emptied {
    /// Whoever is done with a chunk last gives its memory back.
    fn put(&self, chunk: Chunk) {
        if let Some(used) = Arc::into_inner(chunk).filter(|used| used.capacity() > 0) {
            let _ = self.0.send(used); // the other side may have ended already
        }
    }
}

/// The digest of all chunks, and how many bytes they were.
fn hash(chunks: &Receiver<Chunk>, emptied: &Emptied) -> (Digest, u64) {
    let (mut sha256, mut bytes) = (Sha256::new(), 0);
    while let Ok(chunk) = chunks.recv() {
        sha256.update(&*chunk);
        bytes += chunk.len() as u64;
        emptied.put(chunk);
    }
    (Digest::from_bytes(sha256.finalize().into()), bytes)
}

/// The reading side.
pub(crate) struct Ahead {
    filled: Receiver<io::Result<Chunk>>,
    emptied: Emptied,
    chunk: Chunk,
    position: usize,
    hashed: Receiver<(Digest, u64)>,
}

impl Ahead {
    /// What `fill` hands on, on a thread of the scope; its error is the reader's.
    fn filled<'scope>(scope: &'scope Scope<'scope, '_>, fill: impl FnOnce(&Chunks) -> io::Result<()> + Send + 'scope) -> Self {
        let (filled_in, filled) = sync_channel(CHUNKS_MAX);
        let (to_hash, hashing) = sync_channel(CHUNKS_MAX);
        let (hashed_in, hashed) = sync_channel(1);
        let (emptied_in, emptied) = channel();
        let from_hashing = Emptied(emptied_in.clone());
        scope.spawn(move || hashed_in.send(hash(&hashing, &from_hashing)));
        let chunks = Chunks { filled: filled_in, to_hash, emptied };
        scope.spawn(move || {
            if let Err(error) = fill(&chunks) {
                let _ = chunks.filled.send(Err(error)); // nobody there is one of the reasons
            }
        });
        Self { filled, emptied: Emptied(emptied_in), chunk: Arc::default(), position: 0, hashed }
    }

    /// Digest and number of bytes of the stream, once its end was read.
    pub(crate) fn digest(self) -> (Digest, u64) {
        let Self { filled, hashed, .. } = self;
        // Nobody is waited for who waits for us.
        drop(filled);
        hashed.recv().expect("the hashing thread answers when the last chunk has come")
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() {
            self.emptied.put(std::mem::take(&mut self.chunk));
            self.position = 0;
            // A closed channel is the end of the stream.
            if let Ok(chunk) = self.filled.recv() {
                self.chunk = chunk?;
            }
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
