//! Steps that were done elsewhere: found by their keys, their layers brought when a step needs what they hold, and not before.
//!
//! A layer that cannot be had then makes the build begin again without it: what is done by now is in the cache, and the steps that
//! made the layer are done here.

use super::cache::CacheRecord;
use super::error::{BuildError, StepError};
use super::share::{SharedCache, Steps};
use crate::image::registry::{IsWanted, LAYERS_AT_ONCE};
use crate::image::store::{ImageStore, no_room};
use spec::value::Digest;
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// After so many layers that could not be had no more are asked for: a place that is gone is not waited for once a layer.
const FAILURES_MAX: usize = 3;

/// The caches of a build that are elsewhere.
pub(super) struct Distant<'a> {
    caches: &'a [SharedCache<'a>],
    /// Layers that could not be had.
    failed: Mutex<BTreeSet<Digest>>,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<'a> Distant<'a> {
    /// Those of a build, the one to be asked first first.
    pub(super) fn new(caches: &'a [SharedCache<'a>]) -> Self {
        Self { caches, failed: Mutex::default() }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// All steps that they know.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Digest, &CacheRecord)> {
        self.caches.iter().flat_map(|cache| &cache.steps)
    }

    /// What one of them knows of a step, if its layer is here or can be had.
    pub(super) fn find(&self, key: &Digest, store: &ImageStore) -> Option<CacheRecord> {
        let can_serve = |record: &&CacheRecord| record.layer.is_none_or(|layer| store.has_layer(&layer) || self.is_to_be_had(&layer));
        self.caches.iter().filter_map(|cache| cache.steps.get(key)).find(can_serve).cloned()
    }

    fn is_to_be_had(&self, layer: &Digest) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.len() < FAILURES_MAX && !failed.contains(layer)
    }

    /// Brings layers, several at a time. Errors: [`StepError::SharedLayer`] for the first that cannot be had; all of those count as
    /// gone from then on.
    pub(super) fn bring(&self, layers: &BTreeSet<Digest>, is_wanted: &IsWanted<'_>) -> Result<(), StepError> {
        let left = Mutex::new(layers.iter());
        let failures = Mutex::new(Vec::new());
        let work = || {
            // Not in the loop's head: the lock would be held while the layer comes.
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some(layer) = next() {
                if let Err(source) = self.fetch(layer, is_wanted) {
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(StepError::SharedLayer { layer: *layer, source });
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..LAYERS_AT_ONCE.min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.extend(failures.iter().filter_map(StepError::lost_layer));
        // What is not to be cured without the layer comes first.
        let first = failures.into_iter().min_by_key(|failure| failure.lost_layer().is_some());
        first.map_or(Ok(()), Err)
    }

    /// A layer, from the first cache that gives it.
    fn fetch(&self, layer: &Digest, is_wanted: &IsWanted<'_>) -> Result<(), BoxError> {
        let mut failure = BoxError::from("no cache has it");
        for cache in self.caches.iter().filter(|cache| cache.steps.values().any(|step| step.layer == Some(*layer))) {
            match (cache.fetch)(layer, is_wanted) {
                Ok(()) => return Ok(()),
                Err(error) if no_room(&*error).is_some() => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// Brings the layers of all these steps, for a cache that holds them all. Steps whose layer cannot be had are left out. Errors: there is
/// no room.
pub fn complete_cache(store: &ImageStore, caches: &[SharedCache<'_>], steps: &mut Steps) -> Result<(), BuildError> {
    let is_here = |record: &CacheRecord| record.layer.is_none_or(|layer| store.has_layer(&layer));
    let missing = steps.values().filter(|record| !is_here(record)).filter_map(|record| record.layer).collect();
    match Distant::new(caches).bring(&missing, &|| true) {
        Err(error) if error.lost_layer().is_none() => return Err(BuildError::SharedCache(Box::new(error))),
        Ok(()) | Err(_) => steps.retain(|_, record| is_here(record)),
    }
    Ok(())
}

impl StepError {
    /// The layer of a cache that could not be had, if the build can do without it.
    pub(super) fn lost_layer(&self) -> Option<Digest> {
        let Self::SharedLayer { layer, source } = self else { return None };
        no_room(&**source).is_none().then_some(*layer)
    }
}
