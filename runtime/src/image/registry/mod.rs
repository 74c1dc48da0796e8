//! Images from registries and to them ([`push`]): the distribution specification, OCI and Docker media types.
//!
//! Every byte is verified by digest before it counts. Layers are unpacked while they arrive, [`LAYERS_AT_ONCE`] at a time, and a layer
//! that another process is just unpacking is waited for, not fetched twice. A connection that breaks is resumed from the byte reached.

mod access;
mod authentication;
mod blob;
mod bundle;
mod client;
pub mod credentials;
mod error;
mod http;
mod lazy;
mod login;
mod patience;
pub mod policy;
mod proxy;
mod push;
mod retry;
pub mod settings;
pub mod signature;
mod token;
mod upload;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use authentication::{Challenge, parse_challenges};
pub use credentials::{Credential, CredentialFiles, CredentialPlaces};
pub use error::{RequestError, RequestFailed, Wish};
pub use lazy::{LazyImage, look_up};
pub use login::{LoginError, verify_login};
pub use patience::Patience;
pub use policy::PolicyError;
pub use proxy::{Proxies, ProxyError};
pub use push::{PushError, PushOptions, PushProgress, Pushed, Tagged, push};
pub use retry::Retry;
pub use settings::Settings;

use super::ImageId;
use super::config::ImageConfig;
use super::layer::BYTES_MAX;
use super::manifest::{self, CONFIG_BYTES_MAX, Descriptor, Document, MANIFEST_BYTES_MAX, Manifest, ManifestError};
use super::platform::Platform;
use super::store::{ImageStore, Origin, StoreError};
use blob::BlobReader;
use client::Client;
use spec::value::{Digest, ImageReference};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use token::Scope;

/// Layers fetched and unpacked at the same time: what Docker does; more only makes the disk and the registry busy.
pub const LAYERS_AT_ONCE: usize = 3;
/// An index may point at an index; a real one never nests deeper.
const INDEX_DEPTH_MAX: usize = 3;

/// How to pull.
pub struct PullOptions<'a> {
    /// What to choose from an index.
    pub platform: Platform,
    /// How registries are reached.
    pub access: &'a Access,
    /// Told what happens, from several threads at once.
    pub progress: &'a (dyn Fn(Progress<'_>) + Sync),
    /// Whether the image is still wanted: asked between two reads and while nothing can be done but wait. A server that is silent is
    /// noticed first, by [`Patience`].
    pub is_wanted: &'a IsWanted<'a>,
}

/// Asked from several threads at once whether to go on.
pub type IsWanted<'a> = dyn Fn() -> bool + Sync + 'a;

impl<'a> PullOptions<'a> {
    /// For this host's platform, telling nobody.
    pub fn new(access: &'a Access) -> Self {
        Self { platform: Platform::host(), access, progress: &|_| {}, is_wanted: &|| true }
    }
}

/// What a pull is doing.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The manifest for this platform is known.
    Resolved {
        /// Its digest.
        manifest: &'a Digest,
        /// Its layers, lowest first, compressed. Each is heard of again.
        layers: &'a [Descriptor],
    },
    /// What the reference stands for is in the store already. Nothing follows.
    UpToDate {
        /// Digest of its manifest.
        manifest: &'a Digest,
    },
    /// The layer is in the store already.
    LayerPresent {
        /// The compressed layer.
        layer: &'a Descriptor,
    },
    /// Some of a layer has come.
    LayerBytes {
        /// The compressed layer.
        layer: &'a Descriptor,
        /// How many of its bytes have come.
        done: u64,
    },
    /// The layer is unpacked and verified.
    LayerDone {
        /// The compressed layer.
        layer: &'a Descriptor,
    },
    /// A request failed and is tried again.
    Retrying {
        /// What was asked for.
        what: &'a str,
        /// Why it failed.
        reason: &'a str,
        /// When it is tried again.
        wait: Duration,
    },
}

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry did not give it.
    #[error(transparent)]
    Request(#[from] Box<RequestFailed>),
    /// There are mirrors, and no place has it.
    #[error("{reference} cannot be had at any of its {} places{}", tried.len(), list(tried))]
    Everywhere {
        /// The image.
        reference: Box<ImageReference>,
        /// The places and what each one came to, in order.
        tried: Vec<(String, PullError)>,
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
    /// What it gave is no image for this host.
    #[error("image {reference}")]
    Manifest {
        /// The image.
        reference: Box<ImageReference>,
        /// What is wrong.
        #[source]
        source: Box<ManifestError>,
    },
    /// Not the bytes that were promised.
    #[error("registry {registry} served {what} with digest {found} instead of {expected}: nothing of it was kept")]
    Digest {
        /// The registry.
        registry: String,
        /// Manifest or configuration.
        what: &'static str,
        /// The promised digest.
        expected: Digest,
        /// That of what came.
        found: Digest,
    },
    /// Manifest and configuration contradict each other or this host.
    #[error("image {reference}: {problem}")]
    Inconsistent {
        /// The image.
        reference: Box<ImageReference>,
        /// How.
        problem: String,
    },
    /// A layer could not be fetched, unpacked or verified.
    #[error("layer {layer} of {reference}")]
    Layer {
        /// The image.
        reference: Box<ImageReference>,
        /// The compressed layer.
        layer: Digest,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Places and their errors, one a line.
fn list(tried: &[(String, PullError)]) -> String {
    tried.iter().map(|(place, error)| format!("\n  {place}: {}", error::chain(error))).collect()
}

/// Makes ring the TLS library of this process; every call but the first does nothing.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already, which is all we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Pulls an image. It gets no name: hold a lease until it has one. Blobs that are in the store already are not fetched again, the
/// manifest always is: it tells what a tag stands for now.
///
/// Nothing of an image that fails is visible afterwards but layers that are whole and verified; they serve the next attempt.
///
/// Mirrors are asked in order, then the registry itself; the first that gives the whole image is the last that is asked.
pub fn pull(store: &ImageStore, reference: &ImageReference, options: &PullOptions<'_>) -> Result<ImageId, PullError> {
    let _lease = store.lease()?;
    from_places(store, reference, options, |pull| pull.run())
}

/// What the first place gives that can: the mirrors in order, then the registry itself.
fn from_places<T>(
    store: &ImageStore,
    reference: &ImageReference,
    options: &PullOptions<'_>,
    attempt: impl Fn(&Pull<'_>) -> Result<T, PullError>,
) -> Result<T, PullError> {
    let settings = &options.access.settings;
    let refused = |source| PullError::Policy { reference: Box::new(reference.clone()), source };
    policy::admit(settings, reference).map_err(refused)?;
    if settings.is_blocked(reference) {
        return Err(refused(PolicyError::Blocked { registry: reference.registry().to_owned() }));
    }
    let mut tried = Vec::new();
    for endpoint in settings.sources(reference) {
        let scopes = vec![Scope::pull(&endpoint.repository)];
        let client = Client::new(&endpoint, scopes, options.access, options.progress).while_wanted(options.is_wanted);
        match attempt(&Pull { store, reference, options, client }) {
            Ok(given) => return Ok(given),
            // Nothing that another place could cure.
            Err(error @ PullError::Store(_)) => return Err(error),
            Err(error) if !(options.is_wanted)() => return Err(error),
            Err(error) => tried.push((endpoint.name(), error)),
        }
    }
    match tried.pop() {
        Some((_, error)) if tried.is_empty() => Err(error),
        Some(last) => {
            tried.push(last);
            Err(PullError::Everywhere { reference: Box::new(reference.clone()), tried })
        }
        None => unreachable!("the registry itself is always a source"),
    }
}

/// Bytes that the layers which are not here will take at least: as they travel, and unpacked no smaller than that.
fn least_bytes<'a>(store: &ImageStore, layers: impl IntoIterator<Item = (&'a Descriptor, &'a Digest)>) -> u64 {
    let missing = layers.into_iter().filter(|(_, diff_id)| !store.has_layer(diff_id));
    missing.map(|(layer, _)| layer.size.saturating_mul(2)).fold(0, u64::saturating_add)
}

struct Pull<'a> {
    store: &'a ImageStore,
    reference: &'a ImageReference,
    options: &'a PullOptions<'a>,
    client: Client<'a>,
}

impl Pull<'_> {
    /// All of it, from one place.
    fn run(&self) -> Result<ImageId, PullError> {
        if let Some(id) = self.unchanged()? {
            return Ok(id);
        }
        let (manifest, bytes, path) = self.resolve()?;
        let origin = policy::verify(&self.client, &self.options.access.settings, self.reference, &path)?;
        let id = manifest.config.digest;
        let digest = Digest::of(&bytes);
        if self.store.has_image(&id) {
            (self.options.progress)(Progress::UpToDate { manifest: &digest });
            self.store.put_origin(&id, &origin)?;
            return Ok(id);
        }
        (self.options.progress)(Progress::Resolved { manifest: &digest, layers: &manifest.layers });
        let config_bytes = self.config(&manifest)?;
        let config = self.check(&manifest, &config_bytes)?;
        self.store.check_room(least_bytes(self.store, manifest.layers.iter().zip(&config.rootfs.diff_ids)))?;
        self.layers(&manifest, &config.rootfs.diff_ids)?;
        self.store.put_origin(&id, &origin)?;
        Ok(self.store.put_image_bytes(&config_bytes, Some(&bytes))?)
    }

    /// The image that has the name here, if the registry says that its tag still stands for what it was pulled as. That is asked by
    /// HEAD, which Docker Hub does not count against its limit of pulls.
    fn unchanged(&self) -> Result<Option<ImageId>, PullError> {
        let (Some(tag), None, true) = (self.reference.tag(), self.reference.digest(), self.options.platform == Platform::host()) else {
            return Ok(None);
        };
        let Some(id) = self.store.find(&self.reference.to_string())?.filter(|id| self.store.has_image(id)) else { return Ok(None) };
        let is_same = |origin: &Origin| origin.repository == policy::name_of(self.reference) && origin.tag.as_deref() == Some(tag);
        let Some(origin) = self.store.origins(&id).unwrap_or_default().into_iter().rfind(is_same) else { return Ok(None) };
        let now = match self.client.digest_of(tag) {
            Ok(now) => now,
            Err(error) if error.is_nobody() => return Err(self.client.failed(Wish::Get, &format!("manifest {tag}"), error).into()),
            // It goes wrong with the question that follows too, and is told there.
            Err(_) => None,
        };
        if now.is_none() || now.as_ref() != origin.manifests.first() {
            return Ok(None);
        }
        let origin = policy::verify(&self.client, &self.options.access.settings, self.reference, &origin.manifests)?;
        self.store.put_origin(&id, &origin)?;
        (self.options.progress)(Progress::UpToDate { manifest: origin.manifests.last().unwrap_or(&id) });
        Ok(Some(id))
    }

    /// The manifest for the platform, with its exact bytes, and the digests of all documents on the way to it.
    fn resolve(&self) -> Result<(Manifest, Vec<u8>, Vec<Digest>), PullError> {
        let wrong = |source| PullError::Manifest { reference: Box::new(self.reference.clone()), source: Box::new(source) };
        let mut expected = self.reference.digest().copied();
        let tag = self.reference.tag().unwrap_or_default();
        let mut name = expected.map_or_else(|| tag.to_owned(), |digest| digest.to_string());
        let mut path = Vec::new();
        for _ in 0..INDEX_DEPTH_MAX {
            let what = format!("manifest {name}");
            let document = self.client.document(&format!("manifests/{name}"), &what, MANIFEST_BYTES_MAX)?;
            self.verify("a manifest", expected, &document.bytes)?;
            path.push(Digest::of(&document.bytes));
            match manifest::parse(&document.bytes, document.media_type.as_deref()).map_err(wrong)? {
                Document::Manifest(manifest) => return Ok((manifest, document.bytes, path)),
                Document::Index(index) => {
                    let chosen = manifest::choose(&index, &self.options.platform).map_err(wrong)?;
                    expected = Some(chosen.digest);
                    name = chosen.digest.to_string();
                }
            }
        }
        Err(self.inconsistent(format!("its indexes nest deeper than {INDEX_DEPTH_MAX}")))
    }

    fn config(&self, manifest: &Manifest) -> Result<Vec<u8>, PullError> {
        let digest = manifest.config.digest;
        let document = self.client.document(&format!("blobs/{digest}"), &format!("configuration {digest}"), CONFIG_BYTES_MAX)?;
        self.verify("a configuration", Some(digest), &document.bytes)?;
        Ok(document.bytes)
    }

    /// Refuses what does not fit together or does not run here, before any layer is fetched.
    fn check(&self, manifest: &Manifest, config: &[u8]) -> Result<ImageConfig, PullError> {
        let config: ImageConfig =
            serde_json::from_slice(config).map_err(|error| self.inconsistent(format!("its configuration is not valid: {error}")))?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(self.inconsistent(format!("its manifest has {layers} layers, its configuration {diff_ids}")));
        }
        let offered = Platform { os: config.os.clone(), architecture: config.architecture.clone(), variant: config.variant.clone() };
        let wanted = &self.options.platform;
        if wanted.rank(&offered).is_none() {
            return Err(self.inconsistent(format!("it is for {offered}, and {wanted} is wanted")));
        }
        for layer in &manifest.layers {
            let kind = layer.media_type.as_str();
            let is_layer = kind.starts_with("application/vnd.oci.image.layer.") || kind.starts_with("application/vnd.docker.image.rootfs.");
            if !is_layer || kind.ends_with("+encrypted") {
                return Err(self.inconsistent(format!("layer {} is of type {kind:?}, which is not a layer we can read", layer.digest)));
            }
            if layer.size > BYTES_MAX {
                return Err(self.inconsistent(format!("layer {} has {} bytes, at most {BYTES_MAX} are taken", layer.digest, layer.size)));
            }
        }
        Ok(config)
    }

    /// Fetches and unpacks what is missing, several layers at a time. After the first failure no new layer is begun.
    fn layers(&self, manifest: &Manifest, diff_ids: &[Digest]) -> Result<(), PullError> {
        let next = AtomicUsize::new(0);
        let cancelled = AtomicBool::new(false);
        let failure: Mutex<Option<PullError>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..LAYERS_AT_ONCE.min(diff_ids.len()) {
                scope.spawn(|| {
                    while !cancelled.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(layer), Some(diff_id)) = (manifest.layers.get(at), diff_ids.get(at)) else { break };
                        if let Err(source) = self.layer(layer, diff_id, &cancelled) {
                            // The others fail because of the cancellation: the first failure is the one to report.
                            let first = !cancelled.swap(true, Ordering::Relaxed);
                            if first {
                                self.client.hang_up();
                            }
                            if first && let Ok(mut failure) = failure.lock() {
                                let (reference, source) = (Box::new(self.reference.clone()), Box::new(source));
                                *failure = Some(PullError::Layer { reference, layer: layer.digest, source });
                            }
                        }
                    }
                });
            }
        });
        match failure.into_inner() {
            Ok(Some(error)) => Err(error),
            Ok(None) => Ok(()),
            Err(_) => Err(self.inconsistent("a thread of the pull panicked".to_owned())),
        }
    }

    fn layer(&self, layer: &Descriptor, diff_id: &Digest, cancelled: &AtomicBool) -> Result<(), StoreError> {
        if self.store.has_layer(diff_id) {
            (self.options.progress)(Progress::LayerPresent { layer });
            return Ok(());
        }
        let is_wanted = || !cancelled.load(Ordering::Relaxed) && (self.options.is_wanted)();
        let lock = self.store.lock_layer_while(diff_id, &is_wanted)?;
        // Whoever held the lock before us may have been pulling this very layer.
        if self.store.has_layer(diff_id) {
            (self.options.progress)(Progress::LayerPresent { layer });
            return Ok(lock.remove()?);
        }
        self.store.unpack_blob(layer, diff_id, |position| Ok(BlobReader::source(&self.client, layer, position, cancelled)))?;
        self.store.remember_place(&layer.digest, self.client.registry(), self.client.repository());
        (self.options.progress)(Progress::LayerDone { layer });
        Ok(lock.remove()?)
    }

    fn verify(&self, what: &'static str, expected: Option<Digest>, bytes: &[u8]) -> Result<(), PullError> {
        let found = Digest::of(bytes);
        match expected {
            Some(expected) if expected != found => {
                Err(PullError::Digest { registry: self.client.registry().to_owned(), what, expected, found })
            }
            _ => Ok(()),
        }
    }

    fn inconsistent(&self, problem: String) -> PullError {
        PullError::Inconsistent { reference: Box::new(self.reference.clone()), problem }
    }
}
