//! `container.json`: all that is kept of a container as long as it exists. One file, so that one write makes it and one read tells it.
//!
//! It changes under the container's lock only: by the lock's holder, or by the shim while it answers the holder's request.

use super::config::ContainerConfig;
use super::error::ContainerError;
use super::file::{self, Lasting};
use super::state::Timestamp;
use crate::places::Places;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use spec::value::ContainerId;

/// Its name in the directory of the container.
pub(crate) const DOCUMENT: &str = "container.json";

/// What it says. `C` is as much of the configuration as is wanted, `A` what the caller keeps beside it, as a type of its own where
/// it says which.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Document<C, A> {
    /// When the container was made.
    pub(crate) created: Timestamp,
    /// What it is told to be.
    pub(crate) config: C,
    /// What the caller keeps beside that; null if nothing.
    pub(crate) annotations: A,
}

/// The configuration alone. Errors: [`ContainerError::NotFound`], [`ContainerError::Corrupt`].
pub(crate) fn read_config(places: &Places, id: &ContainerId) -> Result<ContainerConfig, ContainerError> {
    read::<_, IgnoredAny>(places, id).map(|document| document.config)
}

/// Replaces what is changed in it, whole or not at all; gives back the configuration as it is then.
pub(crate) fn change(
    places: &Places,
    id: &ContainerId,
    change: impl FnOnce(&mut Document<ContainerConfig, serde_json::Value>),
) -> Result<ContainerConfig, ContainerError> {
    let mut document = read(places, id)?;
    change(&mut document);
    file::write(&places.container(id).join(DOCUMENT), &document, Lasting::Synced)?;
    Ok(document.config)
}

fn read<C: DeserializeOwned, A: DeserializeOwned>(places: &Places, id: &ContainerId) -> Result<Document<C, A>, ContainerError> {
    file::read(&places.container(id).join(DOCUMENT))?.ok_or_else(|| ContainerError::NotFound { id: id.clone() })
}
