//! `create`: makes a container's lasting files, all of them or none. Nothing runs yet.

use super::config::{ContainerConfig, IdMapping, MountConfig};
use super::document::{DOCUMENT, Document};
use super::error::ContainerError;
use super::file;
use super::transient::{REMOVER, Remover};
use crate::places::Places;
use crate::time;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes the container. `annotations` are the caller's own; nothing here reads them. With a `remover` it goes with its end.
///
/// Errors: [`ContainerError::AlreadyExists`], [`ContainerError::File`].
pub fn create(
    places: &Places,
    config: &ContainerConfig,
    annotations: &serde_json::Value,
    remover: Option<&Remover>,
) -> Result<(), ContainerError> {
    let containers = places.containers();
    make_directory(&containers)?;
    // No container id contains a space, so this can never be taken for one; `list` skips it, `sweep` removes it.
    let new = containers.join(format!("new {} {}", config.id, std::process::id()));
    if remover.is_some() {
        // That it is of this boot.
        make_directory(&places.container_run(&config.id))?;
    }
    let place = places.container(&config.id);
    let result = fill(&new, config, annotations, remover)
        .and_then(|()| make_volumes(&new, &place, config))
        .and_then(|()| put_in_place(places, &new, config));
    if result.is_err() {
        let _ = std::fs::remove_dir_all(&new);
    }
    result
}

fn fill(new: &Path, config: &ContainerConfig, annotations: &serde_json::Value, remover: Option<&Remover>) -> Result<(), ContainerError> {
    make_directory(new)?;
    for name in ["upper", "work", "logs"] {
        make_directory(&new.join(name))?;
    }
    // The root of the overlay is what every user of the container sees as `/`.
    let upper = new.join("upper");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&upper, mode).map_err(ContainerError::file("set mode of", upper))?;
    if let Some(IdMapping { first, .. }) = config.user_namespace {
        // Its own root is who changes it.
        for name in ["upper", "work"] {
            let path = new.join(name);
            std::os::unix::fs::chown(&path, Some(first), Some(first)).map_err(ContainerError::file("set the owner of", path))?;
        }
    }
    // Nobody looks in here before it is in its place: written plainly.
    let document = Document { created: time::now(), config, annotations };
    file::write_new(&new.join(DOCUMENT), &document)?.sync_all().map_err(ContainerError::file("sync files in", new))?;
    if let Some(remover) = remover {
        file::write_new(&new.join(REMOVER), remover)?.sync_all().map_err(ContainerError::file("sync files in", new))?;
    }
    file::sync_directory(new)
}

/// Directories of its own that are mounted into it: anonymous volumes, which go with it. Open to whomever the container lets in; where
/// the image has something at that place, its owner and mode are taken over with its contents.
fn make_volumes(new: &Path, place: &Path, config: &ContainerConfig) -> Result<(), ContainerError> {
    for mount in &config.mounts {
        if let MountConfig::Bind { source, .. } = mount
            && let Ok(own) = source.strip_prefix(place)
        {
            let path = new.join(own);
            make_directory(&path)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).map_err(ContainerError::file("set mode of", path))?;
        }
    }
    Ok(())
}

fn put_in_place(places: &Places, new: &Path, config: &ContainerConfig) -> Result<(), ContainerError> {
    let place = places.container(&config.id);
    match rustix::fs::renameat_with(CWD, new, CWD, &place, RenameFlags::NOREPLACE) {
        Ok(()) => file::sync_directory(&places.containers()),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Err(ContainerError::AlreadyExists { id: config.id.clone() }),
        Err(error) => Err(ContainerError::file("rename", new)(error.into())),
    }
}

/// Makes a directory and those above it exist, closed to others.
pub(super) fn make_directory(path: &Path) -> Result<(), ContainerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(ContainerError::file("create directory", path))
}
