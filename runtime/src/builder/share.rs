//! The build cache among hosts: which step made which layer, as a field of an image's configuration.
//!
//! ```text
//! "agent.build-cache": {"version": "1", "steps": {"sha256:…": {"layer": 0, "instruction": "RUN make"}, …}}
//! ```
//!
//! `layer` is the place in the image's own list of layers; a step that changed nothing has none. The image is either the one that was
//! built (an inline cache) or one made for this alone, whose layers are those of the steps. Either is pushed, pulled, saved and
//! verified like any other image.

use super::cache::{CacheRecord, VERSION};
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::image::manifest::LAYERS_MAX;
use crate::image::platform::Platform;
use crate::image::registry::IsWanted;
use crate::image::store::{ImageStore, StoreError};
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;

/// The field of a configuration.
pub(super) const FIELD: &str = "agent.build-cache";
/// The same of BuildKit: they say something of the image they stand in, not of one built on it.
pub(super) const FIELDS_OF_OTHERS: [&str; 2] = ["moby.buildkit.cache.v0", "moby.buildkit.buildinfo.v1"];

/// Steps that a build did or found done, by their keys.
pub type Steps = BTreeMap<Digest, CacheRecord>;

#[derive(Serialize, Deserialize)]
struct Shared {
    version: String,
    steps: BTreeMap<Digest, SharedStep>,
}

#[derive(Serialize, Deserialize)]
struct SharedStep {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    instruction: String,
}

/// Why a cache could not be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The image has none, or one that this version does not understand.
    #[error("image {0} holds no build cache of this version")]
    None(ImageId),
    /// More layers than an image may have.
    #[error("{0} layers are more than the {LAYERS_MAX} that one image may have: export fewer steps (mode=min)")]
    TooMany(usize),
    /// The image store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The steps whose layers an image has, besides those that made none.
pub fn steps_of(store: &ImageStore, image: &ImageId, steps: &Steps) -> Result<Steps, StoreError> {
    let layers: BTreeSet<Digest> = store.image(image)?.config.rootfs.diff_ids.into_iter().collect();
    let within = |record: &CacheRecord| record.layer.is_none_or(|layer| layers.contains(&layer));
    Ok(steps.iter().filter(|(_, record)| within(record)).map(|(key, record)| (*key, record.clone())).collect())
}

/// An image that holds these steps and is of no other use. The same steps make the same image.
pub fn export(store: &ImageStore, steps: &Steps) -> Result<ImageId, ShareError> {
    let mut config = ImageConfig::empty(&Platform::host());
    let layers: BTreeSet<Digest> = steps.values().filter_map(|record| record.layer).collect();
    if layers.len() > LAYERS_MAX {
        return Err(ShareError::TooMany(layers.len()));
    }
    config.rootfs.diff_ids = layers.into_iter().collect();
    annotate(&mut config, steps);
    Ok(store.put_image(&config)?)
}

/// Notes in a configuration which steps made its layers.
pub(super) fn annotate(config: &mut ImageConfig, steps: &Steps) {
    let places: BTreeMap<&Digest, usize> = config.rootfs.diff_ids.iter().enumerate().map(|(place, layer)| (layer, place)).collect();
    let step = |(key, record): (&Digest, &CacheRecord)| {
        let layer = match record.layer {
            None => None,
            Some(layer) => Some(*places.get(&layer)?),
        };
        Some((*key, SharedStep { layer, instruction: record.instruction.clone() }))
    };
    let shared = Shared { version: VERSION.to_owned(), steps: steps.iter().filter_map(step).collect() };
    let shared = serde_json::to_value(shared).expect("digests and texts are JSON");
    config.other.insert(FIELD.to_owned(), shared);
}

/// A build cache of elsewhere: steps that are known, and layers that can be had.
pub struct SharedCache<'a> {
    pub(super) steps: Steps,
    pub(super) fetch: Box<Fetch<'a>>,
}

/// Brings a layer of a cache into the store, by its diff id, as long as it is wanted. Called from several threads at once, never for a
/// layer that is here.
pub type Fetch<'a> = dyn Fn(&Digest, &IsWanted<'_>) -> Result<(), Box<dyn Error + Send + Sync>> + Sync + 'a;

impl fmt::Debug for SharedCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCache").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl<'a> SharedCache<'a> {
    /// What an image says of the steps that made its layers. None of those has to be here; `fetch` is asked for one when a build needs
    /// what it holds. Errors: [`ShareError::None`].
    pub fn new(image: ImageId, config: &ImageConfig, fetch: Box<Fetch<'a>>) -> Result<Self, ShareError> {
        let shared = config.other.get(FIELD).and_then(|value| Shared::deserialize(value).ok());
        let shared = shared.filter(|shared| shared.version == VERSION).ok_or(ShareError::None(image))?;
        let step = |(key, step): (Digest, SharedStep)| {
            let layer = match step.layer {
                None => None,
                // One that names a layer which the image does not have is none.
                Some(place) => Some(*config.rootfs.diff_ids.get(place)?),
            };
            Some((key, CacheRecord { layer, size_bytes: 0, instruction: step.instruction }))
        };
        Ok(Self { steps: shared.steps.into_iter().filter_map(step).collect(), fetch })
    }

    /// How many steps it knows.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
