//! Removal of whole trees that somebody hostile may have filled: any depth, any names, symbolic links never followed.

use super::FileError;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Removes `path` and all below it; fine if it is absent.
pub fn remove_tree(path: &Path) -> Result<(), FileError> {
    remove_tree_at(CWD, path).map_err(FileError::of("remove", path))
}

/// Removes `name` in `directory` and all below it; fine if it is absent. A symbolic link is removed, never followed.
///
/// Directories that are not empty are moved up beside the tree's first level and emptied in turn, so that neither the stack nor
/// the number of open files grows with the depth. The caller holds the tree exclusively.
pub fn remove_tree_at<Name: rustix::path::Arg + Copy>(directory: impl AsFd, name: Name) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
    let mut moved = 0_u64;
    while empty_level(&top, &top, &mut moved)? == Level::HasDirectories {
        for (child, _) in entries(&top)? {
            let child = rustix::fs::openat(&top, &child, flags, Mode::empty())?;
            empty_level(&child, &top, &mut moved)?;
        }
    }
    rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR)
}

#[derive(PartialEq, Eq)]
enum Level {
    Empty,
    HasDirectories,
}

/// Removes everything in `level` but directories that are not empty; those move up to `top` if `level` is not `top` itself.
fn empty_level(level: &OwnedFd, top: &OwnedFd, moved: &mut u64) -> Result<Level, Errno> {
    let mut left = Level::Empty;
    for (name, kind) in entries(level)? {
        // A directory fails unlink(2) anyway; types that the file system does not tell are found out by trying.
        let unlinked = if kind == FileType::Directory { Err(Errno::ISDIR) } else { rustix::fs::unlinkat(level, &name, AtFlags::empty()) };
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        match rustix::fs::unlinkat(level, &name, AtFlags::REMOVEDIR) {
            Ok(()) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => left = Level::HasDirectories,
            Err(error) => return Err(error),
        }
        if std::ptr::eq(level, top) {
            continue;
        }
        loop {
            *moved += 1;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(level, &name, top, format!(".removed-{moved}"), flags) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(left)
}

/// What is in a directory, read whole before anything in it changes.
fn entries(directory: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn removes_a_tree_deeper_than_any_path_and_keeps_what_links_point_at() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("out")).unwrap();
        let mut level = rustix::fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        // Longer than PATH_MAX, deeper than the usual limit of open files.
        for _ in 0..3000 {
            rustix::fs::mkdirat(&level, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/etc", &level, "l").unwrap();
            level = rustix::fs::openat(&level, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(level);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn what_is_absent_is_removed_already() {
        let directory = tempfile::tempdir().unwrap();
        remove_tree(&directory.path().join("nothing")).unwrap();
    }
}
