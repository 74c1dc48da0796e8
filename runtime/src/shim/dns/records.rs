//! The names on one network, as the engine writes them: `{"domain": {"web": ["10.0.0.2"]}, "forward": true}`.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Longest file read: some ten thousand names.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is known on one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Records {
    /// Addresses by name, lower-case; several while two incarnations serve.
    pub domain: BTreeMap<String, Vec<Ipv4Addr>>,
    /// Whether names beyond it may be asked for: false on an internal network.
    pub forward: bool,
    /// Whether those of a single label, too: where nobody has a name they can only be the host's.
    #[serde(default)]
    pub forward_single_labels: bool,
}

/// A records file, read again when it changes.
#[derive(Debug)]
pub struct RecordsFile {
    path: PathBuf,
    seen: Option<(u64, i64, i64)>,
    records: Records,
}

impl RecordsFile {
    /// The file of one network; it need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, records: Records::default() }
    }

    /// No file: no names of its own, all others are asked for.
    pub fn outward() -> Self {
        let records = Records { forward: true, forward_single_labels: true, ..Records::default() };
        Self { path: PathBuf::new(), seen: None, records }
    }

    /// What it says now. An absent or unreadable file keeps what it said before: it is replaced by rename, so that is no
    /// half-written one, but one whose network is being taken away.
    pub fn read(&mut self) -> &Records {
        if let Ok(metadata) = std::fs::metadata(&self.path) {
            let seen = Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
            if seen != self.seen
                && let Ok(records) = self.load()
            {
                self.records = records;
                self.seen = seen;
            }
        }
        &self.records
    }

    fn load(&self) -> io::Result<Records> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_read_again_and_a_spoilt_one_is_not_believed() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("shop");
        let replace = |text: &str| {
            let new = directory.path().join("new");
            std::fs::write(&new, text).expect("write");
            std::fs::rename(&new, &path).expect("rename");
        };
        let mut file = RecordsFile::new(path.clone());
        assert_eq!(file.read(), &Records::default());
        replace(r#"{"domain": {"web": ["10.0.0.2"]}, "forward": true}"#);
        assert_eq!(file.read().domain["web"], [Ipv4Addr::new(10, 0, 0, 2)]);
        replace("{");
        assert!(file.read().forward);
        replace(r#"{"domain": {}, "forward": false}"#);
        assert!(file.read().domain.is_empty());
    }
}
