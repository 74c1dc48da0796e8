//! `annotate`: what the caller keeps beside a container. Never read here.

use super::document;
use super::error::ContainerError;
use super::lock;
use crate::places::Places;
use spec::value::ContainerId;

/// Replaces the annotations, whole or not at all.
pub fn annotate(places: &Places, id: &ContainerId, annotations: serde_json::Value) -> Result<(), ContainerError> {
    let _lock = lock::lock(places, id)?;
    document::change(places, id, |document| document.annotations = annotations).map(drop)
}
