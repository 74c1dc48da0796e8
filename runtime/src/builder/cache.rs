//! The build cache: which layer a step made, by everything the step depended on. It survives, and is shared by all builds of a store.
//!
//! A key holds the layers below (which are named by content), the instruction after substitution, the content of what it copies, and
//! the environment it runs in. Never a time.

use crate::image::store::{ImageStore, LayerRecord};
use crate::store::usage::tree_bytes;
use crate::store::{FileError, atomic};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Changes whenever the same key would stand for another result.
pub(super) const VERSION: &str = "4";

/// A key as it grows.
#[derive(Clone)]
pub struct KeyBuilder(Sha256);

/// What the cache knows of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheRecord {
    /// The layer it made; `None` if it changed nothing.
    pub layer: Option<Digest>,
    /// Bytes of the layer's files.
    pub size_bytes: u64,
    /// The instruction, for people.
    pub instruction: String,
}

/// A step that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedStep {
    /// What it depended on.
    pub key: Digest,
    /// What it made.
    pub record: CacheRecord,
    /// When it last served, or was made.
    pub used: SystemTime,
}

/// The cache of one store.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

impl KeyBuilder {
    /// A key for a kind of step on top of these layers.
    pub fn new(kind: &str, below: &[Digest]) -> Self {
        let mut key = Self(Sha256::new());
        key.text(VERSION).text(kind).text(&below.len().to_string());
        for layer in below {
            key.bytes(layer.as_bytes());
        }
        key
    }

    /// Adds bytes, told apart from what stands beside them.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a list with its length.
    pub fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.text(&texts.len().to_string());
        for text in texts {
            self.text(text);
        }
        self
    }

    /// The key.
    pub fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

impl CacheRecord {
    /// What is remembered of a step that made this layer.
    pub fn of(layer: &LayerRecord, instruction: &str) -> Self {
        let made = (layer.entries > 0).then_some(layer.diff_id);
        Self { layer: made, size_bytes: layer.size_bytes, instruction: instruction.to_owned() }
    }
}

impl Cache {
    /// Opens the cache in a directory, making it if needed.
    pub fn open(directory: &Path) -> Result<Self, FileError> {
        for part in ["steps", "contexts", "layers"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(FileError::of("create", &path))?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// What a step made, if its layer is still there. A record that cannot be read is none.
    pub fn get(&self, key: &Digest, store: &ImageStore) -> Option<CacheRecord> {
        let mut bytes = Vec::new();
        let mut file = File::open(self.step(key)).ok()?;
        file.read_to_end(&mut bytes).ok()?;
        let record: CacheRecord = serde_json::from_slice(&bytes).ok()?;
        let found = record.layer.is_none_or(|layer| store.has_layer(&layer)).then_some(record)?;
        // When it last served: what has not for the longest time goes first. One that cannot be marked only goes sooner.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Some(found)
    }

    /// Remembers what a step made.
    pub fn put(&self, key: &Digest, record: &CacheRecord) -> Result<(), FileError> {
        // One that a power cut took or tore is none: the step is done again.
        atomic::write_json_unsynced(&self.step(key), record)
    }

    /// Every step that is remembered, the one that has not served for the longest time first. Records that cannot be read are left out.
    pub fn steps(&self) -> Result<Vec<CachedStep>, FileError> {
        let path = self.directory.join("steps");
        let mut steps = Vec::new();
        for entry in fs::read_dir(&path).map_err(FileError::of("list", &path))? {
            let path = entry.map_err(FileError::of("list", &path))?.path();
            let key = path.file_stem().and_then(|hex| format!("sha256:{}", hex.to_str()?).parse().ok());
            let record = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<CacheRecord>(&bytes).ok());
            let used = fs::metadata(&path).and_then(|found| found.modified());
            if let (Some(key), Some(record), Ok(used)) = (key, record, used) {
                steps.push(CachedStep { key, record, used });
            }
        }
        steps.sort_by_key(|step| (step.used, step.key));
        Ok(steps)
    }

    /// What only saves time: the digests of contexts' files, and lists of what layers hold. And what interrupted downloads left. Only
    /// while nobody builds.
    pub fn indexes(&self) -> Vec<PathBuf> {
        let files = |part: &str| fs::read_dir(self.directory.join(part)).into_iter().flatten().flatten();
        let is_left = |name: &OsStr| name.as_encoded_bytes().starts_with(atomic::TEMPORARY_PREFIX.as_bytes());
        let left = files("downloads/blobs").filter(|entry| is_left(&entry.file_name()));
        files("contexts").chain(files("layers")).chain(left).map(|entry| entry.path()).collect()
    }

    /// Bytes of disk that what is remembered of these steps takes, their layers apart.
    pub fn record_bytes(&self, steps: &[CachedStep]) -> u64 {
        steps.iter().map(|step| tree_bytes(&self.step(&step.key))).sum()
    }

    /// Forgets a step; its layer is then kept only by images that have it. Fine if it is not known.
    pub fn forget(&self, key: &Digest) -> Result<(), FileError> {
        atomic::remove_file(&self.step(key))
    }

    /// Where the digests of a context's files are kept.
    pub fn index(&self, context: &Path) -> PathBuf {
        let context = fs::canonicalize(context).unwrap_or_else(|_| context.to_owned());
        self.directory.join("contexts").join(Digest::of(context.as_os_str().as_encoded_bytes()).hex())
    }

    /// Where the files of the layer that an instruction made last are listed.
    pub(super) fn files(&self, recipe: &Digest) -> PathBuf {
        self.lists().join(recipe.hex())
    }

    /// Where all such lists are.
    pub(super) fn lists(&self) -> PathBuf {
        self.directory.join("layers")
    }

    fn step(&self, key: &Digest) -> PathBuf {
        self.directory.join("steps").join(format!("{}.json", key.hex()))
    }
}
