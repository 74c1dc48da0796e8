//! The configuration of an image: OCI image specification "Image Configuration", with the fields Docker adds to it.
//!
//! Unknown fields are kept as they were read, so that an image that passes through us loses nothing.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use spec::value::Digest;
use std::collections::BTreeMap;

/// What an image says about itself and about the container made from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339. `None` for images made without a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Processor architecture in Go's words: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// How a container made from it runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// Its layers.
    pub rootfs: RootFs,
    /// How each layer, and each step without one, came about.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What else was there.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// An image without layers for this platform, saying nothing about how it runs: what `FROM scratch` begins with.
    pub fn empty(platform: &super::platform::Platform) -> Self {
        Self {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            config: RunConfig::default(),
            rootfs: RootFs::default(),
            history: Vec::new(),
            other: BTreeMap::new(),
        }
    }
}

/// How a container made from an image runs, unless told otherwise. The names are Docker's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// User and group, `user[:group]`, names or numbers; empty is root.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports it listens on, `80/tcp`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Environment, `KEY=value`, in order.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// First words of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Words that follow, replaced by those of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories whose content outlives the container.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Working directory; empty is `/`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to stop, `SIGTERM` or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How its health is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Shell of the shell forms in a Dockerfile; `None` is `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions run when another image is built from this one.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// What else was there.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The `{}` that stands as value where only the key says something. Whatever else stood there is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Empty {}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self {})
    }
}

/// Docker's health check of an image. Durations are nanoseconds; zero is "inherit the default".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`; empty inherits.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long a probe may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time at the start in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two probes during the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed tar streams, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of how an image came about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// What else was there.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Docker writes `null` where it has nothing to say.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_configuration_is_read_with_its_nulls_and_written_without_loss() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Hostname":"","User":"www","ExposedPorts":{"80/tcp":{}},
            "Env":["PATH=/bin"],"Cmd":null,"Volumes":null,"Entrypoint":["/bin/web"],"OnBuild":null,"Labels":null,
            "Healthcheck":{"Test":["CMD","true"],"Interval":5000000000},"StopSignal":"SIGQUIT"},"docker_version":"20.10",
            "history":[{"created_by":"COPY","empty_layer":true,"x":1}],"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.entrypoint.as_deref(), Some(&["/bin/web".to_owned()][..]));
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 5_000_000_000);
        assert_eq!(config.other["docker_version"], "20.10");
        assert_eq!(config.config.other["Hostname"], "");
        let again: ImageConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}
