//! What nothing needs any more: images without a name that no container was made from.

use super::{Engine, EngineError};
use crate::image::ImageId;
use crate::image::store::{Freed, Roots};

impl Engine {
    /// Removes images that have no name and no container, and layers that no image and no cached build step has.
    pub fn collect_garbage(&self) -> Result<Freed, EngineError> {
        let mut roots = Roots::default();
        for snapshot in self.containers()?.into_values() {
            // A container that cannot be read may use any image: its error ends this before anything is removed.
            roots.images.insert(snapshot?.config.image);
        }
        roots.layers = crate::builder::cached_layers(&self.images)?;
        Ok(self.images.gc(&roots)?)
    }

    /// Removes a name of an image, then the image if that was its last one and no container uses it.
    pub fn forget_image(&self, key: &str) -> Result<Freed, EngineError> {
        self.images.untag(key)?;
        self.collect_garbage()
    }

    /// Containers that were made from an image.
    pub fn image_users(&self, image: &ImageId) -> Result<Vec<spec::value::ContainerId>, EngineError> {
        let containers = self.containers()?.into_iter();
        Ok(containers.filter(|(_, it)| it.as_ref().is_ok_and(|it| it.config.image == *image)).map(|(id, _)| id).collect())
    }
}
