//! gzip on all processors: the same bytes on any number of them.
//!
//! The stream is cut into blocks of [`BLOCK_BYTES`], each becomes a gzip member of its own (RFC 1952, 2.2: a file is a series of
//! members), and the members are written in order. Where a block ends depends on nothing but its place in the stream.

use super::stream::Compressed;
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Uncompressed bytes of a member. The window of 32 KiB starts anew with each one, which costs 0.3 % of the size at this length.
const BLOCK_BYTES: usize = 1 << 20;
/// More threads than this wait for the one that reads the files.
const THREADS_MAX: usize = 8;
/// Level of deflate. Of a Debian of 120 MB level 1 makes 51 MB with 0.9 s of processor time, level 3 makes 41 MB with 1.7 s, level 6
/// makes 39 MB with 3.2 s (zlib-rs). On two processors 3 costs 0.4 s more than 1, which sending 11 MB less pays back on any link below
/// 200 Mbit/s, again with each pull; 6 costs twice as much as 3 for 3 % less.
const LEVEL: u32 = 3;

/// Compresses what `produce` writes into `sink`. Returns what `produce` returned, and digest and size of what was written.
pub(crate) fn gzip<T>(sink: impl Write + Send, produce: impl FnOnce(&mut Blocks) -> T) -> (T, io::Result<Compressed>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    gzip_on(threads, sink, produce)
}

fn gzip_on<T>(threads: usize, sink: impl Write + Send, produce: impl FnOnce(&mut Blocks) -> T) -> (T, io::Result<Compressed>) {
    // A block waits in one of the two, which bounds the memory: a block and its member for each place and each thread.
    let (work, todo) = sync_channel::<Block>(threads);
    let (order, members) = sync_channel(threads);
    let todo = Mutex::new(todo);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| compress_blocks(&todo));
        }
        let writing = scope.spawn(move || write_members(sink, &members));
        let mut blocks = Blocks { work, order, block: Vec::with_capacity(BLOCK_BYTES) };
        let produced = produce(&mut blocks);
        blocks.hand_over();
        drop(blocks); // the threads end when nothing more can come
        (produced, writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A block on its way to whoever compresses it, and where its member is waited for.
struct Block {
    bytes: Vec<u8>,
    member: SyncSender<Vec<u8>>,
}

/// Where the stream to be compressed is written.
pub(crate) struct Blocks {
    work: SyncSender<Block>,
    order: SyncSender<Receiver<Vec<u8>>>,
    block: Vec<u8>,
}

impl Blocks {
    /// Gives away what was collected. A closed channel means that the sink failed: its error is the one to report.
    fn hand_over(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let bytes = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        let (member, compressed) = sync_channel(1);
        if self.order.send(compressed).is_ok() {
            let _ = self.work.send(Block { bytes, member });
        }
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK_BYTES {
            self.hand_over();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // a shorter block would give other bytes
    }
}

fn compress_blocks(todo: &Mutex<Receiver<Block>>) {
    loop {
        // The lock is held while waiting: one thread waits for work, the others for the lock.
        let block = todo.lock().map(|todo| todo.recv());
        let Ok(Ok(Block { bytes, member })) = block else { return };
        let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 2), flate2::Compression::new(LEVEL));
        let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
        // Writing to memory cannot fail; a member that never comes would be noticed as a broken channel all the same.
        if let Ok(compressed) = compressed {
            let _ = member.send(compressed);
        }
    }
}

fn write_members(mut sink: impl Write, members: &Receiver<Receiver<Vec<u8>>>) -> io::Result<Compressed> {
    let mut sha256 = Sha256::new();
    let mut bytes = 0;
    let mut empty = true;
    let mut write = |member: &[u8]| {
        sha256.update(member);
        bytes += member.len() as u64;
        sink.write_all(member)
    };
    for member in members {
        let member = member.recv().map_err(|_| io::Error::other("a thread that compresses ended early"))?;
        empty = false;
        write(&member)?;
    }
    if empty {
        // A stream of nothing is one member of nothing: a file of no bytes at all is no gzip file.
        write(&flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(LEVEL)).finish()?)?;
    }
    sink.flush()?;
    Ok(Compressed { digest: Digest::from_bytes(sha256.finalize().into()), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn compressed(threads: usize, content: &[u8], step: usize) -> Vec<u8> {
        let mut sink = Vec::new();
        let (produced, written) =
            gzip_on(threads, &mut sink, |blocks| content.chunks(step.max(1)).try_for_each(|chunk| blocks.write_all(chunk)));
        produced.unwrap();
        let written = written.unwrap();
        assert_eq!((written.digest, written.bytes), (Digest::of(&sink), sink.len() as u64));
        sink
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes_and_they_unpack_to_the_content() {
        let content: Vec<u8> = (0..1_100_000_u32).flat_map(|n| (n / 5).to_le_bytes()).collect();
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, content.len()] {
            let expected = compressed(1, &content[..length], 100_000);
            for (threads, step) in [(2, 7_777), (5, content.len())] {
                assert!(compressed(threads, &content[..length], step) == expected, "{length} bytes on {threads} threads");
            }
            let mut unpacked = Vec::new();
            flate2::read::MultiGzDecoder::new(&expected[..]).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == content[..length]);
        }
    }

    #[test]
    fn a_sink_that_fails_ends_it_all() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (produced, written) = gzip_on(2, Full, |blocks| blocks.write_all(&vec![7; 40 * BLOCK_BYTES]));
        produced.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
