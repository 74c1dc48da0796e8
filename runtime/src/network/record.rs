//! The record of a network: `<state>/networks/<name>.json`, written before its bridge is made and removed after it.

use super::error::NetworkError;
use crate::places::Places;
use serde::{Deserialize, Serialize};
use spec::value::{Name, Subnet};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest record read: labels and annotations are bounded by the manifest they come from, 1 MiB.
const RECORD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRecord {
    /// Its name.
    pub name: Name,
    /// Its subnet, which overlaps no other.
    pub subnet: Subnet,
    /// The bridge's own address, in the subnet.
    pub gateway: Ipv4Addr,
    /// Whether it has no way out of the host.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the caller wants to remember about it; never looked at here.
    pub annotations: serde_json::Value,
}

/// The record of a network, or `None` if there is none.
pub fn read_network(places: &Places, name: &Name) -> Result<Option<NetworkRecord>, NetworkError> {
    let path = path(places, name);
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => serde_json::from_slice(&bytes).map(Some).map_err(|source| NetworkError::Record { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NetworkError::File { action: "read", path, source }),
    }
}

/// Every network that has a record, readable or not.
pub fn list_networks(places: &Places) -> Result<BTreeMap<Name, Result<NetworkRecord, NetworkError>>, NetworkError> {
    let directory = places.networks();
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(NetworkError::File { action: "list", path: directory, source }),
    };
    let mut networks = BTreeMap::new();
    for entry in entries {
        let file = entry.map_err(NetworkError::file("list", &directory))?.file_name();
        // What is not a record's name is a temporary file of an interrupted write.
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")).and_then(|name| name.parse::<Name>().ok()) else {
            continue;
        };
        if let Some(record) = read_network(places, &name).transpose() {
            networks.insert(name, record);
        }
    }
    Ok(networks)
}

/// The networks whose records can be read: those an operation on the firewall takes into account.
pub(super) fn readable_networks(places: &Places) -> Result<BTreeMap<Name, NetworkRecord>, NetworkError> {
    Ok(list_networks(places)?.into_iter().filter_map(|(name, record)| Some((name, record.ok()?))).collect())
}

/// Writes the record if it differs from what is there.
pub(super) fn ensure_record(places: &Places, record: &NetworkRecord) -> Result<(), NetworkError> {
    if matches!(read_network(places, &record.name), Ok(Some(found)) if found == *record) {
        return Ok(());
    }
    let path = path(places, &record.name);
    let bytes = serde_json::to_vec_pretty(record).map_err(|source| NetworkError::Record { path: path.clone(), source })?;
    write(&path, &bytes, Durability::Synced)
}

/// Removes the record; fine if there is none.
pub(super) fn remove_record(places: &Places, name: &Name) -> Result<(), NetworkError> {
    remove_file(&path(places, name))
}

/// Whether a file must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Yes.
    Synced,
    /// No: it is on a tmpfs, or made again after a boot.
    Passing,
}

/// Replaces a file as a whole: readers see the old one or the new one.
pub(super) fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), NetworkError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(NetworkError::file("create", directory))?;
    // One writer at a time: all of this happens under the host's lock.
    let temporary = directory.join(format!(".{}.tmp", path.file_name().unwrap_or_default().to_string_lossy()));
    let written = (|| {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durability == Durability::Synced {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    })();
    written.map_err(NetworkError::file("write", path))
}

/// Removes a file; fine if there is none.
pub(super) fn remove_file(path: &Path) -> Result<(), NetworkError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(NetworkError::File { action: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn path(places: &Places, name: &Name) -> PathBuf {
    places.networks().join(format!("{name}.json"))
}
