//! Paths below a container's root: opened and created from its descriptor, never leaving it, whatever links an image holds.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};

/// How many symbolic links one path may go through: the kernel's own limit, path_resolution(7).
const LINKS_MAX: usize = 40;
/// statfs(2) type of procfs.
const PROCFS_MAGIC: u64 = 0x9fa0;

/// The root directory of a container.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// What a mount is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Whether a symbolic link may be gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Inside the root, as the container would.
    Follow,
    /// Refused with `ELOOP`: an image that has a link where the kernel's own files go is an attack (CVE-2019-19921).
    Refuse,
}

impl Root {
    /// Takes the descriptor of a root directory.
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens what is there, links followed inside the root, never one of procfs's magic links.
    pub(crate) fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // A rename elsewhere on the host while `..` was resolved: the kernel asks to try again.
                Err(Errno::AGAIN) => {}
                opened => return Ok(opened?),
            }
        }
    }

    /// Reads a small regular file; `None` if there is none. A device, a pipe or a huge file is refused (CVE-2024-9676).
    pub(crate) fn read_file(&self, path: &str, bytes_max: u64) -> io::Result<Option<String>> {
        // Not blocking on a pipe that an image put there.
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("not a regular file"));
        }
        let mut text = Vec::new();
        File::from(file).take(bytes_max + 1).read_to_end(&mut text)?;
        if text.len() as u64 > bytes_max {
            return Err(io::Error::other(format!("larger than {bytes_max} bytes")));
        }
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Makes a directory exist, with its parents, mode 0755, and opens it (O_PATH).
    pub(crate) fn ensure_directory(&self, path: &str) -> io::Result<OwnedFd> {
        self.ensure(path, Kind::Directory, Links::Follow)
    }

    /// Makes a mount target exist and opens it (O_PATH). Each component is opened by itself without following, links are read and walked
    /// by us, and `..` ends at the root: there is no moment at which the kernel could resolve beyond it.
    pub(super) fn ensure(&self, path: &str, kind: Kind, links: Links) -> io::Result<OwnedFd> {
        let mut pending: Vec<String> = components(path);
        let mut stack: Vec<OwnedFd> = Vec::new();
        let mut followed = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                stack.pop();
                continue;
            }
            let here = stack.last().map_or(self.0.as_fd(), AsFd::as_fd);
            let is_last = pending.is_empty();
            let entry = open_or_create(here, &name, if is_last { kind } else { Kind::Directory })?;
            match FileType::from_raw_mode(fstat(&entry)?.st_mode) {
                FileType::Symlink => {
                    followed += 1;
                    // What /proc/self/fd/7 says is not where it leads.
                    let is_magic = fstatfs(&entry)?.f_type as u64 == PROCFS_MAGIC;
                    if followed > LINKS_MAX || links == Links::Refuse || is_magic {
                        return Err(Errno::LOOP.into());
                    }
                    let target = readlinkat(here, name.as_str(), Vec::new())?;
                    let target = target.to_str().map_err(|_| Errno::INVAL)?;
                    if target.starts_with('/') {
                        stack.clear();
                    }
                    pending.extend(components(target));
                }
                FileType::Directory if is_last && kind == Kind::File => return Err(Errno::ISDIR.into()),
                FileType::Directory => stack.push(entry),
                _ if is_last && kind == Kind::File => return Ok(entry),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        match stack.pop() {
            Some(directory) if kind == Kind::Directory => Ok(directory),
            // The path led back to the root itself, over which nothing is mounted.
            Some(_) | None => Err(Errno::INVAL.into()),
        }
    }

    /// Opens a directory that must exist (O_PATH); `/` too.
    pub(crate) fn open_directory(&self, path: &str) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The parts of a path, last one first.
fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").rev().map(str::to_owned).collect()
}

fn open_or_create(directory: BorrowedFd<'_>, name: &str, kind: Kind) -> io::Result<OwnedFd> {
    let look = || openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match look() {
        Err(Errno::NOENT) => {}
        found => return Ok(found?),
    }
    match kind {
        Kind::Directory => match mkdirat(directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        },
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(directory, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(look()?)
}

/// Whether two descriptors are the same file.
pub(super) fn is_same(left: BorrowedFd<'_>, right: BorrowedFd<'_>) -> io::Result<bool> {
    let (left, right) = (fstat(left)?, rustix::fs::statat(right, "", AtFlags::EMPTY_PATH)?);
    Ok((left.st_dev, left.st_ino) == (right.st_dev, right.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(at: &std::path::Path) -> Root {
        Root::new(rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap())
    }

    #[test]
    fn links_lead_to_places_inside_the_root_only() {
        let host = tempfile::tempdir().unwrap();
        let inside = host.path().join("root");
        std::fs::create_dir_all(inside.join("a")).unwrap();
        symlink(host.path(), inside.join("absolute")).unwrap();
        symlink("../../../../../../..", inside.join("a/up")).unwrap();
        symlink("/made", inside.join("dangling")).unwrap();
        let root = root(&inside);
        root.ensure_directory("/a/up/x").unwrap();
        root.ensure_directory("/dangling/y").unwrap();
        root.ensure("/absolute/z", Kind::File, Links::Follow).unwrap();
        assert!(inside.join("x").is_dir() && inside.join("made/y").is_dir());
        assert!(inside.join(host.path().strip_prefix("/").unwrap()).join("z").is_file());
        assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 1, "nothing appears beside the root");
    }

    #[test]
    fn links_can_be_refused_and_cannot_go_round_for_ever() {
        let inside = tempfile::tempdir().unwrap();
        symlink("/etc", inside.path().join("proc")).unwrap();
        symlink("loop", inside.path().join("loop")).unwrap();
        let root = root(inside.path());
        let errno = |result: io::Result<OwnedFd>| result.unwrap_err().raw_os_error();
        assert_eq!(errno(root.ensure("/proc", Kind::Directory, Links::Refuse)), Some(libc::ELOOP));
        assert_eq!(errno(root.ensure_directory("/loop")), Some(libc::ELOOP));
        assert_eq!(errno(root.ensure_directory("/..")), Some(libc::EINVAL));
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let inside = tempfile::tempdir().unwrap();
        let fifo = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, inside.path().join("fifo"), FileType::Fifo, fifo, 0).unwrap();
        std::fs::write(inside.path().join("big"), [b'x'; 11]).unwrap();
        symlink("/etc/passwd", inside.path().join("passwd")).unwrap();
        let root = root(inside.path());
        assert_eq!(root.read_file("fifo", 10).unwrap_err().to_string(), "not a regular file");
        assert_eq!(root.read_file("big", 10).unwrap_err().to_string(), "larger than 10 bytes");
        assert_eq!(root.read_file("passwd", 10).unwrap(), None, "the host's is not seen");
    }
}
