//! The build cache: which layer a step made, by everything the step depended on. It survives, and is shared by all builds of a store.
//!
//! A key holds the layers below (which are named by content), the instruction after substitution, the content of what it copies, and
//! the environment it runs in. Never a time.

use crate::image::store::{ImageStore, LayerRecord};
use crate::store::{FileError, atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Changes whenever the same key would stand for another result.
const VERSION: &str = "2";

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
        for part in ["steps", "contexts"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(FileError::of("create", &path))?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// What a step made, if its layer is still there. A record that cannot be read is none.
    pub fn get(&self, key: &Digest, store: &ImageStore) -> Option<CacheRecord> {
        let record: CacheRecord = serde_json::from_slice(&fs::read(self.step(key)).ok()?).ok()?;
        record.layer.is_none_or(|layer| store.has_layer(&layer)).then_some(record)
    }

    /// Remembers what a step made.
    pub fn put(&self, key: &Digest, layer: &LayerRecord, instruction: &str) -> Result<CacheRecord, FileError> {
        let record = CacheRecord::of(layer, instruction);
        atomic::write_json(&self.step(key), &record)?;
        Ok(record)
    }

    /// The layers that records name: what a garbage collection keeps as long as the cache is to be kept.
    pub fn layers(&self) -> Result<BTreeSet<Digest>, FileError> {
        let path = self.directory.join("steps");
        let mut layers = BTreeSet::new();
        for entry in fs::read_dir(&path).map_err(FileError::of("list", &path))? {
            let entry = entry.map_err(FileError::of("list", &path))?;
            let record = fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice::<CacheRecord>(&bytes).ok());
            layers.extend(record.and_then(|record| record.layer));
        }
        Ok(layers)
    }

    /// Where the digests of a context's files are kept.
    pub fn index(&self, context: &Path) -> PathBuf {
        let context = fs::canonicalize(context).unwrap_or_else(|_| context.to_owned());
        self.directory.join("contexts").join(Digest::of(context.as_os_str().as_encoded_bytes()).hex())
    }

    fn step(&self, key: &Digest) -> PathBuf {
        self.directory.join("steps").join(format!("{}.json", key.hex()))
    }
}
