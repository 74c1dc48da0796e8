//! Trees copied beneath two directory descriptors: contents, owners, modes, times, attributes, hard links; nothing is followed.
//!
//! Fills an empty volume with what the image has at its target, in the init stage, inside the container's own root; and carries files
//! between the host and a container.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod, fgetxattr, flistxattr,
    fsetxattr, linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;

/// Deepest tree that is copied: PATH_MAX allows 2048 one-letter directories, no image has a tenth of it, and each costs stack.
const DEPTH_MAX: usize = 256;
/// Most bytes of one file's attribute names or of one value: the kernel's own limits, xattr(7).
const ATTRIBUTE_BYTES_MAX: usize = 65_536;

/// Copies the tree `from` into the directory `to` if that is empty, and gives `to` the owner and mode of `from`.
pub(super) fn fill(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let from = reopen(from)?;
    let to = reopen(to)?;
    if !is_empty(&to)? {
        return Ok(());
    }
    let mut copier = Copier { links: BTreeMap::new(), top: to, existing: Existing::Refuse, owner: None };
    let top = copier.top.try_clone()?;
    copier.copy_directory(&from, &top, "", 0)?;
    copier.finish_directory(&from, &top)
}

/// Who owns what was copied: whoever owned the original if `None`.
pub(crate) type Owner = Option<(Uid, Gid)>;

/// Copies what is in the directory `from` into the directory `to`, over what is there.
pub(crate) fn copy_contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>, owner: Owner) -> io::Result<()> {
    let (from, to) = (reopen(from)?, reopen(to)?);
    let mut copier = Copier { links: BTreeMap::new(), top: to.try_clone()?, existing: Existing::Replace, owner };
    copier.copy_directory(&from, &to, "", 0)
}

/// Copies what has this name in the directory `from` into the directory `to` under another, over what is there.
pub(crate) fn copy_named(from: (BorrowedFd<'_>, &CStr), to: (BorrowedFd<'_>, &CStr), owner: Owner) -> io::Result<()> {
    let (source, target) = (reopen(from.0)?, reopen(to.0)?);
    let mut copier = Copier { links: BTreeMap::new(), top: target.try_clone()?, existing: Existing::Replace, owner };
    copier.copy_entry((&source, from.1), (&target, to.1), &to.1.to_string_lossy(), 0)
}

/// What becomes of something that is where a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// It cannot be: the copy fails.
    Refuse,
    /// A directory takes what is copied beside what it has; all else gives way, if what comes is no directory.
    Replace,
}

struct Copier {
    /// Where a file with several names was put first, from the top.
    links: BTreeMap<(u64, u64), String>,
    top: OwnedFd,
    existing: Existing,
    owner: Owner,
}

impl Copier {
    fn copy_directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &str, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let path = format!("{path}/{}", name.to_string_lossy());
                self.copy_entry((from, name), (to, name), path.trim_start_matches('/'), depth)?;
            }
        }
        Ok(())
    }

    fn copy_entry(&mut self, from: (&OwnedFd, &CStr), to: (&OwnedFd, &CStr), path: &str, depth: usize) -> io::Result<()> {
        let ((from, source), (to, name)) = (from, to);
        let stat = statat(from, source, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.existing == Existing::Replace && kind != FileType::Directory {
            match rustix::fs::unlinkat(to, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                return Ok(linkat(&self.top, first.as_str(), to, name, AtFlags::empty())?);
            }
            self.links.insert(key, path.to_owned());
        }
        match kind {
            FileType::Directory => {
                match mkdirat(to, name, Mode::from_raw_mode(0o700)) {
                    Err(Errno::EXIST) if self.existing == Existing::Replace => {}
                    made => made?,
                }
                let (from, to) = (open(from, source, OFlags::DIRECTORY)?, open(to, name, OFlags::DIRECTORY)?);
                self.copy_directory(&from, &to, path, depth + 1)?;
                return self.finish_directory(&from, &to);
            }
            FileType::RegularFile => {
                let from = open(from, source, OFlags::NONBLOCK)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let to = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                io::copy(&mut File::from(from.try_clone()?), &mut File::from(to.try_clone()?))?;
                let (user, group) = self.owner_of(&stat);
                rustix::fs::fchown(&to, Some(user), Some(group))?;
                copy_attributes(&from, &to)?;
                fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, source, Vec::new())?, to, name)?;
                self.own(to, name, &stat)?;
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                self.own(to, name, &stat)?;
                rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
            }
            // A socket is nothing without the process that listens.
            FileType::Socket | FileType::Unknown => return Ok(()),
        }
        Ok(utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn finish_directory(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        let stat = rustix::fs::fstat(from)?;
        let (user, group) = self.owner_of(&stat);
        rustix::fs::fchown(to, Some(user), Some(group))?;
        copy_attributes(from, to)?;
        fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
        Ok(rustix::fs::futimens(to, &times(&stat))?)
    }

    fn own(&self, directory: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let (user, group) = self.owner_of(stat);
        Ok(chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn owner_of(&self, original: &Stat) -> (Uid, Gid) {
        self.owner.unwrap_or((Uid::from_raw(original.st_uid), Gid::from_raw(original.st_gid)))
    }
}

/// Extended attributes. Those that only the host's root may set are left out where that is refused.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut names = vec![0u8; ATTRIBUTE_BYTES_MAX];
    let length = match flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if length == 0 {
        return Ok(());
    }
    let mut value = vec![0u8; ATTRIBUTE_BYTES_MAX];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = fgetxattr(from, name, value.as_mut_slice())?;
        match fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ }, last_modification: modified }
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        // The root of a freshly made ext4 has this and nothing else.
        if ![c".", c"..", c"lost+found"].contains(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open(directory: &OwnedFd, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// An O_PATH descriptor as one that can be read.
fn reopen(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(openat(directory.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn directory(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_tree_arrives_as_it_was_and_only_once() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("sub")).unwrap();
        fs::write(from.path().join("sub/file"), "content").unwrap();
        fs::set_permissions(from.path().join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.path().join("sub/file"), from.path().join("again")).unwrap();
        symlink("/etc/shadow", from.path().join("link")).unwrap();
        fs::set_permissions(from.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        fill(directory(from.path()).as_fd(), directory(to.path()).as_fd()).unwrap();
        let copied = fs::metadata(to.path().join("sub/file")).unwrap();
        assert_eq!((copied.mode() & 0o7777, copied.nlink()), (0o4751, 2));
        assert_eq!(copied.mtime(), fs::metadata(from.path().join("again")).unwrap().mtime());
        assert_eq!(fs::read_link(to.path().join("link")).unwrap().to_str(), Some("/etc/shadow"));
        assert_eq!(fs::metadata(to.path()).unwrap().mode() & 0o7777, 0o1777);

        fs::write(from.path().join("late"), "").unwrap();
        fill(directory(from.path()).as_fd(), directory(to.path()).as_fd()).unwrap();
        assert!(!to.path().join("late").exists(), "a volume with content is left alone");
    }
}
