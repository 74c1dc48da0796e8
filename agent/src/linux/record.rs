//! What the agent remembers beside a container, network or volume: whose it is and the rendered manifest it was made from, so
//! that an upgrade of the agent that changes a default changes nothing that runs.

use crate::plan::actual::Owner;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spec::desired::Image;
use spec::value::{Digest, Name};
use std::collections::BTreeMap;

/// What an obtained image's entry in the ledger says: what it was made from, and on which images of the site.
pub(super) type AppliedImage = (Image, BTreeMap<Name, Digest>);

/// Kept as annotations of the resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied<T> {
    /// Whose it is.
    pub owner: Owner,
    /// The manifest, defaults applied.
    pub applied: T,
}

impl<T: Serialize + DeserializeOwned> Applied<T> {
    /// Reads it back; the reason if it is not there or not readable by this version.
    pub fn read(annotations: &serde_json::Value) -> Result<Self, String> {
        if annotations.is_null() {
            return Err("it was not made by this agent".to_owned());
        }
        Self::deserialize(annotations).map_err(|error| format!("its record is not readable by this version: {error}"))
    }

    /// As it is stored.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("manifests have text keys and finite numbers")
    }
}
