//! What the agent remembers beside a container, network or volume: whose it is and the rendered manifest it was made from, so
//! that an upgrade of the agent that changes a default changes nothing that runs.
//!
//! Every field of these forms that comes later has to have a default: what an older version wrote stays readable.

use crate::plan::actual::Owner;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spec::desired::Image;
use spec::value::{Digest, ImageReference, Name};
use std::collections::BTreeMap;

/// What an obtained image's entry in the ledger says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedImage {
    /// What it was made from.
    pub image: Image,
    /// The images of the site it was built on.
    pub bases: BTreeMap<Name, Digest>,
    /// Digest of its manifest as written; `None` if it has none.
    #[serde(default)]
    pub written: Option<Digest>,
    /// The names it was published under, each with the image that was.
    #[serde(default)]
    pub published: BTreeMap<ImageReference, Digest>,
}

/// Kept as annotations of the resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied<T> {
    /// Whose it is.
    pub owner: Owner,
    /// The manifest, defaults applied.
    pub applied: T,
    /// Digest of the manifest as written; `None` if it has none.
    #[serde(default)]
    pub written: Option<Digest>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use spec::desired::{Container, Network, Volume};

    /// Records as the first version wrote them, one a line: kind, a tab, the JSON.
    const FIRST_VERSION: &str = include_str!("record/first_version.txt");

    #[test]
    fn what_the_first_version_wrote_is_readable() {
        for line in FIRST_VERSION.lines() {
            let (kind, record) = line.split_once('\t').unwrap();
            let record: serde_json::Value = serde_json::from_str(record).unwrap();
            let read = match kind {
                "container" => Applied::<Container>::read(&record).map(drop),
                "network" => Applied::<Network>::read(&record).map(drop),
                "volume" => Applied::<Volume>::read(&record).map(drop),
                "image" => AppliedImage::deserialize(&record).map(drop).map_err(|error| error.to_string()),
                other => panic!("no kind {other}"),
            };
            assert_eq!(read, Ok(()), "{kind}: a new field needs #[serde(default)]");
        }
    }
}
