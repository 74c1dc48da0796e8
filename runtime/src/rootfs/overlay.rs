//! The layers of an image and the container's own changes as one file system, mounted nowhere.

use super::{copy_of_mount, detached, explained, finish};
use crate::container::config::IdMapping;
use crate::sys::{MountAttributes, Reach, set_mount_attributes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, openat};
use rustix::mount::{FsOpenFlags, MountAttrFlags, fsconfig_set_fd, fsconfig_set_string, fsopen};
use std::io;
use std::path::{Path, PathBuf};

/// Whatever the module's defaults are: a changed directory or file is wholly in `upper`, so that it can become a layer.
const PLAIN: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];

/// The root of a container: `layers`, lowest first, below `directory/upper`. Without layers just `upper`.
///
/// With a user namespace the layers are seen through it and stay on disk as they are, shared with everybody; what the container changes
/// has its host ids in `upper`. Errors: `EINVAL` above 500 layers; on a kernel before 6.15 with a user namespace.
pub(super) fn mount(layers: &[PathBuf], directory: &Path, ids: Option<(IdMapping, BorrowedFd<'_>)>) -> io::Result<OwnedFd> {
    let owner = ids.map_or(0, |(mapping, _)| mapping.first);
    for part in ["upper", "work"] {
        make_directory(&directory.join(part), owner)?;
    }
    match (ids, layers.is_empty()) {
        (_, true) => private_copy(&directory.join("upper"), None),
        (None, false) => {
            let lower = layers.iter().rev().map(|layer| Ok(("lowerdir+", text(layer)?)));
            let (upper, work) = (directory.join("upper"), directory.join("work"));
            let upper = [Ok(("upperdir", text(&upper)?)), Ok(("workdir", text(&work)?))];
            let options: Vec<_> = lower.chain(upper).chain(PLAIN.map(Ok)).collect::<io::Result<_>>()?;
            detached("overlay", &options, MountAttrFlags::empty())
        }
        (Some((_, namespace)), false) => mount_id_mapped(layers, directory, namespace),
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
    // A detached mount is gone with its descriptor; overlay copies them only at the end.
    let lower: Vec<OwnedFd> = layers.iter().rev().map(|layer| private_copy(layer, Some(namespace))).collect::<io::Result<_>>()?;
    lower.iter().try_for_each(|layer| told("lowerdir+", layer.as_fd()))?;
    // Overlay itself works in them as the host's root, whom an id map would leave without a name.
    for (name, part) in [("upperdir", "upper"), ("workdir", "work")] {
        fsconfig_set_string(&context, name, text(&directory.join(part))?)?;
    }
    for (name, value) in PLAIN {
        fsconfig_set_string(&context, name, value)?;
    }
    finish(context.as_fd(), MountAttrFlags::empty())
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

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not UTF-8", path.display())))
}
