//! Platforms and the choice among those an index offers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Operating system and processor, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// Processor architecture: `amd64`, `arm64`, `arm`, `386`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this host.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7".to_owned())),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None), // s390x, riscv64: the same word in both worlds
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// How well an image for `offered` runs here: the lower the better, `None` if not at all.
    ///
    /// arm64 without a variant is v8; 32-bit arm runs its own variant and all below it, the nearest best; amd64's
    /// variants above the base level are not asked for.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if (self.os.as_str(), self.architecture.as_str()) != (offered.os.as_str(), offered.architecture.as_str()) {
            return None;
        }
        let level = |platform: &Self| -> Option<u32> {
            let implied = match platform.architecture.as_str() {
                "arm64" => "v8",
                "arm" => "v7",
                _ => "v1",
            };
            platform.variant.as_deref().filter(|variant| !variant.is_empty()).unwrap_or(implied).strip_prefix('v')?.parse().ok()
        };
        level(self)?.checked_sub(level(offered)?)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = self.variant.as_deref().map(|variant| format!("/{variant}")).unwrap_or_default();
        f.pad(&format!("{}/{}{variant}", self.os, self.architecture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
    }

    #[test]
    fn ranks() {
        for (host, offered, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64", "linux/386", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/amd64", "unknown/unknown", None),
        ] {
            assert_eq!(platform(host).rank(&platform(offered)), rank, "{offered} on {host}");
        }
    }
}
