//! Sparse files in tar streams: GNU tar's own header type and the three ways in which it writes them with PAX records (GNU tar manual,
//! "Storing Sparse Files"). Holes are told apart from data, so that whoever unpacks can leave them holes. Reads nothing itself.

use std::collections::VecDeque;

/// Most bytes of holes in the files of one layer: they take no disk, but whoever reads the layer reads them.
pub(super) const HOLE_BYTES_MAX: u64 = 16 << 30;

const BLOCK: usize = 512;
/// Where a GNU header has its first regions, whether a block of further ones follows, and the size of the whole file.
const HEADER_REGIONS: std::ops::Range<usize> = 386..482;
const HEADER_CONTINUED: usize = 482;
const HEADER_SIZE: std::ops::Range<usize> = 483..495;
/// The same of a block of further regions.
const BLOCK_REGIONS: std::ops::Range<usize> = 0..504;
const BLOCK_CONTINUED: usize = 504;
/// Two numeric fields make a region.
const FIELD: usize = 12;
/// Digits of the largest number there is.
const DIGITS_MAX: usize = 20;

const BROKEN: &str = "its map of a sparse file is broken";

/// What PAX records say of the file that follows. Versions 0.0 and 0.1 say where its data is, 1.0 only that the data begins with that.
#[derive(Default)]
pub(super) struct Records {
    /// Whether there was any.
    any: bool,
    major: Option<u64>,
    /// Its name; that of the entry is made up, in 0.1 and 1.0.
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    regions: Vec<Region>,
    /// The beginning of a region whose length follows in the next record.
    offset: Option<u64>,
}

/// A stretch of a file whose data is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    start: u64,
    length: u64,
}

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Zeros that are nowhere in the stream.
    Hole(u64),
    /// As many bytes of the stream.
    Data(u64),
}

/// A sparse file from its beginning to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) size: u64,
    pub(super) stretches: VecDeque<Stretch>,
}

impl Records {
    /// Takes a record whose key begins with `GNU.sparse.`, without that.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        self.any = true;
        let value_number = || number(value).ok_or(BROKEN);
        match key {
            b"major" => self.major = Some(value_number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(value_number()?),
            b"offset" => self.offset = Some(value_number()?),
            b"numbytes" => {
                let start = self.offset.take().ok_or(BROKEN)?;
                self.regions.push(Region { start, length: value_number()? });
            }
            b"map" => self.regions = regions(value.split(|byte| *byte == b','))?,
            _ => {} // the minor version, and how many regions there are
        }
        Ok(())
    }

    /// Whether the entry is a sparse file at all.
    pub(super) fn are_of_a_sparse_file(&self) -> bool {
        self.any
    }

    /// Whether the data begins with the map.
    pub(super) fn map_is_in_the_data(&self) -> bool {
        self.major == Some(1)
    }

    /// The file with the regions that were read from its data or stood in the records, of which the stream has so many bytes.
    pub(super) fn layout(self, in_data: Option<Vec<Region>>, data: u64) -> Result<Layout, &'static str> {
        layout(&in_data.unwrap_or(self.regions), self.size.ok_or("a sparse file without its size")?, data)
    }
}

/// The regions of a GNU header, and whether a block of further ones follows.
pub(super) fn of_header(header: &[u8; BLOCK]) -> Result<(Vec<Region>, bool), &'static str> {
    Ok((fields(&header[HEADER_REGIONS])?, header[HEADER_CONTINUED] != 0))
}

/// The size of the file of a GNU header.
pub(super) fn size_of_header(header: &[u8; BLOCK]) -> Result<u64, &'static str> {
    field(&header[HEADER_SIZE])
}

/// As [`of_header`], of a block that follows it.
pub(super) fn of_block(block: &[u8; BLOCK]) -> Result<(Vec<Region>, bool), &'static str> {
    Ok((fields(&block[BLOCK_REGIONS])?, block[BLOCK_CONTINUED] != 0))
}

/// A map that stands before the data: how many regions, then their numbers, a line each.
#[derive(Default)]
pub(super) struct MapInData {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl MapInData {
    /// Takes some more of the data; the regions, once they are complete. What follows them up to the end of the block is padding.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<Option<Vec<Region>>, &'static str> {
        for byte in data {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > DIGITS_MAX {
                    return Err(BROKEN);
                }
                continue;
            }
            self.numbers.push(number(&self.digits).ok_or(BROKEN)?);
            self.digits.clear();
            let wanted = self.numbers[0].checked_mul(2).ok_or(BROKEN)?;
            if self.numbers.len() as u64 - 1 == wanted {
                let pairs = self.numbers[1..].chunks_exact(2);
                return Ok(Some(pairs.map(|pair| Region { start: pair[0], length: pair[1] }).collect()));
            }
        }
        Ok(None)
    }
}

/// The stretches of a file of this size. Refused: regions out of order, on top of each other or past the end, and data that is not all theirs.
pub(super) fn layout(regions: &[Region], size: u64, data: u64) -> Result<Layout, &'static str> {
    let (mut stretches, mut position, mut known) = (VecDeque::new(), 0_u64, 0_u64);
    for region in regions {
        let end = region.start.checked_add(region.length).filter(|end| *end <= size).ok_or(BROKEN)?;
        let gap = region.start.checked_sub(position).ok_or(BROKEN)?;
        stretches.extend([Stretch::Hole(gap), Stretch::Data(region.length)]);
        (position, known) = (end, known + region.length);
    }
    if known != data {
        return Err(BROKEN);
    }
    stretches.push_back(Stretch::Hole(size - position));
    stretches.retain(|stretch| !matches!(stretch, Stretch::Hole(0) | Stretch::Data(0)));
    Ok(Layout { size, stretches })
}

fn regions<'a>(mut numbers: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Region>, &'static str> {
    let mut regions = Vec::new();
    while let Some(start) = numbers.next() {
        let (start, length) = (number(start).ok_or(BROKEN)?, numbers.next().and_then(number).ok_or(BROKEN)?);
        regions.push(Region { start, length });
    }
    Ok(regions)
}

/// Regions in pairs of fields; the first that is empty ends them.
fn fields(bytes: &[u8]) -> Result<Vec<Region>, &'static str> {
    let pairs = bytes.chunks_exact(2 * FIELD).take_while(|pair| pair[0] != 0);
    pairs.map(|pair| Ok(Region { start: field(&pair[..FIELD])?, length: field(&pair[FIELD..])? })).collect()
}

fn field(bytes: &[u8]) -> Result<u64, &'static str> {
    super::header::number_field(bytes).and_then(|number| u64::try_from(number).ok()).ok_or(BROKEN)
}

fn number(digits: &[u8]) -> Option<u64> {
    super::header::number(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stretch::{Data, Hole};

    #[test]
    fn regions_become_data_and_what_lies_between_them_holes() {
        let region = |start, length| Region { start, length };
        let of = |regions: &[Region], size, data| layout(regions, size, data).map(|layout| Vec::from(layout.stretches));
        assert_eq!(of(&[], 0, 0), Ok(vec![]));
        assert_eq!(of(&[region(9, 0)], 9, 0), Ok(vec![Hole(9)]));
        assert_eq!(of(&[region(0, 4), region(6, 2)], 9, 6), Ok(vec![Data(4), Hole(2), Data(2), Hole(1)]));
        for (regions, size, data) in [
            (&[region(4, 4), region(0, 4)][..], 9, 8),
            (&[region(0, 4), region(3, 4)], 9, 8),
            (&[region(0, 4)], 3, 4),
            (&[region(0, 4)], 9, 5),
            (&[region(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert_eq!(of(regions, size, data), Err(BROKEN), "{regions:?}");
        }
    }

    #[test]
    fn a_map_before_the_data_is_read_line_by_line() {
        let read = |parts: &[&[u8]]| {
            let mut map = MapInData::default();
            parts.iter().map(|part| map.take(part)).last().unwrap()
        };
        assert_eq!(read(&[b""]), Ok(None));
        assert_eq!(read(&[b"2\n0\n5\n10"]), Ok(None));
        assert_eq!(read(&[b"1\n", b"0\n1", b"5\n\0\0"]), Ok(Some(vec![Region { start: 0, length: 15 }])));
        assert_eq!(read(&[b"0\n\0\0"]), Ok(Some(vec![])));
        for broken in [&b"x\n"[..], b"-1\n", b"1\n0\nx\n", b"99999999999999999999\n", &[b'1'; 99]] {
            assert_eq!(read(&[broken]), Err(BROKEN), "{broken:?}");
        }
    }
}
