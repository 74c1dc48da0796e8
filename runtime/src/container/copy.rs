//! `copy`: files between the host and a container, whether or not it runs, as cp(1) would: what is a directory already takes what is
//! copied, what is a file is replaced.
//!
//! Both sides are roots that no link leads out of: the host's is `/`, that of a running container is what its process sees.

use super::config::{ContainerConfig, IdMapping, MountConfig};
use super::error::ContainerError;
use super::list::{inspect, running_process};
use super::lock::{self, Lock};
use crate::places::Places;
use crate::rootfs::{Owner, Root, copy_contents, copy_named, mount_root};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, fstat, mkdirat, open, statat};
use spec::value::ContainerId;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Whose the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Those of root, on the side that they come to.
    Root,
    /// Those of the originals, by their numbers.
    Keep,
}

/// Copies from a container to an absolute path of the host.
pub fn copy_out(places: &Places, id: &ContainerId, source: &str, target: &str, owners: Owners) -> Result<(), ContainerError> {
    let side = Side::open(places, id, source)?;
    let host = host().map_err(ContainerError::file("open", "/"))?;
    let owner = owner(owners, None);
    copy((&side.root, &side.path), (&host, target), owner).map_err(ContainerError::file("copy", source))
}

/// Copies from an absolute path of the host to a container.
pub fn copy_in(places: &Places, id: &ContainerId, source: &str, target: &str, owners: Owners) -> Result<(), ContainerError> {
    let side = Side::open(places, id, target)?;
    let host = host().map_err(ContainerError::file("open", "/"))?;
    copy((&host, source), (&side.root, &side.path), owner(owners, side.ids)).map_err(ContainerError::file("copy", source))
}

fn owner(owners: Owners, ids: Option<IdMapping>) -> Owner {
    let root = ids.map_or(0, |ids| ids.first);
    match owners {
        Owners::Root => Some((Uid::from_raw(root), Gid::from_raw(root))),
        Owners::Keep => None,
    }
}

/// A container's files, and a path in them.
struct Side {
    root: Root,
    path: String,
    ids: Option<IdMapping>,
    /// Nobody starts it meanwhile: what it changes is mounted once at a time.
    _lock: Option<Lock>,
}

impl Side {
    fn open(places: &Places, id: &ContainerId, path: &str) -> Result<Self, ContainerError> {
        let lock = lock::lock(places, id)?;
        let snapshot = inspect(places, id)?;
        let ids = snapshot.config.user_namespace;
        if let Some(process) = running_process(&snapshot.state) {
            let place = format!("/proc/{}/root", process.pid);
            let root = directory(Path::new(&place)).map_err(ContainerError::file("open", place))?;
            // The number may have become another's before it was opened.
            if running_process(&snapshot.state).is_none() {
                return Err(ContainerError::NotRunning { id: id.clone() });
            }
            return Ok(Self { root: Root::new(root), path: path.to_owned(), ids, _lock: None });
        }
        let (root, path) = at_rest(places, &snapshot.config, path)?;
        Ok(Self { root: Root::new(root), path, ids, _lock: Some(lock) })
    }
}

/// The root that a path of a container at rest lies in: that of a volume or of a directory of the host, or its own.
fn at_rest(places: &Places, config: &ContainerConfig, path: &str) -> Result<(OwnedFd, String), ContainerError> {
    let path = format!("/{}", path.trim_start_matches('/'));
    let beneath = |mount: &MountConfig| match mount {
        MountConfig::Bind { source, target, .. } => {
            let rest = path.strip_prefix(target.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            source.is_dir().then(|| (source.clone(), format!("/{}", rest.trim_start_matches('/'))))
        }
        MountConfig::Layers { .. } | MountConfig::Tmpfs { .. } => None,
    };
    // Sorted: the innermost is the last.
    match config.mounts.iter().filter_map(beneath).next_back() {
        Some((source, rest)) => Ok((directory(&source).map_err(ContainerError::file("open", source))?, rest)),
        None => {
            let own = places.container(&config.id);
            Ok((mount_root(&config.layers, &own, None).map_err(ContainerError::file("mount the files of", own))?, path))
        }
    }
}

fn host() -> io::Result<Root> {
    directory(Path::new("/")).map(Root::new)
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What a path names: something in a directory, or what a directory holds (`/`, `dir/.`).
enum Source {
    Named { parent: OwnedFd, name: CString },
    Contents(OwnedFd),
}

fn copy(from: (&Root, &str), to: (&Root, &str), owner: Owner) -> io::Result<()> {
    let source = source(from.0, from.1)?;
    let is_directory = match &source {
        Source::Contents(_) => true,
        Source::Named { parent, name } => {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        }
    };
    let there = match to.0.open(to.1, OFlags::PATH) {
        Ok(there) => Some(there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let takes = match &there {
        Some(there) => FileType::from_raw_mode(fstat(there)?.st_mode) == FileType::Directory,
        None => false,
    };
    match (source, there) {
        (Source::Contents(source), Some(there)) if takes => copy_contents(source.as_fd(), there.as_fd(), owner),
        (Source::Named { parent, name }, Some(there)) if takes => copy_named((parent.as_fd(), &name), (there.as_fd(), &name), owner),
        (_, Some(_)) if is_directory => Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is no directory", to.1))),
        (_, None) if to.1.ends_with('/') && !is_directory => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no directory {}", to.1)))
        }
        (source, _) => {
            let (parent, name) = split(to.1.trim_end_matches('/')).ok_or(io::ErrorKind::InvalidInput)?;
            let parent = to.0.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            match source {
                Source::Named { parent: from, name: source } => copy_named((from.as_fd(), &source), (parent.as_fd(), &name), owner),
                Source::Contents(source) => {
                    mkdirat(&parent, &name, Mode::from_raw_mode(0o755))?;
                    let made = rustix::fs::openat(&parent, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                    copy_contents(source.as_fd(), made.as_fd(), owner)
                }
            }
        }
    }
}

fn source(root: &Root, path: &str) -> io::Result<Source> {
    let trimmed = path.trim_end_matches('/');
    match split(trimmed).filter(|(_, name)| ![c".", c".."].contains(&name.as_c_str())) {
        Some((parent, name)) => Ok(Source::Named { parent: root.open(parent, OFlags::PATH | OFlags::DIRECTORY)?, name }),
        None => Ok(Source::Contents(root.open(if trimmed.is_empty() { "/" } else { trimmed }, OFlags::PATH | OFlags::DIRECTORY)?)),
    }
}

/// A path's directory and its last name; `None` for `/`.
fn split(path: &str) -> Option<(&str, CString)> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = CString::new(name).ok().filter(|name| !name.is_empty())?;
    Some((if parent.is_empty() { "/" } else { parent }, name))
}
