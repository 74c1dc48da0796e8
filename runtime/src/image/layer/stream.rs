//! Byte streams of layers: decompression by content, digests of both sides in the same pass, inflating and hashing on threads of
//! their own while the other side writes files.

use super::{BYTES_MAX, RATIO_FREE_BYTES, RATIO_MAX};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes handed from the inflating thread to the writing one at a time: large enough that the hand-over costs nothing.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks in flight. 2 MiB bridge the writer's pauses (a directory of small files) and bound the memory of a pull.
const CHUNKS_MAX: usize = 8;
/// Longest zstd window, as a power of two: the format's recommended limit, 8 MiB, is 23; `zstd --long` writes 27.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Most memory for a dictionary of xz: `xz -9` makes 64 MiB, what it can be asked for is 4 GiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, any number of members.
    Gzip,
    /// zstd, any number of frames.
    Zstd,
}

impl Compression {
    /// By the first bytes of a stream. Compressions that are not taken are an error with what to do instead.
    pub fn detect(start: &[u8]) -> io::Result<Self> {
        let refused = |name: &str, tool: &str| {
            let text = format!("it is compressed with {name}, which no layer is: unpack it with `{tool} -d`, or use gzip or zstd");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A skippable frame: zstd files of several streams may begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => refused("xz", "xz"),
            [b'B', b'Z', b'h', ..] => refused("bzip2", "bzip2"),
            _ => Ok(Self::None),
        }
    }
}

/// What came out of the compressed side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compressed {
    /// Digest of the bytes as they travelled.
    pub digest: Digest,
    /// How many.
    pub bytes: u64,
}

/// Lets `consume` read the uncompressed bytes of `source` while one thread reads and inflates them ahead, and another hashes them.
///
/// Returns what `consume` returned and, if it read to the end, the digest of the compressed bytes.
pub(crate) fn inflate_ahead<R: Read + Send, T>(source: R, consume: impl FnOnce(Ahead) -> T) -> (T, Option<Compressed>) {
    std::thread::scope(|scope| {
        let (filled_in, filled) = sync_channel(CHUNKS_MAX);
        let (inflated, to_hash) = sync_channel(CHUNKS_MAX);
        let (digest_in, digest) = sync_channel(1);
        let (emptied_in, emptied) = channel();
        let from_hashing = Emptied(emptied_in.clone());
        let inflating = scope.spawn(move || inflate(source, &Inflated { reader: filled_in, hasher: inflated }, &emptied));
        scope.spawn(move || digest_in.send(hash(&to_hash, &from_hashing)));
        let ahead = Ahead { filled, emptied: Emptied(emptied_in), chunk: Arc::default(), position: 0, digest };
        // `consume` drops its end when it gives up, which ends the threads at their next chunk.
        let consumed = consume(ahead);
        let compressed = inflating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (consumed, compressed)
    })
}

/// A piece of the uncompressed stream, which is read and hashed by two threads.
type Chunk = Arc<Vec<u8>>;

/// Where chunks go that were inflated.
struct Inflated {
    reader: SyncSender<io::Result<Chunk>>,
    hasher: SyncSender<Chunk>,
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

/// The digest of all chunks.
fn hash(chunks: &Receiver<Chunk>, emptied: &Emptied) -> Digest {
    let mut sha256 = Sha256::new();
    while let Ok(chunk) = chunks.recv() {
        sha256.update(&*chunk);
        emptied.put(chunk);
    }
    Digest::from_bytes(sha256.finalize().into())
}

/// The uncompressed side of [`inflate_ahead`].
pub(crate) struct Ahead {
    filled: Receiver<io::Result<Chunk>>,
    emptied: Emptied,
    chunk: Chunk,
    position: usize,
    digest: Receiver<Digest>,
}

impl Ahead {
    /// Digest of the stream once its end was read: the diff id.
    pub(crate) fn digest(self) -> Digest {
        let Self { filled, digest, .. } = self;
        // Nobody is waited for who waits for us.
        drop(filled);
        digest.recv().expect("the hashing thread answers when the last chunk has come")
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

/// The inflating thread: fills chunks until the end, an error or until nobody wants more.
fn inflate<R: Read>(source: R, inflated: &Inflated, emptied: &Receiver<Vec<u8>>) -> Option<Compressed> {
    let filled = &inflated.reader;
    let mut decoder = match Decoder::new(source) {
        Ok(decoder) => decoder,
        Err(error) => {
            let _ = filled.send(Err(error));
            return None;
        }
    };
    let mut total = 0_u64;
    loop {
        let mut chunk = emptied.try_recv().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
        let count = match read_full(&mut decoder, &mut chunk) {
            Ok(count) => count,
            Err(error) => {
                let _ = filled.send(Err(error));
                return None;
            }
        };
        chunk.truncate(count);
        total += count as u64;
        if let Err(error) = check_size(total, decoder.compressed_bytes()) {
            let _ = filled.send(Err(error));
            return None;
        }
        if count == 0 {
            return decoder.finish().map_or_else(|error| filled.send(Err(error)).map_or(None, |()| None), Some);
        }
        let chunk = Arc::new(chunk);
        inflated.hasher.send(Arc::clone(&chunk)).ok()?;
        filled.send(Ok(chunk)).ok()?;
    }
}

/// Refuses decompression bombs while they unfold.
fn check_size(unpacked: u64, compressed: u64) -> io::Result<()> {
    if unpacked > BYTES_MAX {
        return Err(io::Error::other(format!("it unpacks to more than {BYTES_MAX} bytes")));
    }
    if unpacked > RATIO_FREE_BYTES && unpacked / RATIO_MAX > compressed {
        return Err(io::Error::other(format!("it unpacks to more than {RATIO_MAX} times its {compressed} bytes: a decompression bomb")));
    }
    Ok(())
}

/// Reads until the buffer is full or the source ends.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A decompressor chosen by content, over a hashing reader.
pub(crate) enum Decoder<R: Read> {
    Plain(BufReader<Hashing<R>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Hashing<R>>>>),
    Zstd(zstd::Decoder<'static, BufReader<Hashing<R>>>),
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(source: R) -> io::Result<Self> {
        let mut source = BufReader::with_capacity(CHUNK_BYTES, Hashing { source, sha256: Sha256::new(), bytes: 0 });
        Ok(match Compression::detect(source.fill_buf()?)? {
            Compression::None => Self::Plain(source),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Self::Zstd(decoder)
            }
        })
    }

    fn source(&self) -> &Hashing<R> {
        match self {
            Self::Plain(source) => source.get_ref(),
            Self::Gzip(decoder) => decoder.get_ref().get_ref(),
            Self::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// Compressed bytes read so far.
    fn compressed_bytes(&self) -> u64 {
        self.source().bytes
    }

    /// The digest of the compressed side, what follows the compressed data included.
    fn finish(self) -> io::Result<Compressed> {
        let mut source = match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        };
        io::copy(&mut source, &mut io::sink())?;
        let hashing = source.into_inner();
        Ok(Compressed { digest: Digest::from_bytes(hashing.sha256.finalize().into()), bytes: hashing.bytes })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// A decompressor that ends with an error where a layer would be refused: for whoever only looks.
pub(crate) struct Bounded<R: Read> {
    decoder: Decoder<R>,
    total: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(source: R) -> io::Result<Self> {
        Ok(Self { decoder: Decoder::new(source)?, total: 0 })
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.total += count as u64;
        check_size(self.total, self.decoder.compressed_bytes())?;
        Ok(count)
    }
}

/// What an archive unpacks to, which may come in two compressions more than a layer: bzip2 and xz. `None` if it is empty.
pub(crate) fn decompressed(source: impl Read + 'static) -> io::Result<Option<Box<dyn Read>>> {
    let mut source = BufReader::with_capacity(CHUNK_BYTES, source);
    Ok(match source.fill_buf()? {
        [] => None,
        [b'B', b'Z', b'h', ..] => Some(Box::new(bzip2::bufread::MultiBzDecoder::new(source))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB))),
        [0x1f, 0x8b, ..] => Some(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Some(Box::new(decoder))
        }
        _ => Some(Box::new(source)),
    })
}

/// Writes what an archive unpacks to, with the same limits as a layer.
pub(crate) fn copy_decompressed(source: impl Read + 'static, sink: &mut impl io::Write) -> io::Result<()> {
    let compressed = Rc::new(Cell::new(0));
    let counting = Counting { source, bytes: Rc::clone(&compressed) };
    let Some(mut content) = decompressed(counting)? else { return Ok(()) };
    let (mut chunk, mut total) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let count = read_full(&mut content, &mut chunk)?;
        total += count as u64;
        check_size(total, compressed.get())?;
        if count == 0 {
            return Ok(());
        }
        sink.write_all(&chunk[..count])?;
    }
}

/// Counts what passes.
struct Counting<R> {
    source: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.bytes.set(self.bytes.get() + count as u64);
        Ok(count)
    }
}

/// Counts and hashes what passes.
pub(crate) struct Hashing<R> {
    source: R,
    sha256: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.sha256.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read_all(source: &[u8]) -> (io::Result<(Vec<u8>, Digest)>, Option<Compressed>) {
        inflate_ahead(source, |mut ahead| {
            let mut bytes = Vec::new();
            ahead.read_to_end(&mut bytes)?;
            Ok((bytes, ahead.digest()))
        })
    }

    #[test]
    fn every_compression_gives_the_same_bytes_and_both_digests() {
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let (half, rest) = content.split_at(content.len() / 2);
        let two_members = [gzip(half), gzip(rest)].concat();
        for packed in [content.clone(), gzip(&content), two_members, zstd::encode_all(&content[..], 1).unwrap()] {
            let (read, compressed) = read_all(&packed);
            let (bytes, digest) = read.unwrap();
            assert!(bytes == content);
            assert_eq!(digest, Digest::of(&content));
            assert_eq!(compressed.unwrap(), Compressed { digest: Digest::of(&packed), bytes: packed.len() as u64 });
        }
    }

    #[test]
    fn truncated_and_foreign_streams_are_errors() {
        let packed = gzip(&vec![7; 100_000]);
        assert!(read_all(&packed[..packed.len() - 9]).0.is_err());
        let error = read_all(b"\xfd7zXZ\0rest").0.unwrap_err().to_string();
        assert!(error.contains("compressed with xz"), "{error}");
    }

    #[test]
    fn giving_up_early_ends_the_thread() {
        let packed = gzip(&vec![0; 50 << 20]);
        let ((), compressed) = inflate_ahead(&packed[..], drop);
        assert_eq!(compressed, None);
    }

    #[test]
    fn a_bomb_is_stopped_by_its_ratio() {
        assert!(check_size(RATIO_FREE_BYTES, 1).is_ok());
        assert!(check_size(RATIO_FREE_BYTES * 2, RATIO_FREE_BYTES * 2 / 1000).is_err());
        assert!(check_size(RATIO_FREE_BYTES * 2, RATIO_FREE_BYTES / 10).is_ok());
        assert!(check_size(BYTES_MAX, BYTES_MAX).is_ok() && check_size(BYTES_MAX + 1, BYTES_MAX).is_err());
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        io::copy(&mut io::repeat(0).take(RATIO_FREE_BYTES + (64 << 20)), &mut encoder).unwrap();
        let bomb = encoder.finish().unwrap();
        let error = io::copy(&mut Bounded::new(&bomb[..]).unwrap(), &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("decompression bomb"), "{error}");
        let error = copy_decompressed(io::Cursor::new(bomb), &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("decompression bomb"), "{error}");
    }

    #[test]
    fn no_stream_asks_for_more_memory_than_it_may() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        encoder.write_all(b"little").unwrap();
        let wide = encoder.finish().unwrap();
        assert!(read_all(&wide).0.is_err());
        assert!(copy_decompressed(io::Cursor::new(wide), &mut io::sink()).is_err());
        // The block header of an xz stream (its file format, 3.1): size, flags, filter, size of its properties, dictionary, padding, sum.
        let mut block = vec![0x02, 0x00, 0x21, 0x01, 40, 0, 0, 0];
        let mut sum = flate2::Crc::new();
        sum.update(&block);
        block.extend(sum.sum().to_le_bytes());
        let huge = [b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36", &block[..], &[0; 64]].concat();
        let error = copy_decompressed(io::Cursor::new(huge), &mut io::sink()).unwrap_err();
        assert!(error.to_string().to_lowercase().contains("mem"), "{error}");
    }
}
