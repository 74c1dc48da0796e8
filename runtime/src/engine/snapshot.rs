//! A container's files as they are now: as one tar, or as a new image.

use super::{Engine, EngineError};
use crate::cgroup::Cgroup;
use crate::container;
use crate::container::config::{IdMapping, Process};
use crate::image::ImageId;
use crate::image::config::{History, ImageConfig};
use crate::image::layer::{Times, pack, unpack};
use crate::image::store::StoreError;
use crate::rootfs::mount_layers;
use crate::store::{FileError, Lock};
use rustix::fs::{Mode, OFlags};
use spec::value::ContainerId;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Whether a running container is held still while its files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Yes: no file is copied half written.
    Yes,
    /// No.
    No,
}

/// What is said of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remark {
    /// When, RFC 3339.
    pub created: Option<String>,
    /// Who.
    pub author: Option<String>,
    /// Why.
    pub comment: Option<String>,
}

impl Engine {
    /// Makes an image of a container: that of its own image, and what it changed as one more layer. Volumes are not part of it.
    ///
    /// What the container was told to run becomes what the image runs; `change` may say otherwise. It gets no name: hold a lease
    /// until it has one.
    pub fn commit_container(
        &self,
        id: &ContainerId,
        pause: Pause,
        remark: &Remark,
        change: &dyn Fn(ImageConfig) -> Result<ImageConfig, EngineError>,
    ) -> Result<ImageId, EngineError> {
        let _lease = self.images.lease()?;
        let config = container::inspect(&self.places, id)?.config;
        let image = self.images.image(&config.image)?;
        let upper = self.places.container(id).join("upper");
        let layer = {
            let _held = self.hold_still(id, pause)?;
            // One that never ran has changed nothing.
            if upper.exists() { Some(copy(&upper, config.user_namespace, |files| self.images.import_files(files))?) } else { None }
        };
        let layer = layer.filter(|layer| layer.entries > 0).map(|layer| layer.diff_id);
        let mut made = image.config;
        made.rootfs.diff_ids.extend(layer);
        take_over(&mut made, &config.process);
        made.created.clone_from(&remark.created);
        made.author = remark.author.clone().or(made.author);
        made.history.push(History {
            created: remark.created.clone(),
            created_by: Some(config.process.args.join(" ")),
            author: remark.author.clone(),
            comment: remark.comment.clone(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        Ok(self.images.put_image(&change(made)?)?)
    }

    /// Writes a container's files as one tar: its image's and its own. Not those of volumes, nor what the kernel makes up.
    pub fn export_container(&self, id: &ContainerId, sink: impl Write) -> Result<(), EngineError> {
        let _lease = self.images.lease()?;
        let config = container::inspect(&self.places, id)?.config;
        let upper = self.places.container(id).join("upper");
        let scratch = self.images.scratch()?;
        let empty = scratch.subdirectory("empty")?;
        let own = match config.user_namespace {
            _ if !upper.exists() => None,
            None => Some(upper.clone()),
            // What it changed has other ids than what it left: a copy has the same.
            ids @ Some(_) => {
                let own = scratch.subdirectory("own")?;
                let root = open_directory(&own)?;
                copy(&upper, ids, |files| Ok(unpack::unpack(files, root)?))?;
                Some(own)
            }
        };
        let layers: Vec<&Path> =
            std::iter::once(empty.as_path()).chain(config.layers.iter().map(|it| it.as_path())).chain(own.as_deref()).collect();
        let root = match layers[..] {
            [only] => open_directory(only)?,
            _ => {
                let mount = mount_layers(&layers, None).map_err(FileError::of("mount the layers of", &upper))?;
                // The mount's own descriptor is O_PATH.
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&mount, ".", flags, Mode::empty()).map_err(FileError::of("open the layers of", &upper))?
            }
        };
        pack::pack(&root, Times::Keep, pack::OnDisk::Leave, sink).map_err(StoreError::from)?;
        Ok(())
    }

    fn hold_still(&self, id: &ContainerId, pause: Pause) -> Result<Option<Still>, EngineError> {
        let runs = container::inspect(&self.places, id)?.state.phase.is_alive();
        if pause == Pause::No || !runs {
            return Ok(None);
        }
        // The lock tells whoever finds the container frozen that somebody still sees to it.
        let note = Lock::exclusive(&self.places.container(id).join(FROZEN))?;
        let still = Still { group: Cgroup::of_container(&self.places, id)?, note: Some(note) };
        still.group.freeze()?;
        Ok(Some(still))
    }

    /// Lets containers run that somebody who was killed had held still.
    pub(super) fn thaw_forgotten(&self) -> Result<(), EngineError> {
        for id in self.container_ids()? {
            let path = self.places.container(&id).join(FROZEN);
            if path.exists()
                && let Some(note) = Lock::try_exclusive(&path)?
            {
                drop(Still { group: Cgroup::of_container(&self.places, &id)?, note: Some(note) });
            }
        }
        Ok(())
    }
}

/// Hands over what a container changed, with the ids that it has inside, packed and unpacked at the same time: the container keeps its own.
fn copy<T>(upper: &Path, ids: Option<IdMapping>, unpack: impl FnOnce(io::PipeReader) -> Result<T, StoreError>) -> Result<T, EngineError> {
    let directory = open_directory(upper)?;
    let (reader, writer) = io::pipe().map_err(FileError::of("make a pipe for", upper))?;
    let writer = io::BufWriter::with_capacity(1 << 16, writer);
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| match ids {
            None => pack::pack(&directory, Times::Keep, pack::OnDisk::Leave, writer),
            Some(IdMapping { first, count }) => pack::pack_inside(&directory, first..first.saturating_add(count), Times::Keep, writer),
        });
        let unpacked = unpack(reader);
        (packing.join(), unpacked)
    });
    match packed {
        Ok(Ok(_)) => Ok(unpacked?),
        // The reader only says that the stream broke off.
        Ok(Err(error)) => Err(StoreError::from(error).into()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Lies in the directory of a container that is held still.
const FROZEN: &str = "frozen";

/// Runs again when dropped.
struct Still {
    group: Cgroup,
    note: Option<Lock>,
}

impl Drop for Still {
    fn drop(&mut self) {
        // A group that is gone is still no more; one that cannot be thawed keeps its note, for the next one that looks.
        if self.group.thaw().is_ok()
            && let Some(note) = self.note.take()
        {
            let _ = note.remove();
        }
    }
}

/// What a container was told to be becomes what its image says.
fn take_over(image: &mut ImageConfig, process: &Process) {
    let entrypoint = image.config.entrypoint.clone().unwrap_or_default();
    let own: Vec<String> = entrypoint.iter().chain(image.config.cmd.iter().flatten()).cloned().collect();
    if own != process.args {
        match process.args.strip_prefix(entrypoint.as_slice()) {
            Some(rest) => image.config.cmd = (!rest.is_empty()).then(|| rest.to_vec()),
            None => (image.config.entrypoint, image.config.cmd) = (None, Some(process.args.clone())),
        }
    }
    let known = |name: &str| image.config.env.iter().position(|pair| pair.split_once('=').is_some_and(|(key, _)| key == name));
    let changes: Vec<_> = process.env.iter().map(|(name, value)| (known(name), format!("{name}={value}"))).collect();
    for (at, pair) in changes {
        match at {
            Some(at) => image.config.env[at] = pair,
            None => image.config.env.push(pair),
        }
    }
    if process.working_dir != "/" || !image.config.working_dir.is_empty() {
        image.config.working_dir.clone_from(&process.working_dir);
    }
    if let Some(user) = &process.user {
        image.config.user = user.to_string();
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(FileError::of("open", path))
}
