//! The container's file system: the one room where paths are resolved in territory that the container controls.
//!
//! [`sources`] runs in the starter: everything that lies on the host is opened there, as detached mounts that appear nowhere.
//! [`assemble`] runs in the init stage: it makes the root its own and lets go of the host's first, and only then mounts anything, each
//! target resolved component by component from the root's descriptor ([`beneath`]). Masks are resolved from the descriptors of our own
//! procfs and sysfs, so nothing in an image or a volume can stand in for them.

mod assemble;
mod beneath;
mod copy_up;
mod device;
mod etc;
mod kernel;
mod overlay;
mod sources;
mod stack;

pub(crate) use assemble::{Assembly, assemble};
pub(crate) use beneath::Root;
pub(crate) use copy_up::{Owner, copy_contents, copy_named};
pub(crate) use device::{Terminal, open_terminal};
pub(crate) use etc::check_hostname;
pub(crate) use overlay::mount as mount_root;
pub(crate) use sources::{Sources, prepare};
pub(crate) use stack::{Changes, mount as mount_layers};

use crate::sys::{MountAttributes, Reach, set_mount_attributes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree,
};
use std::io;

/// A new file system that is mounted nowhere yet. Errors carry what the file system itself says.
fn detached(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(context.as_fd(), *name, *value).map_err(|errno| explained(context.as_fd(), errno))?;
    }
    finish(context.as_fd(), attributes)
}

/// Makes the mount that a context describes.
fn finish(context: BorrowedFd<'_>, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    fsconfig_create(context).map_err(|errno| explained(context, errno))?;
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The reason as a file system logs it on its context: `e overlay: lowerdir is not a directory`.
fn explained(context: BorrowedFd<'_>, errno: Errno) -> io::Error {
    let mut line = [0u8; 512];
    match rustix::io::read(context, &mut line) {
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&line[2..length]);
            io::Error::new(io::Error::from(errno).kind(), format!("{} ({errno})", text.trim()))
        }
        Ok(_) | Err(_) => errno.into(),
    }
}

/// Puts a detached mount over a file or directory.
fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// A detached copy of what is mounted at `path` below `directory`, with everything mounted below it.
fn copy_of_mount(directory: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let flags = if path.is_empty() { flags | OpenTreeFlags::AT_EMPTY_PATH } else { flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW };
    Ok(open_tree(directory, path, flags)?)
}

/// Makes a mount and all below it read-only.
fn make_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    set_mount_attributes(mount, MountAttributes::READ_ONLY, Reach::All)
}
