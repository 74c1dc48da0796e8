//! Tar headers, read one entry at a time: ustar, PAX extensions, GNU long names, base-256 numbers and sparse files. Bounded; writes
//! nothing.
//!
//! The `tar` crate decodes the fields of a 512-byte header; extensions, sizes and skipping are done here, with limits.

use super::sparse::{self, HOLE_BYTES_MAX, Layout, Region, Stretch};
use super::{EXTENSION_BYTES_MAX, LayerError, after_entry};
use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::ops::Range;
use tar::EntryType;

const BLOCK: usize = 512;
/// Numeric fields of a header (pax(1), "ustar Interchange Format").
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MODIFIED: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
/// Says what an entry is. NUL is a file, as before POSIX, when a directory was one whose name ends with a slash.
const KIND: usize = 156;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded towards the past.
    pub seconds: i64,
    /// 0..1_000_000_000.
    pub nanoseconds: u32,
}

/// One entry of a tar stream; its data, if any, is read next.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Permission bits with set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    pub(crate) attributes: Vec<Attribute>,
}

/// Name and value of an extended attribute.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File { size: u64 },
    Directory,
    Symlink { target: Vec<u8> },
    HardLink { target: Vec<u8> },
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

/// Reads entries from a tar stream.
pub(crate) struct TarReader<R> {
    source: R,
    /// Bytes of the current entry's data not read yet, and the padding after them.
    data_left: u64,
    padding: u64,
    /// What is left of the current entry, if it is a sparse file.
    stretches: Option<VecDeque<Stretch>>,
    /// Bytes of holes so far.
    holes: u64,
    /// Bytes taken from the source so far.
    position: u64,
    last_name: Vec<u8>,
}

/// What extension headers said about the entry that follows them.
#[derive(Default)]
struct Extensions {
    bytes: u64,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Time>,
    attributes: Vec<Attribute>,
    sparse: sparse::Records,
}

/// A part of a file's content.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Bytes of the stream. Follow with [`TarReader::consume`].
    Bytes(&'a [u8]),
    /// So many zeros, which the stream leaves out.
    Hole(u64),
    /// There is no more.
    End,
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, data_left: 0, padding: 0, stretches: None, holes: 0, position: 0, last_name: Vec::new() }
    }

    /// The next entry, or `None` at the end of the archive. Data of the entry before that was not read is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip(self.data_left + self.padding)?;
        (self.data_left, self.padding, self.stretches) = (0, 0, None);
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let size = field(&header, SIZE).and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| self.bad(&header, "its size is not a number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let bytes = self.read_extension(&header, size, &mut extensions)?;
                    parse_pax(&bytes, &mut extensions).map_err(|problem| self.bad(&header, problem))?;
                }
                EntryType::XGlobalHeader => drop(self.read_extension(&header, size, &mut extensions)?),
                EntryType::GNULongName => extensions.name = Some(until_nul(self.read_extension(&header, size, &mut extensions)?)),
                EntryType::GNULongLink => extensions.target = Some(until_nul(self.read_extension(&header, size, &mut extensions)?)),
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// Where in the stream the reader stands: after [`Self::next`], the offset of the entry's data.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the current entry is a sparse file: then its data is not what stands at [`Self::position`].
    pub(crate) fn is_sparse(&self) -> bool {
        self.stretches.is_some()
    }

    /// Some more of the current entry's content.
    pub(crate) fn content(&mut self) -> Result<Content<'_>, LayerError> {
        let left = match &mut self.stretches {
            None => self.data_left,
            Some(stretches) => match stretches.pop_front() {
                None => 0,
                Some(Stretch::Hole(bytes)) => return Ok(Content::Hole(bytes)),
                Some(Stretch::Data(bytes)) => {
                    stretches.push_front(Stretch::Data(bytes));
                    bytes
                }
            },
        };
        if left == 0 {
            return Ok(Content::End);
        }
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        match self.source.fill_buf() {
            Ok([]) => Err(broken(&self.last_name, io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => Ok(Content::Bytes(&bytes[..bytes.len().min(limit)])),
            Err(error) => Err(broken(&self.last_name, error)),
        }
    }

    /// Takes `count` of the bytes that [`Self::content`] gave.
    pub(crate) fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.position += count as u64;
        self.data_left -= count as u64;
        if let Some(stretches) = &mut self.stretches
            && let Some(Stretch::Data(left)) = stretches.pop_front()
            && left > count as u64
        {
            stretches.push_front(Stretch::Data(left - count as u64));
        }
    }

    /// Reads what follows the end of the archive: it is part of the stream's digest.
    pub(crate) fn drain(mut self) -> Result<R, LayerError> {
        loop {
            let count = self.source.fill_buf().map_err(|error| broken(&self.last_name, error))?.len();
            if count == 0 {
                return Ok(self.source);
            }
            self.source.consume(count);
        }
    }

    /// A checked header, or `None` at the end: a block of zeros, or nothing more at all.
    fn read_header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block).clone();
        let summed = block.iter().enumerate().map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte });
        // Some of the first implementations took the bytes to be signed.
        let sums = summed.fold((0, 0), |(unsigned, signed), byte| (unsigned + i64::from(byte), signed + i64::from(byte as i8)));
        if !field(&header, CHECKSUM).is_some_and(|sum| sum == sums.0 || sum == sums.1) {
            let last = super::text(&self.last_name);
            return Err(LayerError::Format(format!("no tar header where one should be{}", after_entry(&last))));
        }
        Ok(Some(header))
    }

    /// The next block, or `None` at the end of the stream.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match io::Read::read(&mut self.source, &mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(broken(&self.last_name, io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&self.last_name, error)),
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    /// The whole data of an extension header.
    fn read_extension(&mut self, header: &tar::Header, size: u64, extensions: &mut Extensions) -> Result<Vec<u8>, LayerError> {
        self.count_extension(header, size.saturating_add(BLOCK as u64), extensions)?;
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| self.bad(header, "its extension header is too large"))?];
        io::Read::read_exact(&mut self.source, &mut bytes).map_err(|error| broken(&self.last_name, error))?;
        self.position += size;
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn count_extension(&self, header: &tar::Header, bytes: u64, extensions: &mut Extensions) -> Result<(), LayerError> {
        extensions.bytes = extensions.bytes.saturating_add(bytes);
        if extensions.bytes <= EXTENSION_BYTES_MAX {
            return Ok(());
        }
        Err(self.bad(header, format!("its extension headers are over {EXTENSION_BYTES_MAX} bytes")))
    }

    fn entry(&mut self, header: &tar::Header, size: u64, mut extensions: Extensions) -> Result<Entry, LayerError> {
        let name = extensions.sparse.name.take().or(extensions.name.take()).unwrap_or_else(|| header.path_bytes().into_owned());
        self.last_name.clone_from(&name);
        let refuse = |problem: &str| LayerError::refused(&name, problem);
        let target = || extensions.target.clone().or_else(|| header.link_name_bytes().map(|target| target.into_owned()));
        let device_number = |range| field(header, range).and_then(|number| u32::try_from(number).ok());
        let device = || match (device_number(DEVICE_MAJOR), device_number(DEVICE_MINOR)) {
            (Some(major), Some(minor)) if header.as_ustar().is_some() || header.as_gnu().is_some() => Ok((major, minor)),
            _ => Err(refuse("a device without numbers")),
        };
        let size = extensions.size.unwrap_or(size);
        let mut kind = match header.entry_type() {
            EntryType::Regular if header.as_bytes()[KIND] == 0 && name.ends_with(b"/") => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::File { size },
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink { target: target().ok_or_else(|| refuse("a link without a target"))? },
            EntryType::Link => EntryKind::HardLink { target: target().ok_or_else(|| refuse("a link without a target"))? },
            EntryType::Char => device().map(|(major, minor)| EntryKind::CharacterDevice { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
            EntryType::Fifo => EntryKind::Fifo,
            other => return Err(refuse(&format!("entries of type {:?} are not taken", char::from(other.as_byte())))),
        };
        // chown(2) reads all ones as "leave it": no id.
        let id = |extension: Option<u64>, range| {
            let id = extension.or_else(|| field(header, range).and_then(|id| u64::try_from(id).ok()));
            let id = id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
            id.ok_or_else(|| refuse("its owner is not a user or group id"))
        };
        let (uid, gid) = (id(extensions.uid, UID)?, id(extensions.gid, GID)?);
        let field_time = || field(header, MODIFIED).map(|seconds| Time { seconds, nanoseconds: 0 });
        let mode = field(header, MODE).ok_or_else(|| refuse("its mode is not a number"))?;
        let modified = extensions.modified.or_else(field_time).ok_or_else(|| refuse("its time is not a number"))?;
        let attributes = std::mem::take(&mut extensions.attributes);
        if let EntryKind::File { size } = &mut kind {
            (self.data_left, self.padding) = (*size, padding(*size));
            if let Some(layout) = self.sparse_layout(header, extensions)? {
                *size = layout.size;
                self.stretches = Some(layout.stretches);
            }
        }
        Ok(Entry { name, kind, mode: (mode & 0o7777) as u32, uid, gid, modified, attributes })
    }

    /// How the data of a sparse file lies in it; `None` of any other file. A map that stands before the data is read.
    fn sparse_layout(&mut self, header: &tar::Header, mut extensions: Extensions) -> Result<Option<Layout>, LayerError> {
        let refuse = |problem| LayerError::refused(&header.path_bytes(), problem);
        let layout = if header.entry_type() == EntryType::GNUSparse {
            let (mut regions, mut continued) = sparse::of_header(header.as_bytes()).map_err(refuse)?;
            while continued {
                self.count_extension(header, BLOCK as u64, &mut extensions)?;
                let block = self.read_block()?.ok_or_else(|| broken(&self.last_name, io::ErrorKind::UnexpectedEof.into()))?;
                let (further, more) = sparse::of_block(&block).map_err(refuse)?;
                regions.extend(further);
                continued = more;
            }
            let size = sparse::size_of_header(header.as_bytes()).map_err(refuse)?;
            sparse::layout(&regions, size, self.data_left).map_err(refuse)?
        } else if extensions.sparse.are_of_a_sparse_file() {
            let in_data = if extensions.sparse.map_is_in_the_data() { Some(self.read_map(header, &mut extensions)?) } else { None };
            extensions.sparse.layout(in_data, self.data_left).map_err(refuse)?
        } else {
            return Ok(None);
        };
        let holes = layout.size - self.data_left.min(layout.size);
        self.holes = self.holes.saturating_add(holes);
        if self.holes > HOLE_BYTES_MAX {
            return Err(LayerError::Limit(format!("its sparse files have more than {HOLE_BYTES_MAX} bytes of holes")));
        }
        Ok(Some(layout))
    }

    /// The map before the data of a sparse file, which fills whole blocks.
    fn read_map(&mut self, header: &tar::Header, extensions: &mut Extensions) -> Result<Vec<Region>, LayerError> {
        let refuse = |problem| LayerError::refused(&header.path_bytes(), problem);
        let mut map = sparse::MapInData::default();
        loop {
            self.count_extension(header, BLOCK as u64, extensions)?;
            let left = self.data_left.checked_sub(BLOCK as u64).ok_or("its map of a sparse file is broken").map_err(refuse)?;
            let block = self.read_block()?.ok_or_else(|| broken(&self.last_name, io::ErrorKind::UnexpectedEof.into()))?;
            self.data_left = left;
            if let Some(regions) = map.take(&block).map_err(refuse)? {
                return Ok(regions);
            }
        }
    }

    fn skip(&mut self, mut count: u64) -> Result<(), LayerError> {
        while count > 0 {
            let available = self.source.fill_buf().map_err(|error| broken(&self.last_name, error))?.len();
            if available == 0 {
                return Err(broken(&self.last_name, io::ErrorKind::UnexpectedEof.into()));
            }
            let step = available.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.source.consume(step);
            self.position += step as u64;
            count -= step as u64;
        }
        Ok(())
    }

    fn bad(&self, header: &tar::Header, problem: impl Into<String>) -> LayerError {
        LayerError::refused(&header.path_bytes(), problem)
    }
}

fn field(header: &tar::Header, range: Range<usize>) -> Option<i64> {
    number_field(&header.as_bytes()[range])
}

/// A numeric field: octal digits, nothing at all (zero, as Go and GNU tar read it), or GNU's base-256 with its first bit set.
pub(super) fn number_field(bytes: &[u8]) -> Option<i64> {
    if bytes[0] & 0x80 != 0 {
        // Two's complement in the bits below the mark.
        let first = i128::from(bytes[0] & 0x7f) - if bytes[0] & 0x40 != 0 { 0x80 } else { 0 };
        let number = bytes[1..].iter().fold(first, |number, byte| number << 8 | i128::from(*byte));
        return i64::try_from(number).ok();
    }
    let digits = bytes.split(|byte| *byte == 0).find(|digits| !digits.is_empty()).unwrap_or_default().trim_ascii();
    let octal = |number: i64, digit: &u8| (b'0'..=b'7').contains(digit).then(|| number << 3 | i64::from(digit - b'0'));
    digits.iter().try_fold(0, octal)
}

fn broken(after: &[u8], source: io::Error) -> LayerError {
    LayerError::Read { after: super::text(after), source }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads PAX records, `<length> <key>=<value>\n` each (pax(1), "pax Extended Header").
fn parse_pax(mut bytes: &[u8], extensions: &mut Extensions) -> Result<(), &'static str> {
    const BROKEN: &str = "its PAX header is broken";
    while !bytes.is_empty() && bytes[0] != 0 {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(BROKEN)?;
        let length: usize = number(&bytes[..space]).and_then(|length| length.try_into().ok()).ok_or(BROKEN)?;
        let record = bytes.get(space + 1..length).ok_or(BROKEN)?.strip_suffix(b"\n").ok_or(BROKEN)?;
        bytes = &bytes[length..];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(BROKEN)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extensions.name = Some(value.to_vec()),
            b"linkpath" => extensions.target = Some(value.to_vec()),
            b"size" => extensions.size = Some(number(value).ok_or(BROKEN)?),
            b"uid" => extensions.uid = Some(number(value).ok_or(BROKEN)?),
            b"gid" => extensions.gid = Some(number(value).ok_or(BROKEN)?),
            b"mtime" => extensions.modified = Some(parse_time(value).ok_or(BROKEN)?),
            key => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    extensions.sparse.take(key, value)?;
                } else if let Some(name) = key.strip_prefix(ATTRIBUTE_PREFIX) {
                    extensions.attributes.push((attribute_name(name), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// Begins the PAX keys of extended attributes; star's invention, which everybody took.
const ATTRIBUTE_PREFIX: &[u8] = b"SCHILY.xattr.";
/// What cannot stand in a key, since it ends one, and what it is written by, as GNU tar does.
const ESCAPES: [(u8, &[u8]); 2] = [(b'%', b"%25"), (b'=', b"%3D")];

/// The PAX key of an extended attribute.
pub(super) fn attribute_key(name: &[u8]) -> Vec<u8> {
    let mut key = ATTRIBUTE_PREFIX.to_vec();
    for byte in name {
        match ESCAPES.iter().find(|(escaped, _)| escaped == byte) {
            Some((_, escape)) => key.extend_from_slice(escape),
            None => key.push(*byte),
        }
    }
    key
}

/// The extended attribute of a PAX key.
fn attribute_name(mut key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    while let Some((first, rest)) = key.split_first() {
        let escape = ESCAPES.iter().find(|(_, escape)| key.starts_with(escape));
        name.push(escape.map_or(*first, |(escaped, _)| *escaped));
        key = escape.map_or(rest, |(_, escape)| &key[escape.len()..]);
    }
    name
}

/// Decimal digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// `[-]seconds[.fraction]`, the fraction cut at nanoseconds.
fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = text.strip_prefix(b"-").map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = i64::try_from(number(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0;
    for place in 0..9 {
        nanoseconds = nanoseconds * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let time = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        for (text, expected) in [
            ("0", time(0, 0)),
            ("12.5", time(12, 500_000_000)),
            ("12.0000000019", time(12, 1)),
            ("-1.25", time(-2, 750_000_000)),
            ("-3", time(-3, 0)),
            ("", None),
            ("1e3", None),
            ("1.x", None),
        ] {
            assert_eq!(parse_time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn numeric_fields() {
        let read = |bytes: &[u8]| {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes()[SIZE][..bytes.len()].copy_from_slice(bytes);
            field(&header, SIZE)
        };
        assert_eq!(read(b""), Some(0));
        assert_eq!(read(b"0000644\0"), Some(0o644));
        assert_eq!(read(b"   17 \0"), Some(0o17));
        assert_eq!(read(b"77777777777"), Some(0o77_777_777_777));
        assert_eq!(read(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(0x2_0000_0000));
        assert_eq!(read(&[0xff; 12]), Some(-1));
        assert_eq!(read(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(read(b"12x"), None);
    }

    #[test]
    fn broken_pax_records_are_refused() {
        for text in ["9 path=x", "x path=a\n", "999 path=a\n", "6 path\n", "0 a=b\n", "1 a=b\n", "11 size=-1\n"] {
            assert!(parse_pax(text.as_bytes(), &mut Extensions::default()).is_err(), "{text:?}");
        }
        let mut extensions = Extensions::default();
        parse_pax(b"8 uid=7\n29 SCHILY.xattr.user.a=x=y\nz\n", &mut extensions).unwrap();
        assert_eq!(extensions.uid, Some(7));
        assert_eq!(extensions.attributes, [(b"user.a".to_vec(), b"x=y\nz".to_vec())]);
    }

    #[test]
    fn an_endless_extension_header_is_refused_before_it_is_read() {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(8 << 30);
        header.set_cksum();
        let error = TarReader::new(&header.as_bytes()[..]).next().unwrap_err();
        assert!(error.to_string().contains("extension headers are over"), "{error}");
    }
}
