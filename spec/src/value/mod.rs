//! Newtypes that are parsed once and valid ever after.
//!
//! Each serialises to the short form a user would write and parses itself back from it.

mod byte_size;
mod capability;
mod cpus;
mod digest;
pub mod duration;
mod image_prefix;
mod image_reference;
mod mount;
mod name;
mod port;
mod registry_location;
mod restart;
pub mod secret;
mod signal;
mod subnet;
mod user;

#[cfg(test)]
mod tests;

pub use byte_size::ByteSize;
pub use capability::Capability;
pub use cpus::Cpus;
pub use digest::Digest;
pub use image_prefix::ImagePrefix;
pub use image_reference::ImageReference;
pub use mount::{BindSource, Mount, MountTarget};
pub use name::{ContainerId, Name};
pub use port::{PortMapping, PortRange, Protocol};
pub use registry_location::{RegistryLocation, Scheme};
pub use restart::RestartPolicy;
pub use signal::Signal;
pub use subnet::Subnet;
pub use user::UserSpec;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// Why a text is not the value it should be: what was read, and what would be accepted.
///
/// Displays as the problem; the alternate form `{:#}` adds the hint on a second line, `help: …`, which is how a hint
/// travels through [`serde::de::Error::custom`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, in one clause, without the position: `"8o80" is not a port number`.
    pub problem: String,
    /// What to write instead, where that is known: `write "8080:80"`.
    pub hint: Option<String>,
}

impl ValueError {
    /// A problem without a remedy to offer.
    pub fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: None }
    }

    /// A problem with the remedy beside it.
    pub fn with_hint(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: Some(hint.into()) }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) if f.alternate() => write!(f, "{}\nhelp: {hint}", self.problem),
            Some(_) | None => f.pad(&self.problem),
        }
    }
}

impl std::error::Error for ValueError {}

/// A number of nothing but digits: `+5`, which `FromStr` takes, would print differently from how it was written.
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Serialises a value through `Display` and reads it back through `FromStr`, as every short form does.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::value::TextVisitor(std::marker::PhantomData))
            }
        }
    };
}
pub(crate) use serde_as_text;

/// Parses a value where its text stands, without a copy of it: a look at a host reads tens of thousands.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = ValueError>> serde::de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
