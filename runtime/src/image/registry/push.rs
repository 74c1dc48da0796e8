//! Images to registries: the push side of the distribution specification.
//!
//! Blobs first, [`BLOBS_AT_ONCE`] at a time, then the manifest that names them, last the tag: whoever pulls meanwhile gets the old
//! image or the new one. Compressed layers that are kept go as they came, and what the registry has already does not go at all.

use super::Progress;
use super::access::Access;
use super::client::Client;
use super::error::RequestError;
use super::http::{Content, Message, accepted};
use super::policy::PolicyError;
use super::token::Scope;
use super::upload::{Arrival, Upload};
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::image::manifest::{self, Descriptor, Document, Index, MANIFEST_BYTES_MAX, media_type};
use crate::image::platform::Platform;
use crate::image::publish::{Origin, Published, manifest_of};
use crate::image::store::{ImageStore, StoreError};
use spec::value::{Digest, ImageReference};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use ureq::http::{Method, StatusCode, header};

/// Blobs sent at the same time: between Docker's five and what fills a link already.
pub const BLOBS_AT_ONCE: usize = 4;
/// Repositories a blob is tried to be mounted from: each is a question, and a question costs as much as a small blob.
const MOUNTS_MAX: usize = 2;

/// How to push.
pub struct PushOptions<'a> {
    /// How registries are reached.
    pub access: &'a Access,
    /// What the tag stands for afterwards.
    pub tagged: Tagged,
    /// Told what happens, from several threads at once.
    pub progress: &'a (dyn Fn(PushProgress<'_>) + Sync),
}

/// What a tag stands for after a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tagged {
    /// The image.
    #[default]
    Image,
    /// An index in which it is the image for its platform; those of other platforms that are there under the tag stay.
    Index,
}

/// What a push is doing.
#[derive(Debug, Clone, Copy)]
pub enum PushProgress<'a> {
    /// Layers that are not kept compressed are being compressed.
    Preparing,
    /// What is to be pushed is known, and compressed.
    Prepared {
        /// Its digest.
        manifest: &'a Digest,
        /// Its layers and its configuration, each once. Each is heard of again.
        blobs: &'a [&'a Descriptor],
        /// Where the manifest comes from.
        origin: Origin,
    },
    /// The repository has the blob already.
    Present {
        /// The blob.
        blob: &'a Descriptor,
    },
    /// Another repository of the registry had it.
    Mounted {
        /// The blob.
        blob: &'a Descriptor,
        /// That repository.
        from: &'a str,
    },
    /// Some of a blob was sent.
    Bytes {
        /// The blob.
        blob: &'a Descriptor,
        /// How many of its bytes were.
        done: u64,
    },
    /// The blob was sent.
    Sent {
        /// The blob.
        blob: &'a Descriptor,
    },
    /// A request failed and is tried again.
    Retrying {
        /// What was wanted.
        what: &'a str,
        /// Why it failed.
        reason: &'a str,
        /// When it is tried again.
        wait: Duration,
    },
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of what the tag stands for now.
    pub digest: Digest,
    /// Bytes of that document.
    pub size: u64,
    /// Where the image's manifest came from.
    pub origin: Origin,
}

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry did not take it.
    #[error("put {what} into {repository} of registry {registry}")]
    Request {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What was put.
        what: String,
        /// Why not.
        #[source]
        source: Box<RequestError>,
    },
    /// The rules of this host are against it.
    #[error("image {reference}")]
    Policy {
        /// The image.
        reference: Box<ImageReference>,
        /// Which rule.
        #[source]
        source: PolicyError,
    },
    /// It is told by its content, which is not known before.
    #[error("{reference} names a digest: an image is pushed to a tag")]
    Pinned {
        /// The name.
        reference: Box<ImageReference>,
    },
    /// What the tag stands for there cannot be added to.
    #[error("{reference} stands for something that is neither an image nor an index: {problem}")]
    NotAnIndex {
        /// The name.
        reference: Box<ImageReference>,
        /// What is wrong with it.
        problem: String,
    },
    /// The registry says it has something else now.
    #[error("registry {registry} calls what was put {found}, its digest is {expected}")]
    Digest {
        /// The registry.
        registry: String,
        /// What was put.
        expected: Digest,
        /// What it answered.
        found: String,
    },
    /// A thread of it ended early: an error of ours.
    #[error("a thread of the push panicked")]
    Panicked,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Pushes an image of the store to a tag of a registry, compressing first what has no compressed form yet.
///
/// A blob that was damaged in the store is noticed by the registry: it is made again and pushed once more.
pub fn push(store: &ImageStore, id: &ImageId, reference: &ImageReference, options: &PushOptions<'_>) -> Result<Pushed, PushError> {
    let settings = &options.access.settings;
    if reference.digest().is_some() {
        return Err(PushError::Pinned { reference: Box::new(reference.clone()) });
    }
    if settings.is_blocked(reference) {
        let source = PolicyError::Blocked { registry: reference.registry().to_owned() };
        return Err(PushError::Policy { reference: Box::new(reference.clone()), source });
    }
    let first = push_once(store, id, reference, options);
    match first {
        Err(PushError::Request { ref source, .. }) if source.status() == Some(StatusCode::BAD_REQUEST) => {
            if drop_damaged_blobs(store, id)? { push_once(store, id, reference, options) } else { first }
        }
        other => other,
    }
}

/// Removes compressed layers of an image that are not what they are called. Whether there was one.
fn drop_damaged_blobs(store: &ImageStore, id: &ImageId) -> Result<bool, StoreError> {
    let mut found = false;
    for diff_id in store.layers_of(id)? {
        if let Some(blob) = store.layer(&diff_id)?.and_then(|layer| layer.blob)
            && !store.blob_is_sound(&blob)?
        {
            store.remove_blob(&blob.digest)?;
            found = true;
        }
    }
    Ok(found)
}

fn push_once(store: &ImageStore, id: &ImageId, reference: &ImageReference, options: &PushOptions<'_>) -> Result<Pushed, PushError> {
    (options.progress)(PushProgress::Preparing);
    let published = manifest_of(store, id)?;
    let blobs: BTreeMap<Digest, &Descriptor> = published.layers.iter().chain([&published.config]).map(|blob| (blob.digest, blob)).collect();
    let known_in = store.places_of(blobs.keys(), reference.registry(), reference.repository(), MOUNTS_MAX);
    let blobs: Vec<&Descriptor> = blobs.into_values().collect();
    (options.progress)(PushProgress::Prepared { manifest: &published.digest, blobs: &blobs, origin: published.origin });
    let sources: BTreeSet<&String> = known_in.values().flatten().collect();
    let scopes = [Scope::push(reference.repository())].into_iter().chain(sources.into_iter().map(|from| Scope::pull(from)));
    let endpoint = options.access.settings.origin(reference.registry(), reference.repository());
    let tell = |event: Progress<'_>| {
        if let Progress::Retrying { what, reason, wait } = event {
            (options.progress)(PushProgress::Retrying { what, reason, wait });
        }
    };
    let client = Client::new(&endpoint, scopes.collect(), options.access, &tell);
    let push = Push { store, reference, options, client };
    push.blobs(&blobs, &known_in)?;
    push.manifests(&published)
}

struct Push<'a> {
    store: &'a ImageStore,
    reference: &'a ImageReference,
    options: &'a PushOptions<'a>,
    client: Client<'a>,
}

impl Push<'_> {
    /// Sends what is missing, several blobs at a time, the largest first. After the first failure no new one is begun.
    fn blobs(&self, blobs: &[&Descriptor], known_in: &BTreeMap<Digest, Vec<String>>) -> Result<(), PushError> {
        let mut order = blobs.to_vec();
        order.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        let next = AtomicUsize::new(0);
        let cancelled = AtomicBool::new(false);
        let failure: Mutex<Option<PushError>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..BLOBS_AT_ONCE.min(order.len()) {
                scope.spawn(|| {
                    while !cancelled.load(Ordering::Relaxed) {
                        let Some(blob) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                        let known_in = known_in.get(&blob.digest).map(Vec::as_slice).unwrap_or_default();
                        if let Err(error) = self.blob(blob, known_in)
                            && !cancelled.swap(true, Ordering::Relaxed)
                            && let Ok(mut failure) = failure.lock()
                        {
                            *failure = Some(error);
                        }
                    }
                });
            }
        });
        match failure.into_inner() {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(PushError::Panicked),
        }
    }

    fn blob(&self, blob: &Descriptor, known_in: &[String]) -> Result<(), PushError> {
        let file = self.store.open_blob(&blob.digest)?.ok_or(StoreError::NoBlob(blob.digest))?;
        let sent = |done| (self.options.progress)(PushProgress::Bytes { blob, done });
        let upload = Upload { client: &self.client, blob, file: &file, known_in, sent: &sent };
        let arrival = upload.run().map_err(|source| self.failed(format!("blob {}", blob.digest), source))?;
        (self.options.progress)(match &arrival {
            Arrival::Present => PushProgress::Present { blob },
            Arrival::Mounted(from) => PushProgress::Mounted { blob, from },
            Arrival::Sent => PushProgress::Sent { blob },
        });
        self.store.remember_place(&blob.digest, self.reference.registry(), self.reference.repository());
        Ok(())
    }

    fn manifests(&self, published: &Published) -> Result<Pushed, PushError> {
        let tag = self.reference.tag().unwrap_or("latest");
        let pushed = |digest, bytes: &[u8]| Pushed { digest, size: bytes.len() as u64, origin: published.origin };
        match self.options.tagged {
            Tagged::Image => {
                self.put_manifest(tag, &published.manifest, &published.media_type)?;
                Ok(pushed(published.digest, &published.manifest))
            }
            Tagged::Index => {
                self.put_manifest(&published.digest.to_string(), &published.manifest, &published.media_type)?;
                let (index, media_type) = self.index_with(published, tag)?;
                self.put_manifest(tag, &index, &media_type)?;
                Ok(pushed(Digest::of(&index), &index))
            }
        }
    }

    fn put_manifest(&self, name: &str, bytes: &[u8], media_type: &str) -> Result<(), PushError> {
        let what = format!("manifest {name}");
        let message =
            Message { method: Method::PUT, headers: vec![(header::CONTENT_TYPE, media_type.to_owned())], body: Content::Bytes(bytes) };
        let response = self.retried(&what, || accepted(self.client.request(&format!("manifests/{name}"), &message)?))?;
        let expected = Digest::of(bytes);
        match response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok()) {
            Some(found) if found.starts_with("sha256:") && found != expected.to_string() => {
                Err(PushError::Digest { registry: self.client.registry().to_owned(), expected, found: found.to_owned() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The index that is there, or a new one, with this image as the one for its platform.
    fn index_with(&self, published: &Published, tag: &str) -> Result<(Vec<u8>, String), PushError> {
        let platform = self.platform_of(&published.config.digest)?;
        let mut index = match self.present(tag)? {
            None => Index { schema_version: 2, media_type: Some(media_type::OCI_INDEX.to_owned()), manifests: Vec::new() },
            Some((Document::Index(index), _)) => index,
            Some((Document::Manifest(there), bytes)) => {
                let entry = self.entry(&bytes, there.media_type, self.remote_platform(&there.config)?);
                Index { schema_version: 2, media_type: Some(media_type::OCI_INDEX.to_owned()), manifests: vec![entry] }
            }
        };
        index.manifests.retain(|entry| entry.platform.as_ref() != Some(&platform));
        index.manifests.push(self.entry(&published.manifest, Some(published.media_type.clone()), platform));
        let kind = index.media_type.get_or_insert_with(|| media_type::OCI_INDEX.to_owned()).clone();
        let bytes = serde_json::to_vec(&index).map_err(|error| self.no_index(error.to_string()))?;
        Ok((bytes, kind))
    }

    fn entry(&self, manifest: &[u8], media_type: Option<String>, platform: Platform) -> Descriptor {
        Descriptor {
            media_type: media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()),
            digest: Digest::of(manifest),
            size: manifest.len() as u64,
            platform: Some(platform),
            annotations: BTreeMap::new(),
        }
    }

    /// What the tag stands for now.
    fn present(&self, tag: &str) -> Result<Option<(Document, Vec<u8>)>, PushError> {
        let what = format!("manifest {tag}");
        match self.retried(&what, || self.client.fetch(&format!("manifests/{tag}"), MANIFEST_BYTES_MAX)) {
            Ok(fetched) => {
                let document = manifest::parse(&fetched.bytes, fetched.media_type.as_deref());
                Ok(Some((document.map_err(|error| self.no_index(error.to_string()))?, fetched.bytes)))
            }
            Err(PushError::Request { source, .. }) if source.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn platform_of(&self, config: &Digest) -> Result<Platform, PushError> {
        self.read_platform(&self.store.blob(config)?)
    }

    fn remote_platform(&self, config: &Descriptor) -> Result<Platform, PushError> {
        let path = format!("blobs/{}", config.digest);
        let what = format!("configuration {}", config.digest);
        let bytes = self.retried(&what, || self.client.fetch(&path, manifest::CONFIG_BYTES_MAX))?.bytes;
        if Digest::of(&bytes) != config.digest {
            return Err(self.no_index(format!("its {what} is not what the registry has under that digest")));
        }
        self.read_platform(&bytes)
    }

    fn read_platform(&self, config: &[u8]) -> Result<Platform, PushError> {
        let config: ImageConfig = serde_json::from_slice(config).map_err(|error| self.no_index(error.to_string()))?;
        Ok(Platform { os: config.os, architecture: config.architecture, variant: config.variant })
    }

    fn retried<T>(&self, what: &str, request: impl Fn() -> Result<T, RequestError>) -> Result<T, PushError> {
        let mut failures = 0;
        loop {
            let error = match request() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            self.client.wait_or_give_up(what, failures, error).map_err(|source| self.failed(what.to_owned(), source))?;
        }
    }

    fn failed(&self, what: String, source: RequestError) -> PushError {
        let (registry, repository) = (self.client.registry().to_owned(), self.reference.repository().to_owned());
        PushError::Request { registry, repository, what, source: Box::new(source) }
    }

    fn no_index(&self, problem: String) -> PushError {
        PushError::NotAnIndex { reference: Box::new(self.reference.clone()), problem }
    }
}
