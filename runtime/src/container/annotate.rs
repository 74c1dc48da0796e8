//! `annotate`: what the caller keeps beside a container. Never read here.

use super::error::ContainerError;
use super::file::{self, Lasting};
use super::lock;
use crate::places::Places;
use spec::value::ContainerId;

/// Replaces the annotations, whole or not at all.
pub fn annotate(places: &Places, id: &ContainerId, annotations: &serde_json::Value) -> Result<(), ContainerError> {
    let _lock = lock::lock(places, id)?;
    file::write(&places.container(id).join("annotations.json"), annotations, Lasting::Synced)
}
