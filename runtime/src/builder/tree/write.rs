//! A draft onto disk, each source read once: its bytes go to the new file and into the layer's stream in the same pass.
//!
//! Order, names and attributes are those of `image::layer::pack`, so that packing what was written gives the same stream again.

use super::TreeError;
use super::draft::{Directory, Draft, Extended, Leaf, LeafKind, Node, SourceDirectory, open_beneath};
use super::root::{Owner, chown, is_directory, modified as times, open_directory, open_file};
use super::scan::enter;
use crate::image::layer::hashing::HashingSink;
use crate::image::layer::header::{Attribute, Entry, EntryKind, Time};
use crate::image::layer::pack::{self, LayerStream, Packed};
use crate::image::layer::{DEPTH_MAX, OPAQUE_ATTRIBUTE, OPAQUE_MARKER};
use crate::store::remove::remove_tree_at;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use spec::value::Digest;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 << 10;

/// A layer that was written into an upper directory.
#[derive(Debug)]
pub(crate) struct Written {
    /// Digest of its stream.
    pub diff_id: Digest,
    /// Its size.
    pub packed: Packed,
    /// Whether no source changed while it was read: only then the result stands for them.
    pub steady: bool,
    /// The files whose digests are known, by path.
    pub files: Files,
}

/// Digests of files by their path from a layer's root.
pub(crate) type Files = BTreeMap<Vec<u8>, Digest>;

/// What a new layer need not copy: the files of an earlier one, where they are what the new one is to hold.
///
/// They are hard-linked. Layers are never written to, so that nobody can tell but by counting links.
pub(crate) struct Reuse<'a> {
    /// The digest of a source, if it is known.
    pub digest: &'a dyn Fn(&Stat) -> Option<Digest>,
    /// The earlier layer's root.
    pub layer: Option<OwnedFd>,
    /// What it holds.
    pub files: Files,
}

/// What a draft is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onto {
    /// An empty upper directory that no overlay uses.
    Upper,
    /// A tree that has files already.
    Tree,
}

struct Writer<'a> {
    root: &'a OwnedFd,
    onto: Onto,
    stream: Option<LayerStream<HashingSink>>,
    /// Whom a new file belongs to by itself; `None` if that is not known.
    newborn: Option<Owner>,
    /// First path of each source that has several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The source directory that is open.
    source: Option<(Arc<SourceDirectory>, Arc<OwnedFd>)>,
    buffer: Vec<u8>,
    steady: bool,
    reuse: Option<&'a Reuse<'a>>,
    files: Files,
    /// Files of the earlier layer that are in this one: two names of one file would be a hard link of the layer's own.
    reused: HashSet<u64>,
    /// The directory of the earlier layer that is open, by its path.
    earlier: Option<(Vec<u8>, Arc<OwnedFd>)>,
}

/// Writes a draft into an empty upper directory whose owner and mode are set, and hashes it as a layer.
pub(crate) fn write_layer(draft: Draft<'_>, upper: &OwnedFd, reuse: Option<&Reuse<'_>>) -> Result<Written, TreeError> {
    let failed = TreeError::of("look at", b"/");
    let stat = rustix::fs::fstat(upper).map_err(failed)?;
    let mut writer = Writer { reuse, ..Writer::new(upper, Onto::Upper, &stat) };
    let plain = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (0o755, 0, 0);
    if !plain {
        let owner = Owner { user: stat.st_uid, group: stat.st_gid };
        writer.entry(b"./", EntryKind::Directory, stat.st_mode & 0o7777, owner, draft.made, Vec::new())?;
    }
    writer.children(draft.top, upper, &mut Vec::new(), 0)?;
    rustix::fs::futimens(upper, &times(draft.made.seconds, 0)).map_err(TreeError::of("set the time of", b"/"))?;
    let stream = writer.stream.take().expect("a layer has a stream");
    let (packed, sink) = stream.finish()?;
    let diff_id = sink.finish().map_err(TreeError::io("hash", b"/"))?;
    Ok(Written { diff_id, packed, steady: writer.steady, files: writer.files })
}

/// Writes a draft over a tree; what it replaces goes.
pub(crate) fn write_tree(draft: Draft<'_>, root: &OwnedFd) -> Result<(), TreeError> {
    let stat = rustix::fs::fstat(root).map_err(TreeError::of("look at", b"/"))?;
    let mut writer = Writer { stream: None, newborn: None, ..Writer::new(root, Onto::Tree, &stat) };
    writer.children(draft.top, root, &mut Vec::new(), 0)
}

impl<'a> Writer<'a> {
    fn new(root: &'a OwnedFd, onto: Onto, stat: &Stat) -> Self {
        // In a set-group-id directory files belong to its group; those of the draft get that bit after their content.
        let inherits = stat.st_mode & libc::S_ISGID != 0;
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self {
            root,
            onto,
            stream: Some(LayerStream::new(HashingSink::new())),
            newborn: (!inherits).then_some(Owner { user, group }),
            links: HashMap::new(),
            source: None,
            buffer: vec![0; READ_BYTES],
            steady: true,
            reuse: None,
            files: Files::new(),
            reused: HashSet::new(),
            earlier: None,
        }
    }

    fn children(&mut self, directory: Directory, to: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<(), TreeError> {
        if depth > DEPTH_MAX {
            return Err(TreeError::limit(path, format!("deeper than {DEPTH_MAX} directories")));
        }
        for (name, node) in directory.children {
            let length = enter(path, &name);
            match node {
                Node::Directory(directory) => self.directory(directory, to, &name, path, depth)?,
                Node::Leaf(leaf) => self.leaf(leaf, to, &name, path)?,
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn directory(&mut self, directory: Directory, to: &OwnedFd, name: &[u8], path: &mut Vec<u8>, depth: usize) -> Result<(), TreeError> {
        loop {
            match rustix::fs::mkdirat(to, name, Mode::RWXU) {
                Ok(()) => break,
                Err(Errno::EXIST) if self.onto == Onto::Tree => {
                    let stat = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::of("stat", path))?;
                    if is_directory(&stat) {
                        break;
                    }
                    rustix::fs::unlinkat(to, name, AtFlags::empty()).map_err(TreeError::of("replace", path))?;
                }
                Err(error) => return Err(TreeError::of("create", path)(error)),
            }
        }
        let made = open_directory(to, name).map_err(TreeError::of("open", path))?;
        let extended = match &directory.extended {
            Extended::None => Vec::new(),
            Extended::Known(attributes) => attributes.clone(),
            Extended::Of(source) => pack::attributes(&source.open().map_err(TreeError::of("open", path))?, path)?.portable,
        };
        let (mode, owner, modified, opaque) = (directory.mode, directory.owner, directory.modified, directory.opaque);
        self.entry(&[path, &b"/"[..]].concat(), EntryKind::Directory, mode, owner, modified, extended.clone())?;
        if opaque && self.onto == Onto::Upper {
            rustix::fs::fsetxattr(&made, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
                .map_err(TreeError::of("set an attribute of", path))?;
            if let Some(stream) = &mut self.stream {
                stream.entry(&pack::marker([path, &b"/"[..], OPAQUE_MARKER].concat()))?;
            }
        }
        self.children(directory, &made, path, depth + 1)?;
        self.own(&made, owner, path)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(TreeError::of("set the mode of", path))?;
        set_attributes(&made, &extended, path)?;
        rustix::fs::futimens(&made, &times(modified.seconds, i64::from(modified.nanoseconds)))
            .map_err(TreeError::of("set the time of", path))
    }

    fn leaf(&mut self, leaf: Leaf, to: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), TreeError> {
        let Leaf { mode, owner, modified, kind } = leaf;
        let time = times(modified.seconds, i64::from(modified.nanoseconds));
        match kind {
            LeafKind::File { directory, name: from, stat, extended } => {
                let attributes = FileAttributes { mode, owner, modified, extended };
                self.file(&directory, &from, &stat, &attributes, (to, name, path))
            }
            LeafKind::Bytes(bytes) => {
                let file = self.create(to, name, path)?;
                self.entry(path, EntryKind::File { size: bytes.len() as u64 }, mode, owner, modified, Vec::new())?;
                let mut file = std::fs::File::from(file);
                file.write_all(&bytes).map_err(TreeError::io("write", path))?;
                self.data(&bytes)?;
                self.finish(&file, mode, owner, modified, path)
            }
            LeafKind::Link(target) => {
                self.made(to, name, || rustix::fs::symlinkat(target.as_slice(), to, name)).map_err(TreeError::of("link", path))?;
                self.entry(path, EntryKind::Symlink { target: target.clone() }, 0o777, owner, modified, Vec::new())?;
                if self.newborn != Some(owner) {
                    chown(to, name, owner).map_err(TreeError::of("set the owner of", path))?;
                }
                rustix::fs::utimensat(to, name, &time, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::of("set the time of", path))
            }
            LeafKind::Special { mode: kind, device } => {
                let file_type = FileType::from_raw_mode(kind);
                let make = || rustix::fs::mknodat(to, name, file_type, Mode::RUSR, device);
                self.made(to, name, make).map_err(TreeError::of("create", path))?;
                let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
                let kind = match file_type {
                    FileType::CharacterDevice => EntryKind::CharacterDevice { major, minor },
                    FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
                    _ => EntryKind::Fifo,
                };
                self.entry(path, kind, mode, owner, modified, Vec::new())?;
                chown(to, name, owner).map_err(TreeError::of("set the owner of", path))?;
                rustix::fs::chmodat(to, name, Mode::from_raw_mode(mode), AtFlags::empty())
                    .map_err(TreeError::of("set the mode of", path))?;
                rustix::fs::utimensat(to, name, &time, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::of("set the time of", path))
            }
        }
    }

    fn file(
        &mut self,
        directory: &Arc<SourceDirectory>,
        from: &[u8],
        stat: &Stat,
        attributes: &FileAttributes,
        (to, name, path): (&OwnedFd, &[u8], &[u8]),
    ) -> Result<(), TreeError> {
        let FileAttributes { mode, owner, modified, extended } = *attributes;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned() {
                return self.link(&first, attributes, (to, name, path));
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        if self.reuse(stat, attributes, (to, name, path))? {
            return Ok(());
        }
        let parent = self.open_source(directory).map_err(TreeError::of("open", directory.path()))?;
        let source = open_file(&*parent, from).map_err(TreeError::of("open", path))?;
        let file = self.create(to, name, path)?;
        let mut portable = if extended { pack::attributes(&source, path)?.portable } else { Vec::new() };
        if !portable.is_empty() {
            self.own(&file, owner, path)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(TreeError::of("set the mode of", path))?;
            portable = set_attributes(&file, &portable, path)?;
        }
        let size = stat.st_size as u64;
        self.entry(path, EntryKind::File { size }, mode, owner, modified, portable.clone())?;
        let (mut source, mut file) = (std::fs::File::from(source), std::fs::File::from(file));
        self.copy(&mut source, &mut file, size, path)?;
        let after = rustix::fs::fstat(&source).map_err(TreeError::of("stat", path))?;
        self.steady &= (after.st_size, after.st_mtime, after.st_mtime_nsec, after.st_ctime, after.st_ctime_nsec)
            == (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        // Writing and chown(2) drop security.capability.
        let finished = self.finish(&file, mode, owner, modified, path);
        if portable.iter().any(|(name, _)| name == b"security.capability") {
            finished?;
            set_attributes(&file, &portable, path)?;
            return Ok(());
        }
        finished
    }

    fn copy(&mut self, source: &mut std::fs::File, file: &mut std::fs::File, size: u64, path: &[u8]) -> Result<(), TreeError> {
        let mut left = size;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = source.read(&mut self.buffer[..wanted]).map_err(TreeError::io("read", path))?;
            if count == 0 {
                return Err(TreeError::refused(path, "it shrank while it was copied"));
            }
            file.write_all(&self.buffer[..count]).map_err(TreeError::io("write", path))?;
            if let Some(stream) = &mut self.stream {
                stream.data(&self.buffer[..count])?;
            }
            left -= count as u64;
        }
        Ok(())
    }

    /// Takes a file of the earlier layer, if it has just this one at this path.
    fn reuse(&mut self, stat: &Stat, attributes: &FileAttributes, (to, name, path): (&OwnedFd, &[u8], &[u8])) -> Result<bool, TreeError> {
        let Some(reuse) = self.reuse.filter(|_| !attributes.extended && stat.st_nlink == 1) else { return Ok(false) };
        let Some(digest) = (reuse.digest)(stat) else { return Ok(false) };
        self.files.insert(path.to_vec(), digest);
        if reuse.files.get(path) != Some(&digest) {
            return Ok(false);
        }
        let Some(earlier) = self.earlier_directory(reuse, &path[..path.len() - name.len()]) else { return Ok(false) };
        let Ok(file) = open_file(&*earlier, name) else { return Ok(false) };
        let FileAttributes { mode, owner, modified, .. } = *attributes;
        let Ok(found) = rustix::fs::fstat(&file) else { return Ok(false) };
        let same = (found.st_mode, found.st_size, found.st_uid, found.st_gid)
            == (libc::S_IFREG | mode, stat.st_size, owner.user, owner.group)
            && (found.st_mtime, found.st_mtime_nsec as u32) == (modified.seconds, modified.nanoseconds);
        if !same || self.reused.contains(&found.st_ino) {
            return Ok(false);
        }
        match rustix::fs::linkat(&*earlier, name, to, name, AtFlags::empty()) {
            Ok(()) => {}
            // As many links as the file system takes, or none at all: it is copied.
            Err(Errno::MLINK | Errno::PERM | Errno::XDEV) => return Ok(false),
            Err(error) => return Err(TreeError::of("link", path)(error)),
        }
        self.reused.insert(found.st_ino);
        let size = stat.st_size as u64;
        self.entry(path, EntryKind::File { size }, mode, owner, modified, Vec::new())?;
        if let Some(stream) = &mut self.stream {
            stream.sink().file(std::fs::File::from(file), size);
        }
        Ok(true)
    }

    /// The directory of the earlier layer at this path; `None` if it has none.
    fn earlier_directory(&mut self, reuse: &Reuse<'_>, path: &[u8]) -> Option<Arc<OwnedFd>> {
        if let Some((open, descriptor)) = &self.earlier
            && open == path
        {
            return Some(Arc::clone(descriptor));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let descriptor = Arc::new(open_beneath(reuse.layer.as_ref()?, path.strip_suffix(b"/").unwrap_or(path), flags).ok()?);
        self.earlier = Some((path.to_vec(), Arc::clone(&descriptor)));
        Some(descriptor)
    }

    /// One more name of a file that is there.
    fn link(&mut self, first: &[u8], attributes: &FileAttributes, (to, name, path): (&OwnedFd, &[u8], &[u8])) -> Result<(), TreeError> {
        let slash = first.iter().rposition(|byte| *byte == b'/');
        let (parent, first_name) = slash.map_or((&b""[..], first), |slash| (&first[..slash], &first[slash + 1..]));
        let parent = open_beneath(self.root, parent, OFlags::PATH | OFlags::DIRECTORY).map_err(TreeError::of("open", first))?;
        let make = || rustix::fs::linkat(&parent, first_name, to, name, AtFlags::empty());
        self.made(to, name, make).map_err(TreeError::of("link", path))?;
        let FileAttributes { mode, owner, modified, extended } = *attributes;
        let portable = if extended {
            let file = open_file(to, name).map_err(TreeError::of("open", path))?;
            pack::attributes(&file, path)?.portable
        } else {
            Vec::new()
        };
        self.entry(path, EntryKind::HardLink { target: first.to_vec() }, mode, owner, modified, portable)
    }

    /// Creates a file for writing.
    fn create(&self, to: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR);
        self.made(to, name, create).map_err(TreeError::of("create", path))
    }

    /// Makes a name; in a tree that has files already whatever is there goes first.
    fn made<T>(&self, to: &OwnedFd, name: &[u8], make: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match make() {
            Err(Errno::EXIST) if self.onto == Onto::Tree => {
                remove_tree_at(to, name)?;
                make()
            }
            other => other,
        }
    }

    /// Owner, then mode (a change of owner drops set-user-id), then time.
    fn finish(&self, file: impl AsFd, mode: u32, owner: Owner, modified: Time, path: &[u8]) -> Result<(), TreeError> {
        self.own(&file, owner, path)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(TreeError::of("set the mode of", path))?;
        rustix::fs::futimens(&file, &times(modified.seconds, i64::from(modified.nanoseconds)))
            .map_err(TreeError::of("set the time of", path))
    }

    fn own(&self, file: impl AsFd, owner: Owner, path: &[u8]) -> Result<(), TreeError> {
        if self.newborn == Some(owner) {
            return Ok(());
        }
        let (user, group) = (rustix::fs::Uid::from_raw(owner.user), rustix::fs::Gid::from_raw(owner.group));
        rustix::fs::fchown(file, Some(user), Some(group)).map_err(TreeError::of("set the owner of", path))
    }

    fn open_source(&mut self, directory: &Arc<SourceDirectory>) -> Result<Arc<OwnedFd>, Errno> {
        if let Some((open, descriptor)) = &self.source
            && Arc::ptr_eq(open, directory)
        {
            return Ok(Arc::clone(descriptor));
        }
        let descriptor = Arc::new(directory.open()?);
        self.source = Some((Arc::clone(directory), Arc::clone(&descriptor)));
        Ok(descriptor)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.stream.as_mut().map_or(Ok(()), |stream| Ok(stream.data(bytes)?))
    }

    fn entry(
        &mut self,
        name: &[u8],
        kind: EntryKind,
        mode: u32,
        owner: Owner,
        modified: Time,
        attributes: Vec<Attribute>,
    ) -> Result<(), TreeError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        Ok(stream.entry(&Entry { name: name.to_vec(), kind, mode, uid: owner.user, gid: owner.group, modified, attributes })?)
    }
}

/// What a copied file looks like.
struct FileAttributes {
    mode: u32,
    owner: Owner,
    modified: Time,
    /// Whether extended attributes come along.
    extended: bool,
}

/// Sets extended attributes; those that the file system has no place for are left out of the result.
fn set_attributes(file: impl AsFd, attributes: &[Attribute], path: &[u8]) -> Result<Vec<Attribute>, TreeError> {
    let mut set = Vec::new();
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => set.push((name.clone(), value.clone())),
            Err(Errno::NOTSUP) => {}
            Err(error) => return Err(TreeError::of("set an attribute of", path)(error)),
        }
    }
    Ok(set)
}
