//! Byte streams of layers: decompression by content, with an end to what it may come to.

use super::{BYTES_MAX, RATIO_FREE_BYTES, RATIO_MAX};
use spec::value::Digest;
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

/// Read and copied at a time.
const CHUNK_BYTES: usize = 256 << 10;
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

/// Reads until the buffer is full or the source ends or fails; returns how many bytes came.
pub(super) fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

/// A decompressor chosen by content.
enum Decoder<R: BufRead> {
    Plain(Counted<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Counted<R>>>),
    Zstd(zstd::Decoder<'static, Counted<R>>),
}

impl<R: BufRead> Decoder<R> {
    fn new(mut source: R) -> io::Result<Self> {
        let compression = Compression::detect(source.fill_buf()?)?;
        let source = Counted { source, bytes: 0 };
        Ok(match compression {
            Compression::None => Self::Plain(source),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Self::Zstd(decoder)
            }
        })
    }

    /// Compressed bytes used so far.
    fn compressed_bytes(&self) -> u64 {
        match self {
            Self::Plain(source) => source.bytes,
            Self::Gzip(decoder) => decoder.get_ref().bytes,
            Self::Zstd(decoder) => decoder.get_ref().bytes,
        }
    }

    /// The source, wherever the compressed data ended in it.
    fn into_source(self) -> R {
        let counted = match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        };
        counted.source
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Counts what is used.
struct Counted<R> {
    source: R,
    bytes: u64,
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.bytes += count as u64;
        self.source.consume(count);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// The content of a layer's stream. Ends with an error where a layer would be refused.
pub(crate) struct Bounded<R: BufRead> {
    decoder: Decoder<R>,
    total: u64,
}

impl<R: BufRead> Bounded<R> {
    /// Reads the first bytes, which tell the compression.
    pub(crate) fn new(source: R) -> io::Result<Self> {
        Ok(Self { decoder: Decoder::new(source)?, total: 0 })
    }

    /// The source, wherever the content ended in it.
    pub(super) fn into_source(self) -> R {
        self.decoder.into_source()
    }
}

impl<R: BufRead> Read for Bounded<R> {
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
        let (count, outcome) = read_full(&mut content, &mut chunk);
        outcome?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
        assert!(io::copy(&mut Bounded::new(&wide[..]).unwrap(), &mut io::sink()).is_err());
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
