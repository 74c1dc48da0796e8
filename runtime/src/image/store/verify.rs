//! Whether the store is what it says it is: every blob and layer by content, every record by what it points at.
//!
//! What processes that were killed leave is lawful and no finding: the beginnings of blobs, free locks, files under a temporary name.
//! Looks only; anybody may pull, build and run meanwhile.

use super::images::ImageRecord;
use super::seal::tree_digest;
use super::usage::DISK_FILE;
use super::{ImageStore, LayerRecord, StoreError, read_record};
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::image::layer::hashing::HashingSink;
use crate::store::{FileError, atomic};
use serde::Serialize;
use spec::value::Digest;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What may lie in a layer's directory.
const LAYER_PARTS: [&str; 4] = ["root", "layer.json", "durable", DISK_FILE];
/// What may lie in the store's directory; the build cache has its own.
const STORE_PARTS: [&str; 9] = ["blobs", "partial", "places", "images", "layers", "records", "locks", "scratch", "build-cache"];

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub subject: Subject,
    /// How it is wrong.
    pub problem: String,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "what", rename_all = "camelCase")]
pub enum Subject {
    /// A blob.
    Blob(Digest),
    /// An unpacked layer.
    Layer(Digest),
    /// An image: its record, or what that points at.
    Image(ImageId),
    /// The record of a name, by its file.
    Name(PathBuf),
    /// What does not belong here.
    Stray(PathBuf),
}

/// What a verification came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
    /// Blobs that were read.
    pub blobs: usize,
    /// Layers that were read.
    pub layers: usize,
    /// Images whose records were read.
    pub images: usize,
}

impl ImageStore {
    /// Reads the whole store. `progress` is told what is looked at. Errors only if the store itself cannot be read.
    pub fn verify(&self, progress: &mut dyn FnMut(&Subject)) -> Result<Verified, StoreError> {
        let _lease = self.lease()?;
        let mut verifying = Verifying { store: self, verified: Verified::default(), progress };
        verifying.strays()?;
        // First: a name that cannot be read stands in the way of all that looks names up.
        verifying.names()?;
        verifying.blobs()?;
        verifying.layers()?;
        verifying.images()?;
        Ok(verifying.verified)
    }
}

/// Whether a name may lie in a room of the store.
type Belongs<'a> = &'a dyn Fn(&str) -> bool;

struct Verifying<'a> {
    store: &'a ImageStore,
    verified: Verified,
    progress: &'a mut dyn FnMut(&Subject),
}

impl Verifying<'_> {
    fn find(&mut self, subject: Subject, problem: impl Into<String>) {
        self.verified.findings.push(Finding { subject, problem: problem.into() });
    }

    /// What lies where nothing of ours is.
    fn strays(&mut self) -> Result<(), StoreError> {
        let is_digest = |name: &str| format!("sha256:{name}").parse::<Digest>().is_ok();
        let is_record = |name: &str| name.strip_suffix(".json").is_some_and(is_digest);
        let is_of_image = |name: &str| is_record(name) || name.strip_suffix(".origins").is_some_and(is_digest);
        let is_lock = |name: &str| name == "use" || is_digest(name);
        let is_store_part = |name: &str| STORE_PARTS.contains(&name);
        let rooms: [(&str, Belongs<'_>); 8] = [
            ("", &is_store_part),
            ("blobs/sha256", &is_digest),
            ("partial", &is_digest),
            ("places", &is_digest),
            ("layers", &is_digest),
            ("images", &is_of_image),
            ("records", &is_record),
            ("locks", &is_lock),
        ];
        for (room, belongs) in rooms {
            for name in self.store.names(room)? {
                // A writer may be at it; what a dead one left is cleared when the store is opened.
                if !belongs(&name) && !name.starts_with(atomic::TEMPORARY_PREFIX) {
                    let path = self.store.directory.join(room).join(&name);
                    self.find(Subject::Stray(path), "it does not belong to the store");
                }
            }
        }
        Ok(())
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        for digest in self.store.digests("blobs/sha256", "")? {
            (self.progress)(&Subject::Blob(digest));
            let problem = match self.store.open_blob(&digest) {
                Ok(None) => continue, // removed since it was listed
                Ok(Some(file)) => match digest_of(file) {
                    Ok(found) if found == digest => None,
                    Ok(found) => Some(format!("its content has digest {found}")),
                    Err(error) => Some(format!("it cannot be read: {error}")),
                },
                Err(error) => Some(format!("it cannot be read: {error}")),
            };
            self.verified.blobs += 1;
            if let Some(problem) = problem {
                self.find(Subject::Blob(digest), problem);
            }
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<(), StoreError> {
        for diff_id in self.store.digests("layers", "")? {
            (self.progress)(&Subject::Layer(diff_id));
            let directory = self.store.layer_path(&diff_id);
            let record = match self.store.layer(&diff_id) {
                Ok(Some(record)) if record.diff_id == diff_id => record,
                Ok(Some(record)) => {
                    self.find(Subject::Layer(diff_id), format!("its record is that of layer {}", record.diff_id));
                    continue;
                }
                Ok(None) if !directory.exists() => continue,
                Ok(None) => {
                    self.find(Subject::Layer(diff_id), "it has no record");
                    continue;
                }
                Err(error) => {
                    self.find(Subject::Layer(diff_id), format!("its record cannot be read: {error}"));
                    continue;
                }
            };
            self.verified.layers += 1;
            if let Err(problem) = self.layer(&record, &directory) {
                // One that was removed meanwhile by someone who had the store alone before us is no finding.
                if directory.exists() {
                    self.find(Subject::Layer(diff_id), problem);
                }
            }
        }
        Ok(())
    }

    /// Compares a layer's tree with what it should be, by the surest means there is.
    fn layer(&mut self, record: &LayerRecord, directory: &Path) -> Result<(), String> {
        for entry in fs::read_dir(directory).map_err(|error| error.to_string())?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !LAYER_PARTS.contains(&name.as_str()) && !name.starts_with(atomic::TEMPORARY_PREFIX) {
                self.find(Subject::Stray(entry.path()), "it does not belong to a layer");
            }
        }
        let found = tree_digest(&directory.join("root")).map_err(|error| format!("its files cannot be read: {error}"))?;
        match ImageStore::is_sound(record, &found) {
            Some(true) => return Ok(()),
            Some(false) => return Err("its files are not those it was made of".to_owned()),
            None => {}
        }
        match self.store.tree_of_blob(record).map_err(|error| error.to_string())? {
            Some(wanted) if wanted == found => {
                // Without it the comparison is made again the next time.
                let _ = self.store.seal(&record.diff_id, found);
                Ok(())
            }
            Some(_) => Err("its files are not what its compressed form unpacks to".to_owned()),
            None => {
                Err("its files cannot be checked: what it came as is gone or damaged, and they were never compared with that".to_owned())
            }
        }
    }

    fn images(&mut self) -> Result<(), StoreError> {
        for id in self.store.digests("images", ".json")? {
            (self.progress)(&Subject::Image(id));
            let record = match self.store.record(&id) {
                Ok(record) => record,
                Err(StoreError::NoImage(_)) => continue, // removed since it was listed
                Err(error) => {
                    self.find(Subject::Image(id), format!("its record cannot be read: {error}"));
                    continue;
                }
            };
            self.verified.images += 1;
            if let Some(problem) = self.image(&id, &record) {
                self.find(Subject::Image(id), problem);
            }
        }
        Ok(())
    }

    /// What is wrong with an image whose record can be read. That of a broken blob or layer was found already.
    fn image(&self, id: &ImageId, record: &ImageRecord) -> Option<String> {
        if record.id != *id {
            return Some(format!("its record is that of image {}", record.id));
        }
        let Ok(bytes) = self.store.blob(id) else { return Some("its configuration is missing".to_owned()) };
        if Digest::of(&bytes) == *id {
            match serde_json::from_slice::<ImageConfig>(&bytes) {
                Ok(config) if config.rootfs.diff_ids == record.layers => {}
                Ok(_) => return Some("its record has other layers than its configuration".to_owned()),
                Err(error) => return Some(format!("its configuration is not one: {error}")),
            }
        }
        if let Some(missing) = record.layers.iter().find(|layer| !self.store.has_layer(layer)) {
            return Some(format!("its layer {missing} is missing"));
        }
        if let Err(error) = self.store.origins(id) {
            return Some(format!("where it came from cannot be read: {error}"));
        }
        record.manifest.filter(|manifest| !self.store.has_blob(manifest)).map(|manifest| format!("its manifest {manifest} is missing"))
    }

    fn names(&mut self) -> Result<(), StoreError> {
        for file in self.store.digests("records", ".json")? {
            let path = self.store.directory.join("records").join(format!("{}.json", file.hex()));
            let problem = match read_record::<super::images::NameRecord>(&path) {
                Ok(None) => continue, // removed since it was listed
                Ok(Some(record)) if Digest::of(record.key.as_bytes()) != file => format!("it is that of {:?}", record.key),
                Ok(Some(record)) if !self.store.has_image(&record.id) => {
                    format!("{:?} stands for image {}, which is missing", record.key, record.id)
                }
                Ok(Some(_)) => continue,
                Err(error) => format!("it cannot be read: {error}"),
            };
            self.find(Subject::Name(path), problem);
        }
        Ok(())
    }
}

fn digest_of(mut file: File) -> Result<Digest, FileError> {
    let mut sink = HashingSink::new();
    io::copy(&mut file, &mut sink).map_err(FileError::of("read", Path::new("blob")))?;
    sink.finish().map_err(FileError::of("hash", Path::new("blob")))
}
