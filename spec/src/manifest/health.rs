//! Health checks as written.

use super::{DurationText, TextOrList};
use schemars::JsonSchema;
use serde::Deserialize;

/// A probe run inside the container; its exit code 0 is healthy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "HealthCheck")]
pub struct HealthCheck {
    /// `[CMD, program, argument…]`, `[CMD-SHELL, "a line for /bin/sh"]`, `[NONE]`, or a text: a line for /bin/sh.
    pub test: Option<TextOrList>,
    /// Time between two probes; 30s unless said.
    pub interval: Option<DurationText>,
    /// How long a probe may take; 30s unless said.
    pub timeout: Option<DurationText>,
    /// Failures in a row that make it unhealthy; 3 unless said.
    #[schemars(range(min = 1))]
    pub retries: Option<u32>,
    /// Time at the start in which failures do not count; 0s unless said.
    pub start_period: Option<DurationText>,
    /// Switches the image's own health check off.
    pub disable: Option<bool>,
}
