//! What nothing needs any more, and who needs what: containers are known here, what sites need the caller says ([`Needed`]).

use super::{Engine, EngineError};
use crate::builder::cache::{Cache, CachedStep};
use crate::builder::{CacheMount, CacheMounts, KeptDownload, downloads, remove_download};
use crate::image::ImageId;
use crate::image::store::{Alone, Freed, Garbage, Named, Roots, Travelled, Usage};
use crate::store::atomic;
use crate::store::usage::tree_bytes;
use spec::value::{ContainerId, Digest, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

/// What must stay though no container uses it at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needed {
    /// Images, by what they are: those of past generations of a site.
    pub images: BTreeSet<ImageId>,
    /// Images, by their names: those of the sites.
    pub names: BTreeSet<String>,
    /// Blobs that are served by their digests.
    pub blobs: BTreeSet<Digest>,
    /// Containers of the sites.
    pub containers: BTreeSet<ContainerId>,
    /// Volumes of the sites.
    pub volumes: BTreeSet<Name>,
}

/// How far a collection goes beyond images without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// What becomes of images that have a name, but neither a container nor a site.
    pub unused: UnusedImages,
    /// Most bytes that cached steps and cache mounts may hold alone; what has not served for the longest time goes first.
    pub cache_bytes: u64,
    /// What becomes of layers in the form in which they travelled.
    pub travelled: Travelled,
    /// Images that came here since then stay, and steps and mounts that have served since then.
    pub before: Option<SystemTime>,
}

/// What becomes of images that have a name, but neither a container nor a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusedImages {
    /// They stay: somebody named them.
    Keep,
    /// They go.
    Remove,
}

impl Default for Reach {
    /// What nobody can miss: images without a name.
    fn default() -> Self {
        Self { unused: UnusedImages::Keep, cache_bytes: u64::MAX, travelled: Travelled::Keep, before: None }
    }
}

impl Reach {
    /// Everything that can be had again.
    pub const ALL: Self = Self { unused: UnusedImages::Remove, cache_bytes: 0, travelled: Travelled::Drop, before: None };
}

/// What a collection would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collectable {
    /// Of the store.
    pub store: Garbage,
    /// Steps of the build cache; what they take is that of their layers,
    pub steps: Vec<CachedStep>,
    /// and this for what is remembered of them.
    pub step_bytes: u64,
    /// Files of the cache that only save time.
    pub indexes: Vec<PathBuf>,
    /// Downloads.
    pub downloads: Vec<KeptDownload>,
    /// Cache mounts.
    pub mounts: Vec<CacheMount>,
}

impl Collectable {
    /// Bytes of disk that would be free.
    pub fn bytes(&self) -> u64 {
        self.store.bytes() + self.bytes_of_cache()
    }

    /// Those of them that are not of the image store.
    fn bytes_of_cache(&self) -> u64 {
        let indexes: u64 = self.indexes.iter().map(|path| tree_bytes(path)).sum();
        let downloads: u64 = self.downloads.iter().map(|download| download.size_bytes).sum();
        self.step_bytes + indexes + downloads + self.mounts.iter().map(|mount| mount.size_bytes).sum::<u64>()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty() && self.steps.is_empty() && self.mounts.is_empty() && self.downloads.is_empty() && self.indexes.is_empty()
    }
}

/// All that a decision is made from.
struct Ground {
    cache: Cache,
    usage: Usage,
    steps: Vec<CachedStep>,
    mounts: Vec<CacheMount>,
    downloads: Vec<KeptDownload>,
    roots: Roots,
}

impl Engine {
    /// What a collection that goes this far would remove once these containers are gone. Looks only.
    pub fn garbage_without(&self, going: &BTreeSet<ContainerId>, needed: &Needed, reach: Reach) -> Result<Collectable, EngineError> {
        Ok(self.collectable(&self.ground(needed, going)?, needed, reach)?.0)
    }

    /// Removes it. Errors: [`crate::image::store::StoreError::Busy`] while a pull, import or build is running anywhere.
    pub fn collect_garbage(&self, needed: &Needed, reach: Reach) -> Result<Freed, EngineError> {
        self.collect(&self.images.alone()?, needed, reach)
    }

    fn collect(&self, alone: &Alone, needed: &Needed, reach: Reach) -> Result<Freed, EngineError> {
        let ground = self.ground(needed, &BTreeSet::new())?;
        let (collectable, roots) = self.collectable(&ground, needed, reach)?;
        // Steps first: none may name a layer that is gone.
        for step in &collectable.steps {
            ground.cache.forget(&step.key)?;
        }
        for mount in &collectable.mounts {
            CacheMounts::of(&self.images).remove(&mount.name)?;
        }
        let bytes_of_cache = collectable.bytes_of_cache();
        for download in &collectable.downloads {
            remove_download(&self.images, &download.digest)?;
        }
        for index in &collectable.indexes {
            atomic::remove_file(index)?;
        }
        let freed = self.images.sweep(alone, &roots)?;
        Ok(Freed { bytes: freed.bytes + bytes_of_cache, ..freed })
    }

    /// Frees at least so many bytes, going no further than it must: images without a name and what interrupted pulls left, then the
    /// build cache from its oldest end, then layers in the form in which they travelled, and last, unless they are kept, images that only
    /// have a name.
    ///
    /// Removes nothing if all of that is not enough.
    pub fn make_room(&self, alone: &Alone, needed: &Needed, missing: u64, unused: UnusedImages) -> Result<Room, EngineError> {
        let ground = self.ground(needed, &BTreeSet::new())?;
        let base = Reach { travelled: Travelled::Whole, ..Reach::default() };
        let mut most = 0;
        for reach in [
            base,
            Reach { cache_bytes: self.cache_without(&ground, needed, base, missing)?, ..base },
            Reach { cache_bytes: 0, ..base },
            Reach { cache_bytes: 0, travelled: Travelled::Drop, ..base },
            Reach { unused, ..Reach::ALL },
        ] {
            most = self.collectable(&ground, needed, reach)?.0.bytes();
            if most >= missing {
                return Ok(Room::Made(self.collect(alone, needed, reach)?));
            }
        }
        Ok(Room::Lacking { collectable: most })
    }

    /// Removes a name of an image, then the image if that was its last one and nothing needs it.
    pub fn forget_image(&self, key: &str, needed: &Needed) -> Result<Freed, EngineError> {
        self.images.untag(key)?;
        self.collect_garbage(needed, Reach::default())
    }

    /// Containers that were made from an image.
    pub fn image_users(&self, image: &ImageId) -> Result<Vec<ContainerId>, EngineError> {
        let containers = self.containers()?.into_iter();
        Ok(containers.filter(|(_, it)| it.as_ref().is_ok_and(|it| it.config.image == *image)).map(|(id, _)| id).collect())
    }

    fn ground(&self, needed: &Needed, going: &BTreeSet<ContainerId>) -> Result<Ground, EngineError> {
        let cache = crate::builder::cache_of(&self.images)?;
        let mut roots = Roots { images: needed.images.clone(), blobs: needed.blobs.clone(), ..Roots::default() };
        for (_, snapshot) in self.containers()?.into_iter().filter(|(id, _)| !going.contains(id)) {
            // A container that cannot be read may use any image: its error ends this before anything is removed.
            let config = snapshot?.config;
            roots.images.insert(config.image);
            // By themselves too: a container whose image was damaged still has them mounted.
            roots.layers.extend(config.layers.iter().filter_map(|path| self.images.layer_at(path)));
        }
        let (steps, mounts) = (cache.steps()?, CacheMounts::of(&self.images).list()?);
        let downloads = downloads(&self.images)?;
        Ok(Ground { cache, usage: self.images.usage()?, steps, mounts, downloads, roots })
    }

    /// What goes, and the roots that say so.
    fn collectable(&self, ground: &Ground, needed: &Needed, reach: Reach) -> Result<(Collectable, Roots), EngineError> {
        let named = match reach.unused {
            UnusedImages::Keep => Named::All,
            UnusedImages::Remove => Named::Only(needed.names.clone()),
        };
        let mut roots = Roots { named, travelled: reach.travelled, ..ground.roots.clone() };
        if let Some(before) = reach.before {
            let young = self.images.list()?.into_iter().filter(|image| image.added >= before);
            roots.images.extend(young.map(|image| image.id));
        }
        // What is garbage without a cache is what the cache holds alone.
        let alone = self.images.garbage_of(&roots, &ground.usage)?.layers;
        let is_old = |used: SystemTime| reach.before.is_none_or(|before| used < before);
        let (old, young): (Vec<_>, Vec<_>) = ground.steps.iter().cloned().partition(|step| is_old(step.used));
        roots.layers.extend(young.into_iter().filter_map(|step| step.record.layer));
        let mut items: Vec<Item> = old.into_iter().map(Item::Step).collect();
        items.extend(ground.mounts.iter().filter(|mount| is_old(mount.last_used)).cloned().map(Item::Mount));
        items.extend(ground.downloads.iter().filter(|download| is_old(download.last_used)).cloned().map(Item::Download));
        let (kept, gone) = within(reach.cache_bytes, items, &alone);
        roots.layers.extend(kept);
        let mut collectable = Collectable { store: self.images.garbage_of(&roots, &ground.usage)?, ..Collectable::default() };
        for item in gone {
            match item {
                Item::Step(step) => collectable.steps.push(step),
                Item::Mount(mount) => collectable.mounts.push(mount),
                Item::Download(download) => collectable.downloads.push(download),
            }
        }
        collectable.step_bytes = ground.cache.record_bytes(&collectable.steps);
        // They come back with the next build, and are of no use without what goes.
        if reach.cache_bytes == 0 && reach.before.is_none() {
            collectable.indexes = ground.cache.indexes();
        }
        Ok((collectable, roots))
    }

    /// Bytes the cache may keep so that so many are free.
    fn cache_without(&self, ground: &Ground, needed: &Needed, reach: Reach, missing: u64) -> Result<u64, EngineError> {
        let with = self.collectable(ground, needed, reach)?.0.bytes();
        let without = self.collectable(ground, needed, Reach { cache_bytes: 0, ..reach })?.0.bytes();
        Ok((without - with).saturating_sub(missing.saturating_sub(with)))
    }
}

/// What came of [`Engine::make_room`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is room now.
    Made(Freed),
    /// Not even everything that may go would be enough; nothing was removed.
    Lacking {
        /// Bytes that may go.
        collectable: u64,
    },
}

/// A part of the build cache.
#[derive(Debug, Clone)]
enum Item {
    Step(CachedStep),
    Mount(CacheMount),
    Download(KeptDownload),
}

impl Item {
    fn used(&self) -> SystemTime {
        match self {
            Self::Step(step) => step.used,
            Self::Mount(mount) => mount.last_used,
            Self::Download(download) => download.last_used,
        }
    }
}

/// The layers that a cache of so many bytes keeps, and what of it goes, the youngest first. `alone` is what layers take that nothing else
/// holds: a step costs what its layer does, and nothing if somebody else pays.
fn within(limit: u64, mut items: Vec<Item>, alone: &BTreeMap<Digest, u64>) -> (BTreeSet<Digest>, Vec<Item>) {
    items.sort_by_key(|item| std::cmp::Reverse(item.used()));
    let bytes_of = |layer: &Digest| alone.get(layer).copied().unwrap_or(0);
    let (mut left, mut kept, mut gone) = (limit, BTreeSet::new(), Vec::new());
    for item in items {
        let cost = match &item {
            Item::Step(step) => step.record.layer.filter(|layer| !kept.contains(layer)).map_or(0, |layer| bytes_of(&layer)),
            Item::Mount(mount) => mount.size_bytes,
            Item::Download(download) => download.size_bytes,
        };
        if limit > 0 && cost <= left {
            left -= cost;
            if let Item::Step(step) = &item {
                kept.extend(step.record.layer);
            }
        } else {
            // Nothing older is kept in its place: the cache ends where its room does.
            left = 0;
            gone.push(item);
        }
    }
    (kept, gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::cache::CacheRecord;
    use std::time::{Duration, UNIX_EPOCH};

    fn step(at: u64, layer: &str) -> CachedStep {
        let layer = (!layer.is_empty()).then(|| Digest::of(layer.as_bytes()));
        let record = CacheRecord { layer, size_bytes: 0, instruction: format!("RUN {at}") };
        CachedStep { key: Digest::of(&at.to_le_bytes()), record, used: UNIX_EPOCH + Duration::from_secs(at) }
    }

    #[test]
    fn a_cache_within_a_limit_keeps_what_served_last_and_what_costs_nothing() {
        let steps = [step(1, "old"), step(2, "held"), step(3, ""), step(4, "middle"), step(5, "new"), step(6, "new")];
        let alone: BTreeMap<_, _> =
            [("old", 10), ("middle", 20), ("new", 30)].map(|(name, size)| (Digest::of(name.as_bytes()), size)).into();
        let mount = CacheMount { name: "m".to_owned(), id: "m".to_owned(), size_bytes: 5, last_used: UNIX_EPOCH, in_use: false };
        let gone = |limit| {
            let items = steps.iter().cloned().map(Item::Step).chain([Item::Mount(mount.clone())]).collect();
            let (_, gone) = within(limit, items, &alone);
            let of_step = |item: &Item| if let Item::Step(step) = item { Some(step.record.instruction.clone()) } else { None };
            let steps: Vec<_> = gone.iter().filter_map(of_step).collect();
            (steps.join(" "), gone.len() - steps.len())
        };
        assert_eq!(gone(u64::MAX), (String::new(), 0));
        assert_eq!(gone(65), (String::new(), 0));
        assert_eq!(gone(60), (String::new(), 1));
        assert_eq!(gone(59), ("RUN 1".to_owned(), 1));
        assert_eq!(gone(40), ("RUN 4 RUN 1".to_owned(), 1));
        assert_eq!(gone(0), ("RUN 6 RUN 5 RUN 4 RUN 3 RUN 2 RUN 1".to_owned(), 1));
    }
}
