//! `kind: Volume`: data that outlives containers.

use super::Pairs;
use schemars::JsonSchema;
use serde::Deserialize;

/// A volume. It is never deleted because its manifest is gone.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Volume")]
pub struct Volume {
    /// Whether it is made by others, and used as it is: nothing else is said of it then, and it is never changed or removed.
    pub external: Option<bool>,
    /// Labels: a map, or a list of KEY=value. Another place for `metadata.labels`.
    pub labels: Option<Pairs>,
}
