//! A directory as if it were `/`: the only way this builder reaches a path inside a context, stage or image.
//!
//! Paths are resolved one name at a time, each opened without following links and beneath the descriptor of the one before; links are
//! read and resolved by us, `..` by our own stack. So no link, however it is made or changed meanwhile, leads out of the root.

use super::TreeError;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Most symbolic links in one resolution, as in the kernel.
const LINKS_MAX: usize = 40;

/// A directory that is the root of all paths given to it.
#[derive(Debug, Clone)]
pub struct Root {
    descriptor: Arc<OwnedFd>,
}

/// Where a path leads.
#[derive(Debug)]
pub struct Spot {
    /// The directory that holds it.
    pub directory: Arc<OwnedFd>,
    /// Its name there; `None` if the path is `directory` itself.
    pub name: Option<Vec<u8>>,
    /// What is there; `None` if nothing is.
    pub found: Option<Stat>,
    /// Its path from the root without links, dots or a leading slash.
    pub path: Vec<u8>,
}

/// What to do about a missing directory on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Fail,
    /// Make it, mode 0755.
    Create(Owner),
}

/// What to do about a link at the very end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// Go where it leads, even if nothing is there.
    Follow,
    /// It is what was asked for.
    Keep,
}

/// User and group numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
}

impl Owner {
    /// 0:0.
    pub const ROOT: Self = Self { user: 0, group: 0 };
}

/// The way from the root to where a resolution stands.
struct Way {
    directories: Vec<Arc<OwnedFd>>,
    names: Vec<Vec<u8>>,
    links: usize,
}

impl Root {
    /// Opens a directory of our own.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor =
            rustix::fs::open(path, flags, Mode::empty()).map_err(TreeError::of("open", path.as_os_str().as_encoded_bytes()))?;
        Ok(Self::of(descriptor))
    }

    /// Takes an open directory.
    pub fn of(descriptor: OwnedFd) -> Self {
        Self { descriptor: Arc::new(descriptor) }
    }

    /// The root directory itself.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// Where a path leads, links on the way followed as if this root were `/`.
    pub fn find(&self, path: &[u8], missing: Missing, last: LastLink) -> Result<Spot, TreeError> {
        self.resolve(path, missing, last).map_err(TreeError::of("resolve", path))
    }

    /// The directory at a path, made with all its parents where missing.
    pub fn ensure_directory(&self, path: &[u8], owner: Owner) -> Result<OwnedFd, TreeError> {
        let mut inside = path.to_vec();
        // A name that is sure to be missing makes the path itself a parent, which is then made.
        inside.extend_from_slice(b"/\xff");
        let spot = self.resolve(&inside, Missing::Create(owner), LastLink::Keep).map_err(TreeError::of("resolve", path))?;
        spot.directory.try_clone().map_err(TreeError::io("open", path))
    }

    /// Gives another root the owner and mode of this one.
    pub fn copy_attributes_of_root(&self, to: &Self) -> Result<(), TreeError> {
        let stat = rustix::fs::fstat(&*self.descriptor).map_err(TreeError::of("stat", b"/"))?;
        chown(&*to.descriptor, b".", Owner { user: stat.st_uid, group: stat.st_gid }).map_err(TreeError::of("set the owner of", b"/"))?;
        rustix::fs::fchmod(&*to.descriptor, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(TreeError::of("set the mode of", b"/"))
    }

    /// The file's bytes; `None` if it is absent. At most `limit` bytes are read.
    pub fn read(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, TreeError> {
        use std::io::Read as _;
        let spot = match self.resolve(path, Missing::Fail, LastLink::Follow) {
            Ok(spot) => spot,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(TreeError::of("resolve", path)(error)),
        };
        let (Some(name), Some(stat)) = (&spot.name, &spot.found) else { return Ok(None) };
        if !is_file(stat) {
            return Ok(None);
        }
        let file = open_file(&spot.directory, name).map_err(TreeError::of("open", path))?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(limit).read_to_end(&mut bytes).map_err(TreeError::io("read", path))?;
        Ok(Some(bytes))
    }

    fn resolve(&self, path: &[u8], missing: Missing, last: LastLink) -> Result<Spot, Errno> {
        let mut rest: VecDeque<Vec<u8>> = parts(path);
        let mut way = Way { directories: vec![Arc::clone(&self.descriptor)], names: Vec::new(), links: 0 };
        while let Some(part) = rest.pop_front() {
            if part == b".." {
                way.up();
                continue;
            }
            let here = Arc::clone(way.here());
            let found = match rustix::fs::statat(&*here, part.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error),
            };
            let is_last = rest.is_empty();
            match found {
                Some(stat) if is_link(&stat) && (!is_last || last == LastLink::Follow) => {
                    way.follow(&here, &part, &mut rest)?;
                }
                found if is_last => return Ok(way.end(part, found)),
                Some(_) => way.down(part)?,
                None => {
                    let Missing::Create(owner) = missing else { return Err(Errno::NOENT) };
                    make_directory(&here, &part, owner)?;
                    way.down(part)?;
                }
            }
        }
        let found = rustix::fs::fstat(&**way.here())?;
        let path = way.names.join(&b'/');
        Ok(Spot { directory: Arc::clone(way.here()), name: None, found: Some(found), path })
    }
}

impl Way {
    fn here(&self) -> &Arc<OwnedFd> {
        self.directories.last().expect("the root is never taken off")
    }

    fn up(&mut self) {
        if self.directories.len() > 1 {
            self.directories.pop();
            self.names.pop();
        }
    }

    fn down(&mut self, name: Vec<u8>) -> Result<(), Errno> {
        let directory = open_directory(self.here(), &name)?;
        self.directories.push(Arc::new(directory));
        self.names.push(name);
        Ok(())
    }

    /// Puts what a link says in front of the rest of the way.
    fn follow(&mut self, here: &OwnedFd, name: &[u8], rest: &mut VecDeque<Vec<u8>>) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(here, name, Vec::new())?.into_bytes();
        if target.first() == Some(&b'/') {
            self.directories.truncate(1);
            self.names.clear();
        }
        parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
        Ok(())
    }

    fn end(mut self, name: Vec<u8>, found: Option<Stat>) -> Spot {
        let directory = Arc::clone(self.here());
        self.names.push(name.clone());
        Spot { directory, name: Some(name), found, path: self.names.join(&b'/') }
    }
}

impl Spot {
    /// Whether a directory is there.
    pub fn is_directory(&self) -> bool {
        self.found.as_ref().is_some_and(is_directory)
    }

    /// Opens the directory that is there.
    pub fn open_directory(&self) -> Result<Arc<OwnedFd>, TreeError> {
        match &self.name {
            None => Ok(Arc::clone(&self.directory)),
            Some(name) => open_directory(&self.directory, name).map(Arc::new).map_err(TreeError::of("open", &self.path)),
        }
    }
}

/// The names of a path without the empty ones and the dots.
fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}

/// Opens a directory of this name, not a link to one.
pub(super) fn open_directory(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Opens a file of this name for reading, not a link to one; a pipe does not block.
pub(super) fn open_file(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Makes a directory, mode 0755 whatever the umask.
pub(super) fn make_directory(directory: &OwnedFd, name: &[u8], owner: Owner) -> Result<(), Errno> {
    rustix::fs::mkdirat(directory, name, Mode::RWXU)?;
    chown(directory, name, owner)?;
    rustix::fs::chmodat(directory, name, Mode::from_raw_mode(0o755), AtFlags::empty())
}

/// Sets the owner of a name, never of what it links to.
pub(super) fn chown(directory: impl AsFd, name: &[u8], owner: Owner) -> Result<(), Errno> {
    let user = rustix::fs::Uid::from_raw(owner.user);
    let group = rustix::fs::Gid::from_raw(owner.group);
    rustix::fs::chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
}

/// Modification time as given, access time untouched.
pub(super) fn modified(seconds: i64, nanoseconds: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

pub(super) fn is_link(stat: &Stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFLNK
}

pub(super) fn is_file(stat: &Stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_leads_out() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        std::fs::create_dir_all(path.join("a/b")).expect("directories");
        symlink("/etc", path.join("absolute")).expect("link");
        symlink("../../../../etc", path.join("a/up")).expect("link");
        symlink("loop", path.join("loop")).expect("link");
        symlink("/a/b", path.join("to-b")).expect("link");
        symlink("nowhere/x", path.join("dangling")).expect("link");
        let root = Root::open(path).expect("root");
        let find = |text: &str, last| root.find(text.as_bytes(), Missing::Fail, last).map(|spot| (spot.path, spot.found.is_some()));
        let spot = |text: &str| find(text, LastLink::Follow).expect(text);
        assert_eq!(spot("/a/b"), (b"a/b".to_vec(), true));
        assert_eq!(spot("to-b"), (b"a/b".to_vec(), true));
        assert_eq!(spot("to-b/../b/./"), (b"a/b".to_vec(), true));
        assert_eq!(spot("/../../a"), (b"a".to_vec(), true));
        assert_eq!(spot("/"), (Vec::new(), true));
        assert_eq!(spot("absolute"), (b"etc".to_vec(), false));
        assert_eq!(spot("a/up"), (b"etc".to_vec(), false));
        assert_eq!(find("absolute", LastLink::Keep).expect("link"), (b"absolute".to_vec(), true));
        assert!(find("absolute/passwd", LastLink::Follow).is_err());
        assert!(find("loop", LastLink::Follow).is_err());
        assert!(find("dangling", LastLink::Follow).is_err());
        let made = root.find(b"dangling", Missing::Create(Owner::ROOT), LastLink::Follow).expect("made");
        assert_eq!((made.path, made.found.is_some()), (b"nowhere/x".to_vec(), false));
        assert!(path.join("nowhere").is_dir() && !path.join("nowhere/x").exists());
        root.ensure_directory(b"absolute/new/deep", Owner::ROOT).expect("made inside");
        assert!(path.join("etc/new/deep").is_dir());
        assert!(!Path::new("/etc/new").exists());
    }
}
