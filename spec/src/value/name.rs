//! Names of resources, and the identity of one incarnation of a container.

use super::{ValueError, digits, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// Longest name: one DNS label (RFC 1035 §2.3.4), so that every container can be found by its name.
const NAME_BYTES_MAX: usize = 63;

/// The name of an image, container, volume or network: lower-case letters, digits, `-`, `_` and `.`,
/// beginning and ending with a letter or digit, at most 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(ValueError::new("a name is empty"));
        }
        if bytes.len() > NAME_BYTES_MAX {
            return Err(ValueError::new(format!("name is {} bytes long, at most {NAME_BYTES_MAX} fit", bytes.len())));
        }
        if edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| inner(*b)) {
            return Ok(Self(text.to_owned()));
        }
        let lower = text.to_ascii_lowercase().replace([' ', '/', ':'], "-");
        let problem = format!("{text:?} is not a name: use a-z, 0-9, '-', '_' and '.', with a letter or digit at both ends");
        // The same text again would fail again, and for ever.
        let better = (lower != text).then(|| lower.parse::<Self>().ok()).flatten();
        Err(ValueError { problem, hint: better.map(|better| format!("write {better}")) })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One incarnation of a container: its name and a generation that grows with each replacement, `web@3`.
///
/// Old and new of a replacement run side by side under the same name; the generation tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    /// The container's name, as users and other containers know it.
    pub name: Name,
    /// Counts the incarnations of this name on this host, from 1.
    pub generation: u32,
}

impl FromStr for ContainerId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let not_an_id = || ValueError::with_hint(format!("{text:?} is not a container id"), "write name@generation, such as web@1");
        let (name, generation) = text.rsplit_once('@').ok_or_else(not_an_id)?;
        let generation = digits(generation).filter(|generation| *generation != 0).ok_or_else(not_an_id)?;
        Ok(Self { name: name.parse()?, generation })
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.generation))
    }
}

serde_as_text!(Name);
serde_as_text!(ContainerId);
