//! Volumes, binds and tmpfs as written.

use crate::value::{ByteSize, MountTarget, ValueError};
use schemars::JsonSchema;
use serde::Deserialize;
use std::str::FromStr;

/// The short form: `source:target[:ro|rw]`. A source with `/` or `.` at its front is a path, else it is a volume's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortMount {
    /// A volume's name or a path, as written.
    pub source: String,
    /// Where it appears in the container.
    pub target: MountTarget,
    /// Whether `ro` was written.
    pub read_only: bool,
}

impl FromStr for ShortMount {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let hint = "write source:target or source:target:ro, such as data:/var/lib/data or ./conf:/etc/app:ro";
        let mut parts = text.split(':');
        let (source, target, options) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(source), Some(target), options, None) => (source, target, options),
            (Some(target), None, None, None) if target.starts_with('/') => {
                let hint = format!("name a volume, such as data:{target}, and add a Volume manifest for it");
                return Err(ValueError::with_hint(format!("{text:?} has no source: a volume without a name would be lost"), hint));
            }
            _ => return Err(ValueError::with_hint(format!("{text:?} is not a mount"), hint)),
        };
        if source.is_empty() {
            return Err(ValueError::with_hint(format!("{text:?} has no source"), hint));
        }
        let mut read_only = false;
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                _ => return Err(ValueError::with_hint(format!("mount option {option:?} is not supported"), "use ro or rw")),
            }
        }
        Ok(Self { source: source.to_owned(), target: target.parse()?, read_only })
    }
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MountKind {
    /// A named volume.
    Volume,
    /// A file or directory of the site or the host.
    Bind,
    /// Memory, empty at every start.
    Tmpfs,
}

/// The long form of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Mount")]
pub struct MountEntry {
    /// `volume`, `bind` or `tmpfs`; unless said, a source that looks like a path is a bind, any other a volume.
    #[serde(rename = "type")]
    pub kind: Option<MountKind>,
    /// The volume's name, or a path: absolute on the host, or relative to this manifest. None for tmpfs.
    pub source: Option<String>,
    /// Where it appears: an absolute path in the container.
    pub target: MountTarget,
    /// Whether the container may only read it.
    pub read_only: Option<bool>,
    /// Most that a tmpfs may hold; half of the host's memory unless said.
    pub size: Option<ByteSize>,
    /// Permission bits of a tmpfs, octal; 1777 unless said.
    pub mode: Option<OctalMode>,
}

/// The short form of a tmpfs: `target[:size=64Mi,mode=1777]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortTmpfs {
    /// Where it appears.
    pub target: MountTarget,
    /// Most it may hold.
    pub size: Option<ByteSize>,
    /// Permission bits of its root.
    pub mode: Option<OctalMode>,
}

impl FromStr for ShortTmpfs {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (target, options) = text.split_once(':').map_or((text, None), |(target, options)| (target, Some(options)));
        let mut tmpfs = Self { target: target.parse()?, size: None, mode: None };
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            match option.split_once('=') {
                Some(("size", size)) => tmpfs.size = Some(size.parse()?),
                Some(("mode", mode)) => tmpfs.mode = Some(mode.parse()?),
                _ => {
                    let hint = "use size=… and mode=…, such as /run:size=64Mi,mode=755";
                    return Err(ValueError::with_hint(format!("tmpfs option {option:?} is not supported"), hint));
                }
            }
        }
        Ok(tmpfs)
    }
}

impl<'de> Deserialize<'de> for ShortTmpfs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Permission bits in octal: `1777`, `0755`, `0o755`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OctalMode(pub u32);

impl FromStr for OctalMode {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o7777);
        mode.map(Self).ok_or_else(|| ValueError::with_hint(format!("{text:?} is not a file mode"), "write octal digits, such as 1777"))
    }
}

impl<'de> Deserialize<'de> for OctalMode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
