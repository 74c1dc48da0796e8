//! Layers seen as one tree, through a detached overlay mount: it is attached nowhere and ends with its last descriptor.

use super::root::Root;
use crate::rootfs::{Changes, mount_layers};
use crate::sys::{MountAttributes, Reach, set_mount_attributes};
use rustix::fd::AsFd;
use std::io;
use std::path::{Path, PathBuf};

/// Layers as one tree.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Its root.
    pub root: Root,
}

/// Where changes go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writing<'a> {
    /// Nowhere: the tree is read-only. The directory given is empty and stands in as the lowest layer.
    No {
        /// An empty directory.
        empty: &'a Path,
    },
    /// To an upper directory, with an empty working directory beside it.
    To {
        /// Gets the changes, in overlay format.
        upper: &'a Path,
        /// For the kernel.
        work: &'a Path,
        /// An empty directory.
        empty: &'a Path,
    },
}

/// An overlay that could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("mount {layers} layers as one tree")]
pub struct OverlayError {
    layers: usize,
    #[source]
    source: io::Error,
}

impl Overlay {
    /// Mounts layers, lowest first.
    pub(crate) fn mount(layers: &[PathBuf], writing: Writing<'_>) -> Result<Self, OverlayError> {
        let failed = |source| OverlayError { layers: layers.len(), source };
        let (Writing::No { empty } | Writing::To { empty, .. }) = writing;
        let changes = match writing {
            Writing::No { .. } if layers.is_empty() => {
                return Ok(Self { root: Root::open(empty).map_err(io::Error::other).map_err(failed)? });
            }
            Writing::No { .. } => None,
            Writing::To { upper, work, .. } => Some(Changes { upper, work }),
        };
        // The empty one at the bottom: overlayfs wants at least one lower layer, and two where there is no upper one.
        let stack: Vec<&Path> = std::iter::once(empty).chain(layers.iter().map(PathBuf::as_path)).collect();
        let mount = mount_layers(&stack, changes).map_err(failed)?;
        set_mount_attributes(mount.as_fd(), MountAttributes::INERT, Reach::One).map_err(failed)?;
        // The mount's own descriptor is O_PATH; directories are read through one that is not.
        let root = super::root::open_directory(&mount, b".").map_err(|errno| failed(errno.into()))?;
        Ok(Self { root: Root::of(root) })
    }
}
