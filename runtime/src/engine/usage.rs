//! What takes disk: images, containers, volumes, build cache. Every byte counts once, whoever shares it.

use super::{Engine, EngineError, Needed};
use crate::builder::cache::CachedStep;
use crate::builder::{CacheMount, CacheMounts, KeptDownload, downloads};
use crate::image::store::ImageSummary;
use crate::store::usage::tree_bytes;
use crate::time;
use serde::Serialize;
use spec::value::{ContainerId, Digest, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// What takes disk on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Images, by id.
    pub images: Vec<ImageUsage>,
    /// Bytes of all their layers, configurations and manifests, shared ones once.
    pub image_bytes: u64,
    /// Those of them that would be free if the images that nothing uses went, and the cached steps that have the same layers.
    pub image_bytes_unused: u64,
    /// Containers.
    pub containers: Vec<ContainerUsage>,
    /// Volumes.
    pub volumes: Vec<VolumeUsage>,
    /// Steps of the build cache, oldest first, with the bytes of the layer that each holds alone.
    pub steps: Vec<(CachedStep, u64)>,
    /// Cache mounts.
    pub mounts: Vec<CacheMount>,
    /// Files of the web that builds took.
    pub downloads: Vec<KeptDownload>,
    /// Bytes of what only saves builds time: digests of contexts, lists of what layers hold.
    pub index_bytes: u64,
    /// Layers in the form in which they travelled, and what interrupted pulls left.
    pub travelled_bytes: u64,
    /// Those that are needed in this form.
    pub served_bytes: u64,
    /// Layers that neither an image nor the build cache holds: of builds that go on, or left by interrupted ones.
    pub loose_bytes: u64,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageUsage {
    /// Id, names and the like.
    #[serde(flatten)]
    pub summary: ImageSummary,
    /// Bytes of disk that other images have too.
    pub shared_bytes: u64,
    /// Bytes of disk that only this image has.
    pub unique_bytes: u64,
    /// Containers made from it.
    pub containers: usize,
    /// Whether a container, a site, or a past generation of a site needs it.
    pub in_use: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUsage {
    /// Which.
    pub id: ContainerId,
    /// Its image; `None` if its configuration cannot be read.
    pub image: Option<Digest>,
    /// Bytes of disk: what it changed, its logs.
    pub bytes: u64,
    /// When it was made, or told to be something else; now, if that cannot be told.
    #[serde(skip)]
    pub created: SystemTime,
    /// Whether it runs, or is about to.
    pub running: bool,
    /// Whether a site has it.
    pub of_site: bool,
}

impl ContainerUsage {
    /// Whether it may go: nothing runs in it and no site wants it.
    pub fn is_unused(&self) -> bool {
        !self.running && !self.of_site && self.image.is_some()
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeUsage {
    /// Which.
    pub name: Name,
    /// Bytes of disk.
    pub bytes: u64,
    /// Containers, running or not, that mount it.
    pub containers: Vec<ContainerId>,
    /// Whether a site has it.
    pub of_site: bool,
}

impl VolumeUsage {
    /// Whether it may go if that is asked for: no container mounts it and no site has it.
    pub fn is_unused(&self) -> bool {
        self.containers.is_empty() && !self.of_site
    }
}

impl Engine {
    /// What takes disk, and what of it is needed.
    pub fn disk_usage(&self, needed: &Needed) -> Result<DiskUsage, EngineError> {
        let store = self.images.usage()?;
        let cache = crate::builder::cache_of(&self.images)?;
        let containers = self.container_usage(needed)?;
        let summaries = self.images.list()?;
        let mut holders: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut layers = BTreeMap::new();
        for summary in &summaries {
            let own: BTreeSet<Digest> = summary.layers.iter().copied().collect();
            own.iter().for_each(|layer| *holders.entry(*layer).or_default() += 1);
            layers.insert(summary.id, own);
        }
        let bytes_of = |layer: &Digest| store.layers.get(layer).copied().unwrap_or(0);
        let documents: BTreeSet<Digest> = summaries.iter().flat_map(|it| it.manifest.into_iter().chain([it.id])).collect();
        let document_bytes = |digest: &Digest| store.blobs.get(digest).copied().unwrap_or(0);
        let mut images = Vec::new();
        let mut used_layers = BTreeSet::new();
        let mut unused_documents = 0;
        for summary in summaries {
            let own = &layers[&summary.id];
            let (unique, shared): (Vec<_>, Vec<_>) = own.iter().partition(|layer| holders.get(*layer) == Some(&1));
            let users = containers.iter().filter(|it| it.image == Some(summary.id)).count();
            let named = summary.keys.iter().any(|key| needed.names.contains(key));
            let in_use = users > 0 || named || needed.images.contains(&summary.id);
            if in_use {
                used_layers.extend(own.iter().copied());
            }
            let own_documents = summary.manifest.iter().chain([&summary.id]).map(document_bytes).sum::<u64>();
            if !in_use {
                unused_documents += own_documents;
            }
            images.push(ImageUsage {
                shared_bytes: shared.into_iter().map(bytes_of).sum(),
                unique_bytes: unique.into_iter().map(bytes_of).sum::<u64>() + own_documents,
                containers: users,
                in_use,
                summary,
            });
        }
        let steps = cache.steps()?;
        let cached: BTreeSet<Digest> = steps.iter().filter_map(|step| step.record.layer).collect();
        let of_images = |layer: &Digest| holders.contains_key(layer);
        let mut counted = BTreeSet::new();
        let mut held_alone = |layer: Option<Digest>| match layer {
            Some(layer) if !of_images(&layer) && counted.insert(layer) => bytes_of(&layer),
            Some(_) | None => 0,
        };
        let image_layers: BTreeSet<&Digest> = holders.keys().collect();
        let (served, travelled): (Vec<_>, Vec<_>) =
            store.blobs.iter().filter(|(digest, _)| !documents.contains(*digest)).partition(|(digest, _)| needed.blobs.contains(*digest));
        Ok(DiskUsage {
            image_bytes: image_layers.iter().map(|layer| bytes_of(layer)).sum::<u64>() + documents.iter().map(document_bytes).sum::<u64>(),
            image_bytes_unused: image_layers
                .iter()
                .filter(|layer| !used_layers.contains(**layer))
                .map(|layer| bytes_of(layer))
                .sum::<u64>()
                + unused_documents,
            images,
            volumes: self.volume_usage(needed)?,
            containers,
            steps: steps.into_iter().map(|step| (step.clone(), held_alone(step.record.layer))).collect(),
            mounts: CacheMounts::of(&self.images).list()?,
            downloads: downloads(&self.images)?,
            index_bytes: cache.indexes().iter().map(|path| tree_bytes(path)).sum(),
            travelled_bytes: travelled.into_iter().map(|(_, bytes)| bytes).sum::<u64>() + store.partial,
            served_bytes: served.into_iter().map(|(_, bytes)| bytes).sum(),
            loose_bytes: store.layers.iter().filter(|(layer, _)| !of_images(layer) && !cached.contains(*layer)).map(|(_, it)| it).sum(),
        })
    }

    fn container_usage(&self, needed: &Needed) -> Result<Vec<ContainerUsage>, EngineError> {
        let usage = |(id, snapshot): (ContainerId, Result<crate::container::Snapshot, _>)| ContainerUsage {
            bytes: tree_bytes(&self.places.container(&id)),
            created: snapshot.as_ref().map_or_else(|_| SystemTime::now(), |it| time::system(it.created)),
            image: snapshot.as_ref().ok().map(|it| it.config.image),
            // One that cannot be read may run.
            running: snapshot.as_ref().map_or(true, |snapshot| snapshot.state.phase.is_alive()),
            of_site: needed.containers.contains(&id),
            id,
        };
        Ok(self.containers()?.into_iter().map(usage).collect())
    }

    fn volume_usage(&self, needed: &Needed) -> Result<Vec<VolumeUsage>, EngineError> {
        let mut volumes = Vec::new();
        let mut users = self.users_of_volumes()?;
        for name in crate::volume::list_volumes(&self.places)?.into_keys() {
            let containers = users.remove(&name).unwrap_or_default();
            let bytes = tree_bytes(&self.places.volume(&name));
            volumes.push(VolumeUsage { bytes, containers, of_site: needed.volumes.contains(&name), name });
        }
        Ok(volumes)
    }
}
