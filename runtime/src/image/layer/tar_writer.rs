//! Tar entries, written so that equal entries are equal bytes: POSIX ustar, PAX records only where a field does not fit.
//!
//! No user or group names, no access or change times, no padding beyond the two blocks that end an archive.

use super::header::{Entry, EntryKind, Time};
use std::io::{self, Write};
use tar::EntryType;

const BLOCK: usize = 512;
/// Largest number in an 11-digit and a 7-digit octal field.
const OCTAL_11_MAX: u64 = 0o77_777_777_777;
const OCTAL_7_MAX: u32 = 0o7_777_777;
/// Longest name in its field.
const NAME_FIELD_BYTES: usize = 100;

pub(super) struct TarWriter<W> {
    sink: W,
    /// Zeros owed after the current file's data.
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, padding: 0 }
    }

    /// Writes an entry's header. For a file its data follows, by [`Self::data`], exactly as many bytes as announced.
    pub(super) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_data()?;
        let records = pax_records(entry);
        if !records.is_empty() {
            let mut header = tar::Header::new_ustar();
            set_name(&mut header, b"PaxHeader");
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            header.set_size(records.len() as u64);
            header.set_cksum();
            self.sink.write_all(header.as_bytes())?;
            self.sink.write_all(&records)?;
            self.padding = padding(records.len() as u64);
            self.end_data()?;
        }
        self.sink.write_all(header(entry)?.as_bytes())?;
        if let EntryKind::File { size } = entry.kind {
            self.padding = padding(size);
        }
        Ok(())
    }

    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)
    }

    pub(super) fn sink(&mut self) -> &mut W {
        &mut self.sink
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end_data()?;
        self.sink.write_all(&[0; 2 * BLOCK])?;
        Ok(self.sink)
    }

    fn end_data(&mut self) -> io::Result<()> {
        let zeros = std::mem::take(&mut self.padding);
        self.sink.write_all(&[0; BLOCK][..zeros])
    }
}

fn header(entry: &Entry) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    set_name(&mut header, &entry.name);
    header.set_mode(entry.mode);
    header.set_uid(u64::from(if entry.uid > OCTAL_7_MAX { 0 } else { entry.uid }));
    header.set_gid(u64::from(if entry.gid > OCTAL_7_MAX { 0 } else { entry.gid }));
    header.set_mtime(u64::try_from(entry.modified.seconds).ok().filter(|seconds| *seconds <= OCTAL_11_MAX).unwrap_or(0));
    header.set_size(0);
    match &entry.kind {
        EntryKind::File { size } => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(if *size > OCTAL_11_MAX { 0 } else { *size });
        }
        EntryKind::Directory => header.set_entry_type(EntryType::Directory),
        EntryKind::Symlink { target } => {
            header.set_entry_type(EntryType::Symlink);
            set_target(&mut header, target);
        }
        EntryKind::HardLink { target } => {
            header.set_entry_type(EntryType::Link);
            set_target(&mut header, target);
        }
        EntryKind::CharacterDevice { major, minor } => set_device(&mut header, EntryType::Char, *major, *minor)?,
        EntryKind::BlockDevice { major, minor } => set_device(&mut header, EntryType::Block, *major, *minor)?,
        EntryKind::Fifo => header.set_entry_type(EntryType::Fifo),
    }
    header.set_cksum();
    Ok(header)
}

/// What does not fit the header, sorted by key.
fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
    if entry.name.len() > NAME_FIELD_BYTES {
        add("path", entry.name.clone());
    }
    if let EntryKind::Symlink { target } | EntryKind::HardLink { target } = &entry.kind
        && target.len() > NAME_FIELD_BYTES
    {
        add("linkpath", target.clone());
    }
    if let EntryKind::File { size } = entry.kind
        && size > OCTAL_11_MAX
    {
        add("size", size.to_string().into_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id > OCTAL_7_MAX {
            add(key, id.to_string().into_bytes());
        }
    }
    let fits = u64::try_from(entry.modified.seconds).is_ok_and(|seconds| seconds <= OCTAL_11_MAX);
    if entry.modified.nanoseconds != 0 || !fits {
        add("mtime", decimal(entry.modified).into_bytes());
    }
    records.extend(entry.attributes.iter().map(|(name, value)| (super::header::attribute_key(name), value.clone())));
    records.sort();
    records.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// `<length> <key>=<value>\n`, the length counting its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

fn decimal(time: Time) -> String {
    match (time.seconds, time.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds @ 0.., nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
        (seconds, nanoseconds) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// The field takes any bytes; a longer name is cut and stands in a PAX record.
fn set_name(header: &mut tar::Header, name: &[u8]) {
    let field = &mut header.as_old_mut().name;
    let fitting = &name[..name.len().min(NAME_FIELD_BYTES)];
    field[..fitting.len()].copy_from_slice(fitting);
}

fn set_target(header: &mut tar::Header, target: &[u8]) {
    let field = &mut header.as_old_mut().linkname;
    let fitting = &target[..target.len().min(NAME_FIELD_BYTES)];
    field[..fitting.len()].copy_from_slice(fitting);
}

fn set_device(header: &mut tar::Header, kind: EntryType, major: u32, minor: u32) -> io::Result<()> {
    header.set_entry_type(kind);
    header.set_device_major(major)?;
    header.set_device_minor(minor)
}

fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::super::header::TarReader;
    use super::*;

    fn entry(name: &[u8], kind: EntryKind, modified: Time) -> Entry {
        let attributes = vec![(b"user.note".to_vec(), b"a=b\n\0".to_vec())];
        Entry { name: name.to_vec(), kind, mode: 0o4755, uid: 3_000_000, gid: 7, modified, attributes }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = [b'n'; 180];
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        let entries = [
            entry(b"file", EntryKind::File { size: 3 }, time(-5, 250_000_000)),
            entry(&long, EntryKind::Symlink { target: vec![b't'; 101] }, time(1 << 40, 0)),
            entry(b"\xff\xfe", EntryKind::CharacterDevice { major: 5, minor: 1 }, time(-1, 0)),
            entry(b"dir/", EntryKind::Directory, time(7, 9)),
        ];
        let mut writer = TarWriter::new(Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            writer.entry(entry).unwrap();
            if at == 0 {
                writer.data(b"abc").unwrap();
            }
        }
        let bytes = writer.finish().unwrap();
        let mut reader = TarReader::new(&bytes[..]);
        for entry in &entries {
            let read = reader.next().unwrap().unwrap();
            assert_eq!(format!("{read:?}"), format!("{entry:?}"));
        }
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for size in [1, 5, 6, 7, 94, 95, 96, 97, 989, 990, 991] {
            let record = record(b"k", &vec![b'x'; size]);
            let digits: Vec<u8> = record.iter().copied().take_while(u8::is_ascii_digit).collect();
            assert_eq!(String::from_utf8(digits).unwrap(), record.len().to_string());
        }
    }
}
