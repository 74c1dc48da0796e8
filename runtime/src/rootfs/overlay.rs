//! The layers of an image and the container's own changes as one file system, mounted nowhere.

use super::stack::{self, Changes};
use crate::container::config::IdMapping;
use crate::sys::{MountAttributes, Reach, set_mount_attributes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, Uid};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::io;
use std::path::{Path, PathBuf};

/// The root of a container: `layers`, lowest first, below `directory/upper`. Without layers just `upper`.
///
/// With a user namespace the layers are seen through it and stay on disk as they are, shared with everybody; what the container changes
/// has its host ids in `upper`. Errors: as [`stack::mount`] and [`stack::mount_detached`].
pub(crate) fn mount(layers: &[PathBuf], directory: &Path, ids: Option<(IdMapping, BorrowedFd<'_>)>) -> io::Result<OwnedFd> {
    let owner = ids.map_or(0, |(mapping, _)| mapping.first);
    for part in ["upper", "work"] {
        make_directory(&directory.join(part), owner)?;
    }
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    let changes = Changes { upper: &upper, work: &work };
    let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    match ids {
        _ if layers.is_empty() => private_copy(&upper, None),
        None => stack::mount(&layers, Some(changes)),
        Some((_, namespace)) => {
            // A detached mount is gone with its descriptor; overlay copies them only at the end.
            let seen = |layer: &&Path| private_copy(layer, Some(namespace));
            stack::mount_detached(&stack::distinct(&layers).iter().map(seen).collect::<io::Result<Vec<_>>>()?, changes)
        }
    }
}

/// A file or directory of what layers, lowest first, make: with a directory for `changes` over them, else as they are. A link that leads
/// out of them leads nowhere.
pub(super) fn part(layers: &[PathBuf], path: &str, changes: Option<&Path>) -> io::Result<OwnedFd> {
    let directories = changes.map(|changes| (changes.join("upper"), changes.join("work")));
    for directory in directories.iter().flat_map(|(upper, work)| [upper, work]) {
        make_directory(directory, 0)?;
    }
    let changes = directories.as_ref().map(|(upper, work)| Changes { upper, work });
    let stack: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    let tree = match (stack.as_slice(), changes) {
        // An overlay has at least two.
        ([only], None) => private_copy(only, None)?,
        _ => stack::mount(&stack, changes)?,
    };
    if path == "/" { Ok(tree) } else { stack::part(tree, path) }
}

/// A detached copy of a host directory or file, seen through a user namespace if one is given, and cut off from its peers.
pub(super) fn private_copy(path: &Path, user_namespace: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let copy = copy_of_host(path, OpenTreeFlags::AT_RECURSIVE)?;
    let attributes = user_namespace.map_or(MountAttributes::default(), MountAttributes::id_mapped);
    set_mount_attributes(copy.as_fd(), MountAttributes::PRIVATE.and(attributes), Reach::All)?;
    Ok(copy)
}

/// A detached, inert, read-only copy of one of the kernel's own trees, without what the host has mounted below it.
pub(super) fn kernel_copy(path: &Path) -> io::Result<OwnedFd> {
    let copy = copy_of_host(path, OpenTreeFlags::empty())?;
    let attributes = MountAttributes::PRIVATE.and(MountAttributes::READ_ONLY).and(MountAttributes::INERT);
    set_mount_attributes(copy.as_fd(), attributes, Reach::One)?;
    Ok(copy)
}

fn copy_of_host(path: &Path, depth: OpenTreeFlags) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | depth)?)
}

fn make_directory(path: &Path, owner: u32) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        // `upper` itself is what programs see as `/`: its mode must not depend on our umask, and its owner is root inside.
        Ok(()) => {
            rustix::fs::chmod(path, Mode::from_raw_mode(0o755))?;
            Ok(rustix::fs::chown(path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?)
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
