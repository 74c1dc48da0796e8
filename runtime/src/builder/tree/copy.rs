//! Copying a scanned tree into a root, by the rules of COPY: what BuildKit's `fsutil/copy` does.

use super::TreeError;
use super::root::{LastLink, Missing, Owner, Root, chown, is_directory, modified, open_directory, open_file};
use super::scan::{Content, Entry, enter};
use crate::store::remove::remove_tree_at;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// Longest extended attribute: the kernel's own limit (XATTR_SIZE_MAX).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Who owns the copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// This user and group; also the directories made on the way.
    Set(Owner),
    /// As at the source.
    Keep,
}

/// Which bits the copies get, symbolic links excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// Those of the source.
    Keep,
    /// These.
    Set(u32),
}

/// What else of the source comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// Modification times and extended attributes: copies from stages and images.
    Keep,
    /// The fixed time and none: copies from the context, whose times and attributes Git does not keep.
    Fixed {
        /// Modification time, seconds since 1970.
        seconds: i64,
    },
}

/// Copies any number of sources into one root.
pub(crate) struct Copier<'a> {
    root: &'a Root,
    ownership: Ownership,
    chmod: Chmod,
    attributes: Attributes,
    /// Where the first copy of a file with several names is.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

/// What happens to a directory where a file is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clash {
    /// It is an error: the user named the place.
    Refuse,
    /// It goes with all it holds: the trees are merged, the later one wins. (BuildKit refuses this too.)
    Replace,
}

impl<'a> Copier<'a> {
    /// A copier into this root.
    pub(crate) fn new(root: &'a Root, ownership: Ownership, chmod: Chmod, attributes: Attributes) -> Self {
        Self { root, ownership, chmod, attributes, linked: HashMap::new() }
    }

    /// Who owns the directories made on the way.
    fn parents(&self) -> Owner {
        match self.ownership {
            Ownership::Set(owner) => owner,
            Ownership::Keep => Owner::ROOT,
        }
    }

    /// Copies one source. `from` is the directory that holds it, or itself if its name is empty; `base` is its name as the user wrote
    /// it; a `destination` that ends in `/` is a directory whether it is there or not.
    ///
    /// Of a directory its content is copied. The destination keeps its own mode and owner, or is made with mode 0755.
    pub(crate) fn copy(&mut self, from: &OwnedFd, entry: &Entry, base: &[u8], destination: &[u8]) -> Result<(), TreeError> {
        if let Content::Directory(children) = &entry.content {
            let target = self.root.ensure_directory(destination, self.parents())?;
            let mut path = self.root.find(destination, Missing::Fail, LastLink::Follow)?.path;
            let source = open_source(from, entry).map_err(TreeError::of("open", &entry.name))?;
            return self.children(&source, children, &target, &mut path);
        }
        if destination.ends_with(b"/") {
            self.root.ensure_directory(destination, self.parents())?;
        }
        let mut target = self.root.find(destination, Missing::Create(self.parents()), LastLink::Follow)?;
        if target.is_directory() {
            let directory = target.open_directory()?;
            enter(&mut target.path, base);
            return self.entry(from, entry, &directory, base, &mut target.path, Clash::Refuse);
        }
        match target.name.clone() {
            Some(name) => self.entry(from, entry, &target.directory, &name, &mut target.path, Clash::Refuse),
            None => Err(TreeError::refused(&target.path, "cannot replace a directory with a file")),
        }
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        entry: &Entry,
        to: &OwnedFd,
        name: &[u8],
        path: &mut Vec<u8>,
        clash: Clash,
    ) -> Result<(), TreeError> {
        let there = match rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(TreeError::of("stat", path)(error)),
        };
        if let Content::Directory(children) = &entry.content {
            return self.directory(from, entry, children, to, name, path, there.as_ref());
        }
        match &there {
            Some(stat) if is_directory(stat) => match clash {
                Clash::Refuse => return Err(TreeError::refused(path, "cannot replace a directory with a file")),
                Clash::Replace => remove_tree_at(to, name).map_err(TreeError::of("replace", path))?,
            },
            Some(_) => rustix::fs::unlinkat(to, name, AtFlags::empty()).map_err(TreeError::of("remove", path))?,
            None => {}
        }
        match &entry.content {
            Content::File => self.file(from, entry, to, name, path),
            Content::Link(target) => {
                rustix::fs::symlinkat(target.as_slice(), to, name).map_err(TreeError::of("link", path))?;
                self.finish(to, name, &entry.stat, ModeOf::Link).map_err(TreeError::of("set the attributes of", path))
            }
            Content::Special | Content::Directory(_) => {
                let kind = FileType::from_raw_mode(entry.stat.st_mode);
                rustix::fs::mknodat(to, name, kind, Mode::RUSR, entry.stat.st_rdev).map_err(TreeError::of("create", path))?;
                self.finish(to, name, &entry.stat, ModeOf::Node).map_err(TreeError::of("set the attributes of", path))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the two sides of one step of the recursion")]
    fn directory(
        &mut self,
        from: &OwnedFd,
        entry: &Entry,
        children: &[Entry],
        to: &OwnedFd,
        name: &[u8],
        path: &mut Vec<u8>,
        there: Option<&Stat>,
    ) -> Result<(), TreeError> {
        match there {
            Some(stat) if is_directory(stat) => {}
            Some(_) => {
                rustix::fs::unlinkat(to, name, AtFlags::empty()).map_err(TreeError::of("replace", path))?;
                rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(TreeError::of("create", path))?;
            }
            None => rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(TreeError::of("create", path))?,
        }
        let source = open_source(from, entry).map_err(TreeError::of("open", path))?;
        let target = open_directory(to, name).map_err(TreeError::of("open", path))?;
        self.children(&source, children, &target, path)?;
        self.attributes(&source, &target).map_err(TreeError::of("copy the attributes of", path))?;
        self.finish(to, name, &entry.stat, ModeOf::Node).map_err(TreeError::of("set the attributes of", path))
    }

    fn children(&mut self, from: &OwnedFd, children: &[Entry], to: &OwnedFd, path: &mut Vec<u8>) -> Result<(), TreeError> {
        for child in children {
            let length = enter(path, &child.name);
            self.entry(from, child, to, &child.name, path, Clash::Replace)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn file(&mut self, from: &OwnedFd, entry: &Entry, to: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), TreeError> {
        let identity = (entry.stat.st_dev, entry.stat.st_ino);
        if entry.stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&identity) {
                let spot = self.root.find(first, Missing::Fail, LastLink::Keep)?;
                let first_name = spot.name.as_deref().unwrap_or_default();
                return rustix::fs::linkat(&*spot.directory, first_name, to, name, AtFlags::empty()).map_err(TreeError::of("link", path));
            }
            self.linked.insert(identity, path.to_vec());
        }
        let source = open_file(from, &entry.name).map_err(TreeError::of("open", path))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(TreeError::of("create", path))?;
        let (mut source, mut target) = (File::from(source), File::from(target));
        std::io::copy(&mut source, &mut target).map_err(TreeError::io("copy", path))?;
        self.finish(to, name, &entry.stat, ModeOf::Node).map_err(TreeError::of("set the attributes of", path))?;
        // After the owner is set: a change of owner drops security.capability.
        self.attributes(&source, &target).map_err(TreeError::of("copy the attributes of", path))
    }

    /// Owner, then mode (a change of owner drops set-user-id), then time.
    fn finish(&self, directory: &OwnedFd, name: &[u8], stat: &Stat, mode_of: ModeOf) -> Result<(), Errno> {
        let owner = match self.ownership {
            Ownership::Set(owner) => owner,
            Ownership::Keep => Owner { user: stat.st_uid, group: stat.st_gid },
        };
        chown(directory, name, owner)?;
        if mode_of == ModeOf::Node {
            let mode = match self.chmod {
                Chmod::Keep => stat.st_mode & 0o7777,
                Chmod::Set(mode) => mode,
            };
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        let times = match self.attributes {
            Attributes::Keep => modified(stat.st_mtime, stat.st_mtime_nsec as i64),
            Attributes::Fixed { seconds } => modified(seconds, 0),
        };
        rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Extended attributes that mean the same everywhere.
    fn attributes(&self, from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
        if self.attributes != Attributes::Keep {
            return Ok(());
        }
        let mut names = vec![0; ATTRIBUTE_BYTES_MAX];
        let length = match rustix::fs::flistxattr(&from, names.as_mut_slice()) {
            Ok(length) => length,
            Err(Errno::NOTSUP) => return Ok(()),
            Err(error) => return Err(error),
        };
        for name in names[..length].split(|byte| *byte == 0).filter(|name| is_portable(name)) {
            let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
            let length = rustix::fs::fgetxattr(&from, name, value.as_mut_slice())?;
            match rustix::fs::fsetxattr(&to, name, &value[..length], XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether there is a mode to set: symbolic links have none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ModeOf {
    Node,
    Link,
}

fn is_portable(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
}

/// Opens a scanned directory; the root of a scan has no name.
fn open_source(from: &OwnedFd, entry: &Entry) -> Result<OwnedFd, Errno> {
    open_directory(from, if entry.name.is_empty() { b"." } else { &entry.name })
}
