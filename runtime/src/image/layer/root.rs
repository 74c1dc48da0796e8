//! The directory a layer is unpacked into, reached by descriptor only.
//!
//! Parents are resolved by openat2(2) as if the directory were `/` (RESOLVE_IN_ROOT): a symbolic link of the layer leads to another
//! place of the layer, never out of it. The last part of a path is never followed: it is created, linked to or replaced by name.

use super::header::{Attribute, Time};
use super::name::{join, split};
use super::{LayerError, OPAQUE_ATTRIBUTE, OPAQUE_MARKER};
use crate::store::remove::remove_tree_at;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Mode of a directory that a layer has things in but no entry for: what Docker and containerd give it.
const IMPLIED_DIRECTORY_MODE: u32 = 0o755;

/// The root of a layer being unpacked.
pub(super) struct Root {
    root: Rc<OwnedFd>,
    /// The directory used last: entries come directory by directory.
    last_parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories to be given this time once nothing changes in them any more.
    directory_times: Vec<(Vec<u8>, Time)>,
}

/// Owner, mode, times and attributes of a new file.
pub(super) struct Metadata<'a> {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) modified: Time,
    pub(super) attributes: &'a [Attribute],
}

impl Root {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), last_parent: None, directory_times: vec![(Vec::new(), super::pack::EPOCH)] }
    }

    /// Creates a file and lets `fill` write it; replaces whatever has the name.
    pub(super) fn create_file(
        &mut self,
        path: &[u8],
        metadata: &Metadata<'_>,
        fill: impl FnOnce(&mut File) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.create(path, "create", |parent, name| rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        let mut file = File::from(file);
        fill(&mut file)?;
        self.describe(&file, path, metadata)?;
        rustix::fs::futimens(&file, &timestamps(metadata.modified)).map_err(LayerError::system("set the times of", path))
    }

    /// Makes a directory, or gives one that is there new attributes; replaces anything else of that name.
    pub(super) fn ensure_directory(&mut self, path: &[u8], metadata: &Metadata<'_>) -> Result<(), LayerError> {
        let directory = if path.is_empty() { self.reopen(b"")? } else { self.make_directory(path)? };
        self.describe(&directory, path, metadata)?;
        self.directory_times.push((path.to_vec(), metadata.modified));
        self.last_parent = Some((path.to_vec(), Rc::new(directory)));
        Ok(())
    }

    /// Creates a symbolic link; its target is text, wherever it points.
    pub(super) fn create_symlink(&mut self, path: &[u8], target: &[u8], metadata: &Metadata<'_>) -> Result<(), LayerError> {
        self.create(path, "create the link", |parent, name| rustix::fs::symlinkat(target, parent, name))?;
        self.describe_by_name(path, metadata, ModeOf::Nothing)
    }

    /// Creates a device or pipe.
    pub(super) fn create_node(&mut self, path: &[u8], kind: FileType, device: u64, metadata: &Metadata<'_>) -> Result<(), LayerError> {
        self.create(path, "create the node", |parent, name| rustix::fs::mknodat(parent, name, kind, Mode::RUSR, device))?;
        self.describe_by_name(path, metadata, ModeOf::File)
    }

    /// Gives a file of this layer a second name, and what this entry says of it: of two entries the last one wins, as with every other
    /// unpacker. The target's last part is not followed if it is a symbolic link.
    pub(super) fn create_hard_link(&mut self, path: &[u8], target: &[u8], metadata: &Metadata<'_>) -> Result<(), LayerError> {
        let (target_parent, target_name) = split(target);
        let absent = |error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::PERM => {
                LayerError::refused(path, format!("a hard link to {:?}, which is no file of this layer", super::text(target)))
            }
            other => LayerError::system("create the hard link", path)(other),
        };
        let from = self.resolve(target_parent).map_err(absent)?;
        let found = rustix::fs::statat(&*from, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(absent)?;
        if path != target {
            let parent = self.parent(path)?;
            let name = split(path).1;
            let link = || rustix::fs::linkat(&*from, target_name, &*parent, name, AtFlags::empty());
            match link() {
                Err(Errno::EXIST) => {
                    self.replace(path, &parent)?;
                    link().map_err(absent)?;
                }
                other => other.map_err(absent)?,
            }
        }
        // Setting an owner, even the same, drops file capabilities: only what differs is set.
        let kind = FileType::from_raw_mode(found.st_mode);
        let differs = (found.st_uid, found.st_gid, found.st_mode & 0o7777) != (metadata.uid, metadata.gid, metadata.mode);
        match kind {
            FileType::RegularFile if differs || !metadata.attributes.is_empty() => {
                let parent = self.parent(path)?;
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&*parent, split(path).1, flags, Mode::empty()).map_err(LayerError::system("open", path))?;
                self.describe(&file, path, metadata)
            }
            FileType::RegularFile | FileType::Symlink | FileType::Directory => Ok(()),
            _ if differs => self.describe_by_name(path, metadata, ModeOf::File),
            _ => Ok(()),
        }
    }

    /// Marks a name of lower layers as deleted, unless this layer has the name itself: then its directory hides the lower one. What
    /// would lie below a file of this layer is hidden by that.
    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let Some(parent) = self.marked_directory(path)? else { return Ok(()) };
        let name = split(path).1;
        match rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if FileType::from_raw_mode(there.st_mode) == FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&*parent, name, flags, Mode::empty()).map_err(LayerError::system("open", path))?;
                set_opaque(&directory, path)
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => rustix::fs::mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), 0)
                .map_err(LayerError::system("create the whiteout", path)),
            Err(error) => Err(LayerError::system("stat", path)(error)),
        }
    }

    /// Makes a directory hide what lower layers have in it. A file of this layer of that name does so by itself.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let Some(directory) = self.marked_directory(&join(path, OPAQUE_MARKER))? else { return Ok(()) };
        // What leads there is not enough to change it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&*directory, ".", flags, Mode::empty()).map_err(LayerError::system("open", path))?;
        set_opaque(&directory, path)
    }

    /// The directory in which a marker lies, found as that of any entry; `None` if this layer has something else in its place.
    fn marked_directory(&mut self, marker: &[u8]) -> Result<Option<Rc<OwnedFd>>, LayerError> {
        match self.resolve(split(marker).0) {
            Err(Errno::NOTDIR) => Ok(None),
            Ok(_) | Err(_) => self.parent(marker).map(Some),
        }
    }

    /// Sets the times of directories, which every entry created in them has changed. Directories that were replaced are passed over.
    pub(super) fn settle_directory_times(&mut self) -> Result<(), LayerError> {
        for (path, modified) in std::mem::take(&mut self.directory_times) {
            match self.reopen(&path) {
                Ok(directory) => rustix::fs::futimens(&directory, &timestamps(modified)),
                Err(LayerError::System { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
                Err(LayerError::System { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => Ok(()),
                Err(error) => return Err(error),
            }
            .map_err(LayerError::system("set the times of", &path))?;
        }
        Ok(())
    }

    /// Tries to create a name; what has the name already is removed first: of two entries the last one wins.
    fn create<T>(
        &mut self,
        path: &[u8],
        operation: &'static str,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        if path.is_empty() {
            return Err(LayerError::refused(b"/", "the root of a layer is a directory"));
        }
        let parent = self.parent(path)?;
        let name = split(path).1;
        match make(&parent, name) {
            Err(Errno::EXIST) => {
                self.replace(path, &parent)?;
                make(&parent, name).map_err(LayerError::system(operation, path))
            }
            other => other.map_err(LayerError::system(operation, path)),
        }
    }

    fn replace(&mut self, path: &[u8], parent: &Rc<OwnedFd>) -> Result<(), LayerError> {
        self.last_parent = None; // it may lie in what is removed
        remove_tree_at(&**parent, split(path).1).map_err(LayerError::system("replace", path))
    }

    /// The directory of that name, made if absent, in place of anything else.
    fn make_directory(&mut self, path: &[u8]) -> Result<OwnedFd, LayerError> {
        let parent = self.parent(path)?;
        let name = split(path).1;
        let make = || rustix::fs::mkdirat(&*parent, name, Mode::RWXU);
        let open =
            || rustix::fs::openat(&*parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => match open() {
                Ok(directory) => return Ok(directory),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.replace(path, &parent)?;
                    make().map_err(LayerError::system("create the directory", path))?;
                }
                Err(error) => return Err(LayerError::system("open", path)(error)),
            },
            Err(error) => return Err(LayerError::system("create the directory", path)(error)),
        }
        self.imply(&parent, name, path)?;
        open().map_err(LayerError::system("open", path))
    }

    /// The directory that holds `path`, made with its own parents if the layer only implies them.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, LayerError> {
        let unreachable = |error| match error {
            Errno::NOENT => LayerError::refused(path, "a link on the way to it leads to nothing in this layer"),
            Errno::NOTDIR | Errno::LOOP | Errno::XDEV => LayerError::refused(path, "something on the way to it is not a directory"),
            other => LayerError::system("open the directory of", path)(other),
        };
        let parent = split(path).0;
        match self.resolve(parent) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(unreachable),
        }
        let mut made = Vec::new();
        for part in parent.split(|byte| *byte == b'/') {
            let above = self.resolve(&made).map_err(unreachable)?;
            made = join(&made, part);
            match rustix::fs::mkdirat(&*above, part, Mode::from_raw_mode(IMPLIED_DIRECTORY_MODE)) {
                Ok(()) => self.imply(&above, part, &made)?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(LayerError::system("create the directory", &made)(error)),
            }
        }
        self.resolve(parent).map_err(unreachable)
    }

    /// A directory that was just made because something lies in it: its mode whatever the umask, and a time that is always the same.
    fn imply(&mut self, above: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(IMPLIED_DIRECTORY_MODE);
        rustix::fs::chmodat(above, name, mode, AtFlags::empty()).map_err(LayerError::system("set the mode of", path))?;
        self.directory_times.push((path.to_vec(), super::pack::EPOCH));
        Ok(())
    }

    /// A directory of the layer, links on the way resolved within it.
    fn resolve(&mut self, directory: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if directory.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((path, found)) = &self.last_parent
            && path == directory
        {
            return Ok(Rc::clone(found));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = Rc::new(rustix::fs::openat2(&*self.root, directory, flags, Mode::empty(), WITHIN)?);
        self.last_parent = Some((directory.to_vec(), Rc::clone(&found)));
        Ok(found)
    }

    /// A directory of the layer by an open descriptor that can be changed through.
    fn reopen(&self, path: &[u8]) -> Result<OwnedFd, LayerError> {
        let path = if path.is_empty() { &b"."[..] } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&*self.root, path, flags, Mode::empty(), WITHIN).map_err(LayerError::system("open", path))
    }

    /// Owner first: chown(2) clears set-id bits and file capabilities.
    fn describe(&self, file: &impl AsFd, path: &[u8], metadata: &Metadata<'_>) -> Result<(), LayerError> {
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(LayerError::system("set the owner of", path))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode)).map_err(LayerError::system("set the mode of", path))?;
        for (name, value) in metadata.attributes {
            let set = rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
            set.map_err(LayerError::system("set an attribute of", path))?;
        }
        Ok(())
    }

    /// As [`Self::describe`], for what cannot be opened; it was just created and only we write here.
    fn describe_by_name(&mut self, path: &[u8], metadata: &Metadata<'_>, mode: ModeOf) -> Result<(), LayerError> {
        let parent = self.parent(path)?;
        let name = split(path).1;
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        rustix::fs::chownat(&*parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::system("set the owner of", path))?;
        if let ModeOf::File = mode {
            rustix::fs::chmodat(&*parent, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())
                .map_err(LayerError::system("set the mode of", path))?;
        }
        rustix::fs::utimensat(&*parent, name, &timestamps(metadata.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::system("set the times of", path))
    }
}

fn set_opaque(directory: &OwnedFd, path: &[u8]) -> Result<(), LayerError> {
    rustix::fs::fsetxattr(directory, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty()).map_err(LayerError::system("make opaque", path))
}

/// Whether there is a mode to set: symbolic links have none.
enum ModeOf {
    File,
    Nothing,
}

/// As if the layer's root were `/`; no magic links of /proc, no other file system mounted inside.
const WITHIN: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);

/// Modification time as given, access time untouched.
pub(super) fn timestamps(modified: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanoseconds) },
    }
}
