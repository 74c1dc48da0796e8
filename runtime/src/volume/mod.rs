//! Volumes: `<state>/volumes/<name>/` with the data in `data/` and what is known about it in `volume.json`.
//!
//! The record is written before the data directory is made and removed after it is gone; a directory without a record is
//! never taken for a volume and never removed.

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

/// Makes the volume exist as recorded; data that is there stays.
pub fn ensure_volume(places: &Places, record: &VolumeRecord) -> Result<(), VolumeError> {
    make_directory(&places.volumes(), 0o700)?;
    make_directory(&places.volume(&record.name), 0o700)?;
    let path = record_path(places, &record.name);
    let text = serde_json::to_vec_pretty(record).map_err(|source| VolumeError::Record { path: path.clone(), source })?;
    atomic::write(&path, &text)?;
    // What the container sees as the volume's root; others cannot get this far on the host.
    make_directory(&places.volume_data(&record.name), 0o755)
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

/// Removes what an interrupted creation or removal left: directories that hold nothing. Only under the host's lock.
pub fn sweep_volumes(places: &Places) -> Result<(), VolumeError> {
    let directory = places.volumes();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::of("list", &directory))?,
    };
    for entry in entries {
        let path = entry.map_err(FileError::of("list", &directory))?.path();
        match fs::remove_dir(&path) {
            // A volume: there is at least its record.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory) => {}
            result => result.map_err(FileError::of("remove", &path))?,
        }
    }
    Ok(())
}

/// Removes a volume with its data; fine if there is none.
pub fn remove_volume(places: &Places, name: &Name) -> Result<(), VolumeError> {
    let directory = places.volume(name);
    // The record goes last, so that an interrupted removal is found and finished by the next one.
    remove::remove_tree(&places.volume_data(name))?;
    remove::remove_tree(&directory)?;
    Ok(())
}

fn record_path(places: &Places, name: &Name) -> PathBuf {
    places.volume(name).join("volume.json")
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
