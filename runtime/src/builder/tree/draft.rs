//! A layer before it is written: what COPY puts where, by the rules of BuildKit's `fsutil/copy`. Nothing on disk changes here.
//!
//! Sources are laid over each other in memory, in the order of the instruction; what is there already, in the layers below, is only
//! looked at. So the whole layer is known before the first file of it is made, and it can be written in one pass (`write`).

use super::TreeError;
use super::chmod::Chmod;
use super::root::{LastLink, Owner, Root, is_directory, is_link, open_directory};
use super::scan::{Content, Entry};
use crate::image::layer::header::{Attribute, Time};
use crate::image::layer::pack;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Most symbolic links in one resolution, as in the kernel.
const LINKS_MAX: usize = 40;

/// A layer in the making.
pub(crate) struct Draft<'a> {
    /// What the layers below show.
    below: &'a Root,
    pub(super) top: Directory,
    /// When what is made here was made.
    pub(super) made: Time,
}

/// A directory of the layer.
pub(super) struct Directory {
    pub(super) mode: u32,
    pub(super) owner: Owner,
    pub(super) modified: Time,
    pub(super) extended: Extended,
    /// Whether it hides the directory of this name below; else what is there shows through.
    pub(super) opaque: bool,
    /// By name: the order of the stream.
    pub(super) children: BTreeMap<Vec<u8>, Node>,
}

pub(super) enum Node {
    Directory(Directory),
    Leaf(Leaf),
}

/// Anything but a directory.
pub(super) struct Leaf {
    pub(super) mode: u32,
    pub(super) owner: Owner,
    pub(super) modified: Time,
    pub(super) kind: LeafKind,
}

pub(super) enum LeafKind {
    File {
        directory: Arc<SourceDirectory>,
        name: Vec<u8>,
        stat: Box<Stat>,
        extended: bool,
    },
    /// A file whose bytes are known.
    Bytes(Vec<u8>),
    Link(Vec<u8>),
    /// A device or pipe, by its mode and device number.
    Special {
        mode: u32,
        device: u64,
    },
}

/// Extended attributes that travel.
pub(super) enum Extended {
    None,
    Known(Vec<Attribute>),
    /// Those of a source.
    Of(Arc<SourceDirectory>),
}

/// A directory that files are taken from: a path without links beneath an open root.
pub(crate) struct SourceDirectory {
    root: Arc<OwnedFd>,
    path: Vec<u8>,
}

/// Who owns the copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// This user and group; also the directories made on the way.
    Set(Owner),
    /// As at the source.
    Keep,
}

/// Which modification times the copies get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyTimes {
    /// The build's: copies from the context, whose times Git does not keep.
    Made,
    /// Those of the source, but none later than this many seconds since 1970, if given.
    Keep {
        /// `SOURCE_DATE_EPOCH`.
        latest: Option<i64>,
    },
    /// This one.
    At(Time),
}

/// What becomes of a directory that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It gets the source's mode and owner.
    Overwrite,
    /// It stays as it is: `--parents`.
    Leave,
}

/// What the copies of one source look like.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Owner.
    pub ownership: Ownership,
    /// Permission bits.
    pub chmod: Chmod,
    /// Times.
    pub times: CopyTimes,
    /// Whether extended attributes come along.
    pub extended: bool,
    /// Directories that are there already.
    pub existing: Existing,
}

/// A place in the layer: its path without links, and what is there.
struct Place {
    names: Vec<Vec<u8>>,
    found: Option<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Link,
    Other,
}

impl SourceDirectory {
    /// The directory at a path (without links or dots) beneath a root.
    pub(crate) fn new(root: &Arc<OwnedFd>, path: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { root: Arc::clone(root), path })
    }

    /// The directory that a scanned entry is: `self` holds it, or is it if it has no name.
    pub(crate) fn of(self: &Arc<Self>, entry: &Entry) -> Arc<Self> {
        if entry.name.is_empty() { Arc::clone(self) } else { self.below(&entry.name) }
    }

    fn below(&self, name: &[u8]) -> Arc<Self> {
        let mut path = self.path.clone();
        super::scan::enter(&mut path, name);
        Self::new(&self.root, path)
    }

    /// Opens it; a link that somebody put on the way meanwhile is an error.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        open_beneath(&self.root, &self.path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Its path from the root, for messages.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }
}

impl Look {
    fn mode(&self, stat: &Stat) -> u32 {
        self.chmod.apply(stat.st_mode, is_directory(stat))
    }

    fn owner(&self, stat: &Stat) -> Owner {
        match self.ownership {
            Ownership::Set(owner) => owner,
            Ownership::Keep => Owner { user: stat.st_uid, group: stat.st_gid },
        }
    }

    /// Who owns the directories made on the way.
    fn parents(&self) -> Owner {
        match self.ownership {
            Ownership::Set(owner) => owner,
            Ownership::Keep => Owner::ROOT,
        }
    }

    fn modified(&self, stat: &Stat, made: Time) -> Time {
        match self.times {
            CopyTimes::Made => made,
            CopyTimes::At(time) => time,
            CopyTimes::Keep { latest } if latest.is_some_and(|latest| stat.st_mtime > latest) => made,
            CopyTimes::Keep { .. } => Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        }
    }
}

impl<'a> Draft<'a> {
    /// An empty layer on top of what `below` shows.
    pub(crate) fn new(below: &'a Root, made: Time) -> Self {
        let top = Directory {
            mode: 0o755,
            owner: Owner::ROOT,
            modified: made,
            extended: Extended::None,
            opaque: false,
            children: BTreeMap::new(),
        };
        Self { below, top, made }
    }

    /// Places one source. `source` is the directory that holds it, or itself if its name is empty; `base` is its name as the user wrote
    /// it; a `destination` that ends in `/` is a directory whether it is there or not.
    ///
    /// Of a directory the content is taken. The destination keeps its own mode and owner, or is made with mode 0755.
    pub(crate) fn place(
        &mut self,
        source: &Arc<SourceDirectory>,
        entry: Entry,
        base: &[u8],
        destination: &[u8],
        look: &Look,
    ) -> Result<(), TreeError> {
        let owner = look.parents();
        if let Content::Directory(_) = &entry.content {
            let source = source.of(&entry);
            let Content::Directory(children) = entry.content else { return Ok(()) };
            let names = self.directory_place(destination)?;
            let made = self.made;
            let (directory, below) = self.directory_at(&names, owner)?;
            if !children.is_empty() {
                directory.modified = made;
            }
            return merge_children(directory, below.as_ref(), children, &source, look, made);
        }
        // Names of one file stay so within a directory that is copied; a source of its own is a file of its own, as in BuildKit.
        let mut entry = entry;
        entry.stat.st_nlink = 1;
        let leaf = leaf(source, entry, look, self.made);
        self.place_leaf(leaf, base, destination, owner)
    }

    /// Places a file with these bytes.
    pub(crate) fn place_bytes(&mut self, bytes: Vec<u8>, mode: u32, base: &[u8], destination: &[u8], look: &Look) -> Result<(), TreeError> {
        let owner = look.parents();
        let leaf = Leaf { mode: look.chmod.apply(mode, false), owner, modified: self.made, kind: LeafKind::Bytes(bytes) };
        self.place_leaf(leaf, base, destination, owner)
    }

    fn place_leaf(&mut self, leaf: Leaf, base: &[u8], destination: &[u8], owner: Owner) -> Result<(), TreeError> {
        let mut names = if destination.ends_with(b"/") {
            let mut names = self.directory_place(destination)?;
            names.push(base.to_vec());
            names
        } else {
            let mut place = self.resolve(destination, LastLink::Follow)?;
            if place.found == Some(Kind::Directory) {
                place.names.push(base.to_vec());
            }
            place.names
        };
        let path = names.join(&b'/');
        let refused = || TreeError::refused(&path, "cannot replace a directory with a file");
        let name = names.pop().ok_or_else(refused)?;
        let made = self.made;
        let (directory, below) = self.directory_at(&names, owner)?;
        let hides_directory = match directory.children.get(&name) {
            Some(Node::Directory(_)) => true,
            Some(Node::Leaf(_)) => false,
            None => below.is_some_and(|below| kind_in(&below, &name) == Some(Kind::Directory)),
        };
        if hides_directory {
            return Err(refused());
        }
        directory.modified = made;
        directory.children.insert(name, Node::Leaf(leaf));
        Ok(())
    }

    /// Where a directory is to be: nothing else may be there.
    fn directory_place(&self, destination: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        let place = self.resolve(destination, LastLink::Follow)?;
        match place.found {
            None | Some(Kind::Directory) => Ok(place.names),
            Some(Kind::Link | Kind::Other) => Err(TreeError::refused(destination, "cannot replace a file with a directory")),
        }
    }

    /// Where a path leads, links followed as if the layer were `/`. What is missing on the way counts as directories to be made.
    fn resolve(&self, path: &[u8], last: LastLink) -> Result<Place, TreeError> {
        let failed = |errno| TreeError::of("resolve", path)(errno);
        let mut rest = parts(path);
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == b".." {
                names.pop();
                continue;
            }
            names.push(part);
            let is_last = rest.is_empty();
            match self.kind(&names).map_err(failed)? {
                Some(Kind::Link) if !is_last || last == LastLink::Follow => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(failed(Errno::LOOP));
                    }
                    let target = self.link(&names).map_err(failed)?;
                    names.pop();
                    if target.first() == Some(&b'/') {
                        names.clear();
                    }
                    parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
                }
                found if is_last => return Ok(Place { names, found }),
                Some(Kind::Directory) | None => {}
                Some(Kind::Link | Kind::Other) => return Err(failed(Errno::NOTDIR)),
            }
        }
        Ok(Place { names, found: Some(Kind::Directory) })
    }

    /// What is at a path without links.
    fn kind(&self, names: &[Vec<u8>]) -> Result<Option<Kind>, Errno> {
        match self.node(names) {
            Drafted::Node(Node::Directory(_)) => Ok(Some(Kind::Directory)),
            Drafted::Node(Node::Leaf(leaf)) => Ok(Some(match leaf.kind {
                LeafKind::Link(_) => Kind::Link,
                LeafKind::File { .. } | LeafKind::Bytes(_) | LeafKind::Special { .. } => Kind::Other,
            })),
            Drafted::Hidden => Ok(None),
            Drafted::Below => match open_beneath(self.below.descriptor(), &names.join(&b'/'), OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(found) => rustix::fs::fstat(&found).map(|stat| Some(Kind::of(&stat))),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    fn link(&self, names: &[Vec<u8>]) -> Result<Vec<u8>, Errno> {
        if let Drafted::Node(Node::Leaf(Leaf { kind: LeafKind::Link(target), .. })) = self.node(names) {
            return Ok(target.clone());
        }
        let (name, parents) = names.split_last().ok_or(Errno::INVAL)?;
        let parent = open_beneath(self.below.descriptor(), &parents.join(&b'/'), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::readlinkat(parent, name.as_slice(), Vec::new())?.into_bytes())
    }

    /// What the draft says of a path.
    fn node(&self, names: &[Vec<u8>]) -> Drafted<'_> {
        let Some((last, parents)) = names.split_last() else { return Drafted::Below };
        let mut here = &self.top;
        let mut hidden = false;
        for name in parents {
            match here.children.get(name) {
                Some(Node::Directory(directory)) => here = directory,
                Some(Node::Leaf(_)) => return Drafted::Hidden,
                None => return if hidden || here.opaque { Drafted::Hidden } else { Drafted::Below },
            }
            hidden |= here.opaque;
        }
        match here.children.get(last) {
            Some(node) => Drafted::Node(node),
            None if hidden => Drafted::Hidden,
            None => Drafted::Below,
        }
    }

    /// The directory at a path without links, with the one below that it shows, if any. Missing ones are made, mode 0755, and belong to
    /// `owner`; those below come up as they are.
    fn directory_at(&mut self, names: &[Vec<u8>], owner: Owner) -> Result<(&mut Directory, Option<OwnedFd>), TreeError> {
        let made = self.made;
        let failed = |errno| TreeError::of("look at", &names.join(&b'/'))(errno);
        let mut below = Some(open_directory(&**self.below.descriptor(), b".").map_err(failed)?);
        let mut here = &mut self.top;
        for name in names {
            below = subdirectory(below.as_ref(), name).map_err(failed)?;
            if !here.children.contains_key(name) {
                let node = match &below {
                    Some(below) => Directory::of(below, &names.join(&b'/'))?,
                    None => {
                        here.modified = made;
                        Directory::new(0o755, owner, made)
                    }
                };
                here.children.insert(name.clone(), Node::Directory(node));
            }
            here = match here.children.get_mut(name) {
                Some(Node::Directory(directory)) => directory,
                Some(Node::Leaf(_)) | None => return Err(failed(Errno::NOTDIR)),
            };
            if here.opaque {
                below = None;
            }
        }
        Ok((here, below))
    }
}

/// What a draft says of a path.
enum Drafted<'a> {
    Node(&'a Node),
    /// Nothing; what is below does not show.
    Hidden,
    /// Nothing; ask below.
    Below,
}

impl Kind {
    fn of(stat: &Stat) -> Self {
        match () {
            () if is_directory(stat) => Self::Directory,
            () if is_link(stat) => Self::Link,
            () => Self::Other,
        }
    }
}

impl Directory {
    fn new(mode: u32, owner: Owner, modified: Time) -> Self {
        Self { mode, owner, modified, extended: Extended::None, opaque: false, children: BTreeMap::new() }
    }

    /// As one below is.
    fn of(below: &OwnedFd, path: &[u8]) -> Result<Self, TreeError> {
        let stat = rustix::fs::fstat(below).map_err(TreeError::of("stat", path))?;
        let owner = Owner { user: stat.st_uid, group: stat.st_gid };
        let modified = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        let extended = pack::attributes(below, path)?.portable;
        let extended = if extended.is_empty() { Extended::None } else { Extended::Known(extended) };
        Ok(Self { extended, ..Self::new(stat.st_mode & 0o7777, owner, modified) })
    }

    fn look(&mut self, look: &Look, stat: &Stat, source: &Arc<SourceDirectory>, made: Time) {
        (self.mode, self.owner, self.modified) = (look.mode(stat), look.owner(stat), look.modified(stat, made));
        if look.extended {
            self.extended = Extended::Of(Arc::clone(source));
        }
    }
}

fn leaf(source: &Arc<SourceDirectory>, entry: Entry, look: &Look, made: Time) -> Leaf {
    let stat = entry.stat;
    let kind = match entry.content {
        Content::Link(target) => LeafKind::Link(target),
        Content::Special => LeafKind::Special { mode: stat.st_mode, device: stat.st_rdev },
        // A directory is never a leaf: the caller took its children.
        Content::File | Content::Directory(_) => {
            LeafKind::File { directory: Arc::clone(source), name: entry.name, stat: Box::new(stat), extended: look.extended }
        }
    };
    Leaf { mode: look.mode(&stat), owner: look.owner(&stat), modified: look.modified(&stat, made), kind }
}

/// Lays a directory's content over what is there. A later tree wins over an earlier one, whatever the kinds, as with the builders
/// before BuildKit, which stops there.
fn merge_children(
    into: &mut Directory,
    below: Option<&OwnedFd>,
    children: Vec<Entry>,
    source: &Arc<SourceDirectory>,
    look: &Look,
    made: Time,
) -> Result<(), TreeError> {
    for child in children {
        let Entry { name, stat, content } = child;
        let Content::Directory(grandchildren) = content else {
            let leaf = leaf(source, Entry { name: name.clone(), stat, content }, look, made);
            into.children.insert(name, Node::Leaf(leaf));
            continue;
        };
        let source = source.below(&name);
        let mut below = subdirectory(below, &name).map_err(TreeError::of("look at", &name))?;
        let existed = matches!(into.children.get(&name), Some(Node::Directory(_)));
        if !existed {
            let replaces = into.children.contains_key(&name);
            let mut directory = match &below {
                Some(below) if !replaces => Directory::of(below, source.path())?,
                Some(_) | None => Directory::new(0o755, Owner::ROOT, made),
            };
            // A file of an earlier source hid what is below for good.
            directory.opaque = replaces && below.is_some();
            into.children.insert(name.clone(), Node::Directory(directory));
        }
        let Some(Node::Directory(directory)) = into.children.get_mut(&name) else { continue };
        if directory.opaque {
            below = None;
        }
        if look.existing == Existing::Overwrite || (!existed && below.is_none()) {
            directory.look(look, &stat, &source, made);
        } else if !grandchildren.is_empty() {
            directory.modified = made;
        }
        merge_children(directory, below.as_ref(), grandchildren, &source, look, made)?;
    }
    Ok(())
}

/// The directory of this name, if there is one.
fn subdirectory(below: Option<&OwnedFd>, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    match below.map(|below| open_directory(below, name)) {
        None | Some(Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => Ok(None),
        Some(Ok(directory)) => Ok(Some(directory)),
        Some(Err(error)) => Err(error),
    }
}

fn kind_in(directory: &OwnedFd, name: &[u8]) -> Option<Kind> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Kind::of(&stat))
}

/// Opens a path without links beneath a directory; an empty one is the directory.
pub(super) fn open_beneath(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    // A link at the end is opened itself if the flags are O_PATH and O_NOFOLLOW: openat2(2).
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), within)
}

/// The names of a path without the empty ones and the dots.
fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}
