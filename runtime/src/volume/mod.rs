//! Volumes: `<state>/volumes/<name>/` with the data in `data/` and what is known about it in `volume.json`.
//!
//! A volume appears and disappears by one rename: made under a name that no volume can have, taken away under another. What is
//! found under those names was interrupted, and is cleared by [`sweep_volumes`]; nothing else is ever removed.

use crate::places::Places;
use crate::store::{FileError, atomic, remove};
use serde::{Deserialize, Serialize};
use spec::value::Name;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRecord {
    /// Its name.
    pub name: Name,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the caller wants to remember about it; never looked at here.
    pub annotations: serde_json::Value,
}

/// Why a volume operation did not work.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is no such volume.
    #[error("volume {name} does not exist")]
    NotFound {
        /// Which.
        name: Name,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The record is not one.
    #[error("read the volume record {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// What is known about a volume.
const RECORD: &str = "volume.json";
/// Begins the names of volumes that are being made and of those that are being removed. No [`Name`] has a space.
const NEW: &str = "new ";
const OLD: &str = "old ";

/// Makes the volume exist as recorded; data that is there stays.
pub fn ensure_volume(places: &Places, record: &VolumeRecord) -> Result<(), VolumeError> {
    let place = places.volume(&record.name);
    if place.exists() {
        // What the container sees as the volume's root; others cannot get this far on the host.
        make_directory(&place.join("data"), 0o755)?;
        return write_record(&place, record);
    }
    make_directory(&places.volumes(), 0o700)?;
    let new = passing(places, NEW, &record.name);
    remove::remove_tree(&new)?;
    make_directory(&new, 0o700)?;
    make_directory(&new.join("data"), 0o755)?;
    write_record(&new, record)?;
    Ok(atomic::rename(&new, &place)?)
}

fn write_record(place: &Path, record: &VolumeRecord) -> Result<(), VolumeError> {
    let path = place.join(RECORD);
    let text = serde_json::to_vec_pretty(record).map_err(|source| VolumeError::Record { path: path.clone(), source })?;
    Ok(atomic::write(&path, &text)?)
}

/// Every volume that has a record, readable or not.
pub fn list_volumes(places: &Places) -> Result<BTreeMap<Name, Result<VolumeRecord, VolumeError>>, VolumeError> {
    let directory = places.volumes();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(FileError::of("list", &directory))?,
    };
    let mut volumes = BTreeMap::new();
    for entry in entries {
        let name = entry.map_err(FileError::of("list", &directory))?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.parse::<Name>().ok()) else { continue };
        if let Some(record) = read_volume(places, &name).transpose() {
            volumes.insert(name, record);
        }
    }
    Ok(volumes)
}

/// The record of a volume, or `None` if there is none.
pub fn read_volume(places: &Places, name: &Name) -> Result<Option<VolumeRecord>, VolumeError> {
    let path = record_path(places, name);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| VolumeError::Record { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", &path)(error).into()),
    }
}

/// Removes a volume with its data; fine if there is none.
pub fn remove_volume(places: &Places, name: &Name) -> Result<(), VolumeError> {
    let old = passing(places, OLD, name);
    remove::remove_tree(&old)?;
    match atomic::rename(&places.volume(name), &old) {
        Err(error) if error.is_absent() => return Ok(()),
        renamed => renamed?,
    }
    Ok(remove::remove_tree(&old)?)
}

/// Removes what interrupted creations and removals left. Only under the host's lock: whoever makes or removes a volume right now has
/// such a directory too.
pub fn sweep_volumes(places: &Places) -> Result<(), VolumeError> {
    let directory = places.volumes();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::of("list", &directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(FileError::of("list", &directory))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(NEW) || name.starts_with(OLD)) {
            remove::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn passing(places: &Places, state: &str, name: &Name) -> PathBuf {
    places.volumes().join(format!("{state}{name}"))
}

fn record_path(places: &Places, name: &Name) -> PathBuf {
    places.volume(name).join(RECORD)
}

/// Makes a directory exist; the mode is that of its birth, since a container may have given its volume another one.
fn make_directory(path: &Path, mode: u32) -> Result<(), VolumeError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(FileError::of("create", path)(error).into()),
        Ok(()) => {
            // Whatever the umask took away.
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            Ok(fs::set_permissions(path, permissions).map_err(FileError::of("set mode of", path))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> VolumeRecord {
        VolumeRecord { name: name.parse().unwrap(), labels: BTreeMap::new(), annotations: serde_json::Value::Null }
    }

    fn places(root: &Path) -> Places {
        let places = Places { state: root.join("state"), run: root.join("run"), config: root.join("config") };
        fs::create_dir(&places.state).unwrap();
        places
    }

    #[test]
    fn making_it_again_keeps_the_data_and_makes_it_again_if_it_is_lost() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let data = places.volume_data(&record("data").name);
        ensure_volume(&places, &record("data")).unwrap();
        fs::write(data.join("file"), "kept").unwrap();
        ensure_volume(&places, &record("data")).unwrap();
        assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept");
        fs::remove_dir_all(&data).unwrap();
        ensure_volume(&places, &record("data")).unwrap();
        assert!(data.is_dir());
    }

    #[test]
    fn what_was_interrupted_is_no_volume_and_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        ensure_volume(&places, &record("kept")).unwrap();
        for left in ["new half", "old half"] {
            fs::create_dir_all(places.volumes().join(left).join("data/deep")).unwrap();
        }
        let names = || list_volumes(&places).unwrap().into_keys().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(), ["kept"]);
        sweep_volumes(&places).unwrap();
        assert_eq!(fs::read_dir(places.volumes()).unwrap().count(), 1);
        remove_volume(&places, &record("kept").name).unwrap();
        remove_volume(&places, &record("kept").name).unwrap();
        assert_eq!(fs::read_dir(places.volumes()).unwrap().count(), 0);
    }
}
