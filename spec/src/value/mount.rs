//! What is mounted into a container.

use super::{ByteSize, Digest, Name, ValueError, serde_as_text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An absolute, normalised path inside a container: no `.`, no `..`, no empty part, and not `/` itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountTarget(String);

impl MountTarget {
    /// The path as text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MountTarget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.starts_with('/') {
            return Err(ValueError::with_hint(format!("mount target {text:?} is not absolute"), format!("write /{text}")));
        }
        if text.contains('\0') || text.split('/').any(|part| part == "..") {
            return Err(ValueError::new(format!("mount target {text:?} contains '..' or a NUL byte")));
        }
        let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        // A mount over these would hide the kernel's own view from the container, or ours of it (CVE-2019-16884).
        match parts.first().copied() {
            None => Err(ValueError::new("the root directory cannot be a mount target")),
            Some("proc" | "sys") => Err(ValueError::new(format!("mount target {text:?} lies in /proc or /sys"))),
            Some(_) => Ok(Self(format!("/{}", parts.join("/")))),
        }
    }
}

impl fmt::Display for MountTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

serde_as_text!(MountTarget);

/// Where a bind mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BindSource {
    /// A path of the host, mounted live. Its content is not part of the container's identity.
    Host {
        /// Absolute path on the host.
        path: PathBuf,
    },
    /// A file or directory of the site, mounted read-only from a snapshot. Its content is part of the container's identity.
    Site {
        /// Path relative to the site's root, normalised, without `..`.
        path: String,
        /// Digest of the content: file bytes, or of the whole tree.
        content: Digest,
    },
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Mount {
    /// A named volume.
    Volume {
        /// The volume.
        name: Name,
        /// Where it appears.
        target: MountTarget,
        /// Whether the container may only read it.
        read_only: bool,
    },
    /// A file or directory of the host or the site.
    Bind {
        /// What is mounted.
        source: BindSource,
        /// Where it appears.
        target: MountTarget,
        /// Whether the container may only read it.
        read_only: bool,
    },
    /// Memory, empty at every start.
    Tmpfs {
        /// Where it appears.
        target: MountTarget,
        /// Most it may hold; half of the host's memory if `None`.
        size: Option<ByteSize>,
        /// Permission bits of its root, 0o1777 if not said.
        mode: u32,
    },
}

impl Mount {
    /// Where the mount appears in the container.
    pub fn target(&self) -> &MountTarget {
        match self {
            Self::Volume { target, .. } | Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}
