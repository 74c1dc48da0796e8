//! What the engine keeps beside a container's configuration, in its annotations.

use serde::{Deserialize, Serialize};

/// Beside the configuration: who serves, and what the engine's user wants remembered, as a type of its own where it says which.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Keep<A = serde_json::Value> {
    /// Whether published ports and names lead to it while it runs. In a replacement the old one has this until the switch.
    pub serving: bool,
    /// The user's own; never looked at here.
    pub annotations: A,
}

impl Keep {
    /// Reads it back; a container made by other means serves and has nothing to remember.
    pub fn of(annotations: &serde_json::Value) -> Self {
        Self::deserialize(annotations).unwrap_or(Self { serving: true, annotations: serde_json::Value::Null })
    }

    /// Only whether it serves.
    pub fn serves(annotations: &serde_json::Value) -> bool {
        match annotations.as_object() {
            Some(keep) => keep.get("serving").is_some_and(|serving| serving.as_bool().unwrap_or(true)),
            None => true,
        }
    }

    /// As it is stored.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::json!({ "serving": self.serving, "annotations": self.annotations })
    }
}
