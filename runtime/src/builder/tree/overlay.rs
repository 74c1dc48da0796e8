//! Layers seen as one tree, through a detached overlay mount: it is attached nowhere and ends with its last descriptor.

use super::root::Root;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
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
#[error("mount {layers} layers as one tree: {operation}")]
pub struct OverlayError {
    layers: usize,
    operation: &'static str,
    #[source]
    source: io::Error,
}

impl Overlay {
    /// Mounts layers, lowest first.
    pub(crate) fn mount(layers: &[PathBuf], writing: Writing<'_>) -> Result<Self, OverlayError> {
        let failed = |operation| move |errno: rustix::io::Errno| OverlayError { layers: layers.len(), operation, source: errno.into() };
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen"))?;
        let (Writing::No { empty } | Writing::To { empty, .. }) = writing;
        // The empty one at the bottom: overlayfs wants at least one lower layer, and two where there is no upper one.
        for layer in distinct(layers).into_iter().rev().chain([empty]) {
            fsconfig_set_string(&context, "lowerdir+", layer).map_err(failed("add a layer"))?;
        }
        if layers.is_empty() && matches!(writing, Writing::No { .. }) {
            let root = Root::open(empty).map_err(|error| OverlayError {
                layers: 0,
                operation: "open the empty tree",
                source: io::Error::other(error),
            })?;
            return Ok(Self { root });
        }
        if let Writing::To { upper, work, .. } = writing {
            fsconfig_set_string(&context, "upperdir", upper).map_err(failed("set the upper directory"))?;
            fsconfig_set_string(&context, "workdir", work).map_err(failed("set the working directory"))?;
            // What a layer cannot say must not get into one.
            for (option, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")] {
                fsconfig_set_string(&context, option, value).map_err(failed("set an option"))?;
            }
        }
        fsconfig_create(&context).map_err(failed("create"))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("fsmount"))?;
        // The mount's own descriptor is O_PATH; directories are read through one that is not.
        let root = super::root::open_directory(&mount, b".").map_err(failed("open the root"))?;
        Ok(Self { root: Root::of(root) })
    }
}

/// The layers, lowest first, each only where it is uppermost. The same layer twice is refused by overlayfs (ELOOP), and what the lower
/// one adds or hides the upper one adds or hides too.
pub(crate) fn distinct(layers: &[PathBuf]) -> Vec<&Path> {
    let later = |index: usize, layer: &PathBuf| layers[index + 1..].contains(layer);
    layers.iter().enumerate().filter(|(index, layer)| !later(*index, layer)).map(|(_, layer)| layer.as_path()).collect()
}
