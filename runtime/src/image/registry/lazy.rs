//! Images of which only manifest and configuration were fetched: a layer comes when it is asked for.

use super::client::Client;
use super::settings::Endpoint;
use super::token::Scope;
use super::{Pull, PullError, PullOptions, from_places, least_bytes, policy};
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::image::manifest::Manifest;
use crate::image::store::ImageStore;
use spec::value::{Digest, ImageReference, Scheme};
use std::sync::atomic::AtomicBool;

/// An image that stays where it is. Nothing of it is in the store but the layers that were fetched.
#[derive(Debug)]
pub struct LazyImage {
    reference: ImageReference,
    endpoint: Endpoint,
    scheme: Option<Scheme>,
    manifest: Manifest,
    config: ImageConfig,
}

/// Finds out what an image is, as [`super::pull`] does, with the same rules for where it may come from and who must have signed it.
pub fn look_up(store: &ImageStore, reference: &ImageReference, options: &PullOptions<'_>) -> Result<LazyImage, PullError> {
    from_places(store, reference, options, |pull| {
        let (manifest, _, path) = pull.resolve()?;
        policy::verify(&pull.client, &options.access.settings, reference, &path)?;
        let config = pull.check(&manifest, &pull.config(&manifest)?)?;
        let (endpoint, scheme) = pull.client.place();
        Ok(LazyImage { reference: reference.clone(), endpoint, scheme, manifest, config })
    })
}

impl LazyImage {
    /// Its identity.
    pub fn id(&self) -> ImageId {
        self.manifest.config.digest
    }

    /// What it says about itself.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Fetches one of its layers, by diff id, from the place that the image was found at. Does nothing if the layer is here, or if it is
    /// none of the image's.
    pub fn fetch(&self, store: &ImageStore, diff_id: &Digest, options: &PullOptions<'_>) -> Result<(), PullError> {
        let mut layers = self.manifest.layers.iter().zip(&self.config.rootfs.diff_ids);
        let Some((layer, _)) = layers.find(|(_, found)| *found == diff_id) else { return Ok(()) };
        let _lease = store.lease()?;
        let client = Client::new(&self.endpoint, vec![Scope::pull(&self.endpoint.repository)], options.access, options.progress);
        let client = client.by(self.scheme).while_wanted(options.is_wanted);
        let pull = Pull { store, reference: &self.reference, options, client };
        store.check_room(least_bytes(store, [(layer, diff_id)]))?;
        let failed =
            |source| PullError::Layer { reference: Box::new(self.reference.clone()), layer: layer.digest, source: Box::new(source) };
        pull.layer(layer, diff_id, &AtomicBool::new(false)).map_err(failed)
    }
}
