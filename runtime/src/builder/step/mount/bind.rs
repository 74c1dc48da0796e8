//! What `--mount=type=bind` shows: the tree itself, reached by descriptor, wherever it can be shown as it has to look.
//!
//! A stage or an image is mounted as the layers it has. So is a directory of the context, with whiteouts over what `.dockerignore` hides,
//! if all of it belongs to root: in a build everything of the context does, and to change an owner takes a copy. A copy it is, too, where
//! other file systems are mounted in it, or the kernel takes no overlay over its own. What the command writes goes to a directory of the
//! step.

use super::hold::{Means, copy};
use crate::builder::error::StepError;
use crate::builder::step::source::{self, Found, From};
use crate::builder::tree::{Content, Entry, Overlay, Root, Veil, Writing};
use crate::container::config::MountConfig;
use crate::rootfs::mount_layers;
use crate::store::FileError;
use rustix::fs::{Mode, OFlags};
use spec::value::MountTarget;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Bits that let everybody look into a directory.
const OPEN: u32 = 0o055;

/// A bind mount as asked for.
#[derive(Clone, Copy)]
pub(super) struct Bind<'a> {
    pub(super) target: &'a MountTarget,
    pub(super) source: &'a str,
    pub(super) writable: bool,
}

/// For the container, with a descriptor that is to be held open as long as the mount is needed.
pub(super) type Shown = (MountConfig, Option<OwnedFd>);

/// Makes one ready in a directory of its own.
pub(super) fn bind(bind: Bind<'_>, from: &From<'_>, directory: &Path, means: &Means<'_>) -> Result<Shown, StepError> {
    match from {
        From::Layers { directories, .. } => Ok((of_layers(bind, from, directories, directory, means.empty)?, None)),
        From::Context(_) => {
            let found = source::find_exactly(bind.source, from, None)?;
            if is_as_in_a_build(&found.entry, found.entry.stat.st_dev)
                && let Some(shown) = of_context(bind, &found, directory, means.empty)?
            {
                return Ok(shown);
            }
            let source = copy(directory, found, from)?;
            Ok((MountConfig::Bind { source, target: bind.target.clone(), read_only: !bind.writable, copy_up: false }, None))
        }
    }
}

fn of_layers(bind: Bind<'_>, from: &From<'_>, layers: &[PathBuf], directory: &Path, empty: &Path) -> Result<MountConfig, StepError> {
    let tree = Overlay::mount(layers, Writing::No { empty })?;
    // It has to be there; where links lead from it is looked at again when it is mounted.
    source::find_exactly(bind.source, from, Some(&tree.root))?;
    let layers = if layers.is_empty() { vec![empty.to_owned()] } else { layers.to_vec() };
    let changes = bind.writable.then(|| changes(directory, &tree.root)).transpose()?;
    let path = format!("/{}", source::clean(bind.source));
    Ok(MountConfig::Layers { layers, path, target: bind.target.clone(), changes })
}

/// Shows something of the context as it is; `None` where that cannot be.
fn of_context(bind: Bind<'_>, found: &Found, directory: &Path, empty: &Path) -> Result<Option<Shown>, StepError> {
    let target = bind.target.clone();
    let parent = found.directory.open().map_err(|errno| FileError::of("open", Path::new(bind.source))(errno))?;
    let name: &[u8] = if found.entry.name.is_empty() { b"." } else { &found.entry.name };
    let open = |flags| {
        let opened = rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        opened.map_err(FileError::of("open", Path::new(bind.source)))
    };
    let Content::Directory(children) = &found.entry.content else {
        // What is written to a file would be written to the context.
        if bind.writable || !matches!(found.entry.content, Content::File) {
            return Ok(None);
        }
        let opened = open(OFlags::PATH)?;
        let config = MountConfig::Bind { source: place(&opened), target, read_only: true, copy_up: false };
        return Ok(Some((config, Some(opened))));
    };
    let opened = open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    let veil = Veil::of(&opened, children)?;
    // The context's own directory is whoever's it is; in a build everybody may look into it.
    let is_closed = found.entry.name.is_empty() && mode(&opened)? & OPEN != OPEN;
    if veil.is_empty() && !is_closed && !bind.writable {
        let config = MountConfig::Bind { source: place(&opened), target, read_only: true, copy_up: false };
        return Ok(Some((config, Some(opened))));
    }
    let over = directory.join("veil");
    std::fs::create_dir(&over).map_err(FileError::of("create", &over))?;
    let top = Root::open(&over)?;
    veil.write(top.descriptor())?;
    let visible = if is_closed { 0o755 } else { mode(&opened)? };
    rustix::fs::fchmod(&**top.descriptor(), Mode::from_raw_mode(visible)).map_err(FileError::of("chmod", &over))?;
    let layers = vec![place(&opened), over];
    // Not every file system can be looked through.
    if mount_layers(&[empty, &layers[0], &layers[1]], None).is_err() {
        return Ok(None);
    }
    let changes = bind.writable.then(|| changes(directory, &top)).transpose()?;
    Ok(Some((MountConfig::Layers { layers, path: "/".to_owned(), target, changes }, Some(opened))))
}

/// Whether all of it belongs to root and lies on this device: an overlay sees nothing else.
fn is_as_in_a_build(entry: &Entry, device: u64) -> bool {
    let below = match &entry.content {
        Content::Directory(children) => children.iter().all(|child| is_as_in_a_build(child, device)),
        Content::File | Content::Link(_) | Content::Special => true,
    };
    below && (entry.stat.st_uid, entry.stat.st_gid, entry.stat.st_dev) == (0, 0, device)
}

/// A directory for what is written over a tree, which looks as the tree's own: overlayfs shows the uppermost.
fn changes(directory: &Path, tree: &Root) -> Result<PathBuf, StepError> {
    let upper = directory.join("upper");
    std::fs::create_dir(&upper).map_err(FileError::of("create", &upper))?;
    tree.copy_attributes_of_root(&Root::open(&upper)?)?;
    Ok(directory.to_owned())
}

fn mode(directory: &OwnedFd) -> Result<u32, FileError> {
    let stat = rustix::fs::fstat(directory).map_err(FileError::of("stat", Path::new(".")))?;
    Ok(stat.st_mode & 0o7777)
}

/// Where a descriptor of ours can be opened again, whatever becomes of the names that led to it.
fn place(opened: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), opened.as_raw_fd()).into()
}
