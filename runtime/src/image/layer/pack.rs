//! A directory in overlay format becomes a layer's tar stream: the same tree gives the same bytes, always.
//!
//! Order: depth first, the names of each directory sorted by their bytes, the opaque marker first. The root has an entry only where it
//! differs from mode 0755, owner 0:0. Times follow [`Times`]; whiteouts and markers have time 0. Sockets are left out.

use super::header::{Attribute, Entry, EntryKind, Time};
use super::ids;
use super::name::join;
use super::root::timestamps;
use super::tar_writer::TarWriter;
use super::{DEPTH_MAX, ENTRIES_MAX, LayerError, OPAQUE_MARKER, PATH_BYTES_MAX, WHITEOUT_PREFIX, is_portable_attribute};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 << 10;
/// Attributes by which overlayfs keeps its own books in an upper directory; they mean nothing in a lower one.
const OVERLAY_BOOKKEEPING: [&[u8]; 4] = [b"origin", b"impure", b"nlink", b"uuid"];

/// Enough for the attributes of nearly every file.
const ATTRIBUTE_BYTES: usize = 512;
/// Most bytes of one file's attribute names or of one value: the kernel's own limits, xattr(7).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// 1980-01-02T00:00:00Z: the time of everything in a reproducible layer unless a build says another. Not 1970, because zip archives
/// (Python wheels among them) cannot hold times before 1980 in any time zone.
pub const EPOCH: Time = Time { seconds: 315_619_200, nanoseconds: 0 };

/// Which modification times a layer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Those of the files, to the nanosecond.
    Keep,
    /// Those of the files, but none after this many seconds since 1970: `SOURCE_DATE_EPOCH`.
    NotAfter(i64),
}

impl Default for Times {
    /// The same input gives the same layer on any day: nothing is after [`EPOCH`].
    fn default() -> Self {
        Self::NotAfter(EPOCH.seconds)
    }
}

impl Times {
    fn of(self, stat: &Stat) -> Time {
        let time = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        match self {
            Self::NotAfter(seconds) => time.min(Time { seconds, nanoseconds: 0 }),
            Self::Keep => time,
        }
    }
}

/// Whether the files themselves are given the times that the stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisk {
    /// Yes: what is kept is then what unpacking the stream would give.
    Settle,
    /// No: nothing is changed.
    Leave,
}

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of all files, each hard-linked one once.
    pub size_bytes: u64,
    /// Entries, whiteouts included; 0 for a step that changed nothing.
    pub entries: u64,
}

/// A layer's stream as its entries come, counted.
pub(crate) struct LayerStream<W> {
    tar: TarWriter<W>,
    packed: Packed,
}

impl<W: Write> LayerStream<W> {
    /// A stream into this sink.
    pub(crate) fn new(sink: W) -> Self {
        Self { tar: TarWriter::new(sink), packed: Packed { size_bytes: 0, entries: 0 } }
    }

    /// Writes an entry; the bytes of a file follow, exactly as many as announced.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.packed.entries += 1;
        if self.packed.entries > ENTRIES_MAX {
            return Err(LayerError::Limit(format!("more than {ENTRIES_MAX} entries")));
        }
        if let EntryKind::File { size } = entry.kind {
            self.packed.size_bytes += size;
        }
        self.tar.entry(entry).map_err(LayerError::system("write the entry", &entry.name))
    }

    /// Writes bytes of the file that was announced last.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.tar.data(bytes).map_err(LayerError::system("write", b""))
    }

    /// The sink, for bytes of the file that was announced last: exactly as many as announced.
    pub(crate) fn sink(&mut self) -> &mut W {
        self.tar.sink()
    }

    /// Writes the end; what was written, and the sink.
    pub(crate) fn finish(self) -> Result<(Packed, W), LayerError> {
        Ok((self.packed, self.tar.finish().map_err(LayerError::system("write the end", b""))?))
    }
}

/// Writes the tree below `root` as a tar stream. Nobody else may change the tree meanwhile.
///
/// Refused: names that begin with `.wh.` (a layer cannot say them), trees deeper than [`DEPTH_MAX`], and attributes of overlay
/// mounts that were not made for layers (`redirect_dir`, `metacopy`).
pub fn pack(root: &OwnedFd, times: Times, on_disk: OnDisk, sink: impl Write) -> Result<Packed, LayerError> {
    pack_all(root, times, on_disk, None, sink)
}

/// As [`pack`], for a tree whose files have the ids that a user namespace gives them on the host: `ids` are its own, from 0 inside.
/// Nothing is changed. Refused: files of anybody else.
pub fn pack_inside(root: &OwnedFd, ids: Range<u32>, times: Times, sink: impl Write) -> Result<Packed, LayerError> {
    pack_all(root, times, OnDisk::Leave, Some(ids), sink)
}

fn pack_all(root: &OwnedFd, times: Times, on_disk: OnDisk, ids: Option<Range<u32>>, sink: impl Write) -> Result<Packed, LayerError> {
    let stream = LayerStream::new(sink);
    let mut packing = Packing { stream, times, on_disk, ids, links: BTreeMap::new(), buffer: vec![0; READ_BYTES] };
    let stat = rustix::fs::fstat(root).map_err(LayerError::system("stat", b"."))?;
    let found = attributes(root, b".")?;
    let entry = packing.describe(b"./".to_vec(), &stat, EntryKind::Directory, found.portable)?;
    if (entry.mode, entry.uid, entry.gid) != (0o755, 0, 0) || !entry.attributes.is_empty() {
        packing.write(&entry)?;
    }
    packing.directory(root, b"", found.opaque, 0)?;
    packing.settle(root, &stat, b".")?;
    Ok(packing.stream.finish()?.0)
}

struct Packing<W> {
    stream: LayerStream<W>,
    times: Times,
    on_disk: OnDisk,
    /// Those of the user namespace that the files are of.
    ids: Option<Range<u32>>,
    /// First name of each file that has several, and its attributes: whoever unpacks gives a link what its entry says, too.
    links: BTreeMap<(u64, u64), (Vec<u8>, Vec<Attribute>)>,
    buffer: Vec<u8>,
}

impl<W: Write> Packing<W> {
    /// Writes what is in a directory whose own entry is written.
    fn directory(&mut self, directory: &OwnedFd, path: &[u8], opaque: bool, depth: usize) -> Result<(), LayerError> {
        if depth > DEPTH_MAX {
            return Err(LayerError::refused(path, format!("it is more than {DEPTH_MAX} directories deep")));
        }
        if opaque {
            self.write(&marker(join(path, OPAQUE_MARKER)))?;
        }
        for name in sorted_names(directory).map_err(LayerError::system("list", path))? {
            self.name(directory, path, &name, depth)?;
        }
        Ok(())
    }

    fn name(&mut self, parent: &OwnedFd, parent_path: &[u8], name: &[u8], depth: usize) -> Result<(), LayerError> {
        let path = join(parent_path, name);
        if path.len() > PATH_BYTES_MAX {
            return Err(LayerError::refused(&path, format!("its path is longer than {PATH_BYTES_MAX} bytes, which nobody could unpack")));
        }
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(LayerError::system("stat", &path))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        if kind == FileType::CharacterDevice && device == (0, 0) {
            return self.write(&marker(join(parent_path, &[WHITEOUT_PREFIX, name].concat())));
        }
        if name.starts_with(WHITEOUT_PREFIX) {
            return Err(LayerError::refused(&path, "a layer cannot hold a name that begins with .wh."));
        }
        if kind == FileType::Socket {
            return Ok(()); // only its listener gave it meaning
        }
        if kind == FileType::Directory { self.subdirectory(parent, name, path, &stat, depth) } else { self.leaf(parent, name, path, &stat) }
    }

    fn subdirectory(&mut self, parent: &OwnedFd, name: &[u8], path: Vec<u8>, stat: &Stat, depth: usize) -> Result<(), LayerError> {
        let directory = open(parent, name, OFlags::DIRECTORY, &path)?;
        let opaque = self.announce(&directory, &path, stat)?;
        self.directory(&directory, &path, opaque, depth + 1)?;
        self.settle(&directory, stat, &path)
    }

    /// Writes the entry of a directory; whether it is opaque.
    fn announce(&mut self, directory: &OwnedFd, path: &[u8], stat: &Stat) -> Result<bool, LayerError> {
        let found = attributes(directory, path)?;
        self.write(&self.describe([path, &b"/"[..]].concat(), stat, EntryKind::Directory, found.portable)?)?;
        Ok(found.opaque)
    }

    /// Writes what is no directory. Apart from them, so that the recursion through directories takes little of the stack.
    fn leaf(&mut self, parent: &OwnedFd, name: &[u8], path: Vec<u8>, stat: &Stat) -> Result<(), LayerError> {
        if stat.st_nlink > 1 {
            if let Some((target, attributes)) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let kind = EntryKind::HardLink { target: target.clone() };
                return self.write(&self.describe(path, stat, kind, attributes.clone())?);
            }
            self.links.insert((stat.st_dev, stat.st_ino), (path.clone(), Vec::new()));
        }
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(parent, name, path, stat),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(LayerError::system("read the link", &path))?;
                EntryKind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice => EntryKind::CharacterDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Directory | FileType::Socket | FileType::Unknown => return Err(LayerError::refused(&path, "it is of no known type")),
        };
        let entry = self.describe(path, stat, kind, Vec::new())?;
        self.node(parent, name, stat, &entry)
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], path: Vec<u8>, stat: &Stat) -> Result<(), LayerError> {
        let file = open(parent, name, OFlags::empty(), &path)?;
        let found = attributes(&file, &path)?;
        if let Some((_, attributes)) = self.links.get_mut(&(stat.st_dev, stat.st_ino)) {
            attributes.clone_from(&found.portable);
        }
        let size = stat.st_size as u64;
        self.write(&self.describe(path.clone(), stat, EntryKind::File { size }, found.portable)?)?;
        let mut file = File::from(file);
        let mut left = size;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut self.buffer[..wanted]).map_err(LayerError::system("read", &path))?;
            if count == 0 {
                return Err(LayerError::refused(&path, "it shrank while it was read"));
            }
            self.stream.data(&self.buffer[..count])?;
            left -= count as u64;
        }
        self.settle(&file, stat, &path)
    }

    /// Writes an entry without data and settles the time of what it describes, by name because it cannot be opened.
    fn node(&mut self, parent: &OwnedFd, name: &[u8], stat: &Stat, entry: &Entry) -> Result<(), LayerError> {
        self.write(entry)?;
        if self.on_disk == OnDisk::Settle && entry.modified != Times::Keep.of(stat) {
            let set = rustix::fs::utimensat(parent, name, &timestamps(entry.modified), AtFlags::SYMLINK_NOFOLLOW);
            set.map_err(LayerError::system("set the times of", &entry.name))?;
        }
        Ok(())
    }

    fn settle(&self, file: &impl AsFd, stat: &Stat, path: &[u8]) -> Result<(), LayerError> {
        let time = self.times.of(stat);
        if self.on_disk == OnDisk::Settle && time != Times::Keep.of(stat) {
            rustix::fs::futimens(file, &timestamps(time)).map_err(LayerError::system("set the times of", path))?;
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.stream.entry(entry)
    }

    fn describe(&self, name: Vec<u8>, stat: &Stat, kind: EntryKind, attributes: Vec<Attribute>) -> Result<Entry, LayerError> {
        let mode = if let EntryKind::Symlink { .. } = kind { 0o777 } else { stat.st_mode & 0o7777 };
        let (mut uid, mut gid, mut attributes) = (stat.st_uid, stat.st_gid, attributes);
        if let Some(ids) = &self.ids {
            let inside =
                |id| ids::inside(ids, id).ok_or_else(|| LayerError::refused(&name, format!("it belongs to {id}, who is not inside")));
            (uid, gid) = (inside(uid)?, inside(gid)?);
            attributes = attributes.into_iter().map(|attribute| ids::attribute(ids, attribute)).collect();
        }
        Ok(Entry { name, kind, mode, uid, gid, modified: self.times.of(stat), attributes })
    }
}

/// A whiteout or an opaque marker: an empty file whose name says it all.
pub(crate) fn marker(name: Vec<u8>) -> Entry {
    let modified = Time { seconds: 0, nanoseconds: 0 };
    Entry { name, kind: EntryKind::File { size: 0 }, mode: 0, uid: 0, gid: 0, modified, attributes: Vec::new() }
}

fn open(parent: &OwnedFd, name: &[u8], kind: OFlags, path: &[u8]) -> Result<OwnedFd, LayerError> {
    let flags = kind | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(LayerError::system("open", path))
}

fn sorted_names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What the extended attributes of a file say.
pub(crate) struct Attributes {
    /// Those that travel.
    pub(crate) portable: Vec<Attribute>,
    /// Whether the directory hides what is below it.
    pub(crate) opaque: bool,
}

/// The extended attributes of an open file, sorted.
pub(crate) fn attributes(file: &OwnedFd, path: &[u8]) -> Result<Attributes, LayerError> {
    let mut found = Attributes { portable: Vec::new(), opaque: false };
    let fail = LayerError::system::<Errno>;
    let names = match sized(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(Errno::NOTSUP) => return Ok(found),
        listed => listed.map_err(fail("list the attributes of", path))?,
    };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let overlay = name.strip_prefix(b"trusted.overlay.");
        if overlay.is_none() && !is_portable_attribute(name) {
            continue;
        }
        if overlay.is_some_and(|key| OVERLAY_BOOKKEEPING.contains(&key)) {
            continue;
        }
        let value = match sized(|buffer| rustix::fs::fgetxattr(file, name, buffer)) {
            // Of a running container it may be gone by now.
            Err(Errno::NODATA) => continue,
            read => read.map_err(fail("read an attribute of", path))?,
        };
        match overlay {
            None => found.portable.push((name.to_vec(), value)),
            Some(b"opaque") => found.opaque = value == b"y",
            Some(other) => {
                let problem = format!("overlayfs marked it {:?}: mount with redirect_dir=off,metacopy=off", super::text(other));
                return Err(LayerError::refused(path, problem));
            }
        }
    }
    found.portable.sort_unstable();
    Ok(found)
}

/// What a call writes into a buffer, whole and no longer than it is. To ask for the length first would be one call more, and whoever
/// writes to the file meanwhile could change it.
fn sized(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut few = [0; ATTRIBUTE_BYTES];
    match read(&mut few) {
        Ok(length) => Ok(few[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut all = vec![0; ATTRIBUTE_BYTES_MAX];
            let length = read(&mut all)?;
            all.truncate(length);
            Ok(all)
        }
        Err(error) => Err(error),
    }
}
