//! `sweep`: takes away what interrupted creations and removals left.

use super::error::ContainerError;
use super::remove::remove_directory;
use crate::places::Places;
use std::io;

/// Removes directories that are not containers yet, or not any more. Only under the host's lock: whoever creates or removes one
/// right now has such a directory too.
pub fn sweep(places: &Places) -> Result<(), ContainerError> {
    let path = places.containers();
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ContainerError::file("list", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(ContainerError::file("list", &path))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("new ") || name.starts_with("old ")) {
            remove_directory(&entry.path())?;
        }
    }
    Ok(())
}
