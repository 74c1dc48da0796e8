//! The layers of an image and the container's own changes as one file system, mounted nowhere.

use super::{copy_of_mount, detached, explained, finish};
use crate::sys::{MountAttributes, Reach, set_mount_attributes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsOpenFlags, MountAttrFlags, fsconfig_set_fd, fsconfig_set_string, fsopen};
use std::io;
use std::path::{Path, PathBuf};

/// Whatever the module's defaults are: a changed directory or file is wholly in `upper`, so that it can become a layer.
const PLAIN: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];

/// The root of a container: `layers`, lowest first, below `directory/upper`. Without layers just `upper`.
///
/// With a user namespace every layer is seen through it: files stay on disk as they are and belong to the container's ids inside.
/// Errors: `EINVAL` above 500 layers; on a kernel before 6.13 with a user namespace.
pub(super) fn mount(layers: &[PathBuf], directory: &Path, user_namespace: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    for part in ["upper", "work"] {
        make_directory(&directory.join(part))?;
    }
    match (user_namespace, layers.is_empty()) {
        (None, true) => private_copy(&directory.join("upper"), None),
        (Some(namespace), true) => private_copy(&directory.join("upper"), Some(namespace)),
        (None, false) => {
            let lower = layers.iter().rev().map(|layer| Ok(("lowerdir+", text(layer)?)));
            let (upper, work) = (directory.join("upper"), directory.join("work"));
            let upper = [Ok(("upperdir", text(&upper)?)), Ok(("workdir", text(&work)?))];
            let options: Vec<_> = lower.chain(upper).chain(PLAIN.map(Ok)).collect::<io::Result<_>>()?;
            detached("overlay", &options, MountAttrFlags::empty())
        }
        (Some(namespace), false) => mount_id_mapped(layers, directory, namespace),
    }
}

/// A detached copy of a host directory or file, seen through a user namespace if one is given, and cut off from its peers.
pub(super) fn private_copy(path: &Path, user_namespace: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let found = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let copy = copy_of_mount(found.as_fd(), "")?;
    let attributes = user_namespace.map_or(MountAttributes::default(), MountAttributes::id_mapped);
    set_mount_attributes(copy.as_fd(), MountAttributes::PRIVATE.and(attributes), Reach::All)?;
    Ok(copy)
}

fn mount_id_mapped(layers: &[PathBuf], directory: &Path, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let told = |name: &str, fd: BorrowedFd<'_>| fsconfig_set_fd(&context, name, fd).map_err(|errno| explained(context.as_fd(), errno));
    for layer in layers.iter().rev() {
        told("lowerdir+", private_copy(layer, Some(namespace))?.as_fd())?;
    }
    // The upper and work directories must be reached through one mount.
    let own = private_copy(directory, Some(namespace))?;
    for (name, part) in [("upperdir", "upper"), ("workdir", "work")] {
        told(name, openat(&own, part, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.as_fd())?;
    }
    for (name, value) in PLAIN {
        fsconfig_set_string(&context, name, value)?;
    }
    finish(context.as_fd(), MountAttrFlags::empty())
}

fn make_directory(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        // The root directory itself is what programs see as `/`, whatever the umask was.
        Ok(()) => Ok(rustix::fs::chmod(path, Mode::from_raw_mode(0o755))?),
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not UTF-8", path.display())))
}
