//! Where a registry, or a mirror of one, is.

use super::image_reference::{is_component, is_host};
use super::{ValueError, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// Where images are served: `[https://|http://]host[:port][/path]`, the path being the beginning of repository names there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryLocation {
    scheme: Option<Scheme>,
    host: String,
    path: String,
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl RegistryLocation {
    /// The scheme, if one was written.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// `host` or `host:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What repository names there begin with; may be empty.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for RegistryLocation {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let hint = "write [https://]host[:port][/path], such as https://mirror.example:5000/docker-hub";
        let bad = |what: &str| ValueError::with_hint(format!("{what} is not where a registry can be"), hint);
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some((scheme, _)) => return Err(bad(&format!("a URL that begins with {scheme:?}"))),
            None => (None, text),
        };
        if rest.contains('@') {
            // Not quoted: what stands there is a password.
            return Err(ValueError::with_hint("a user or password does not belong here", "use agent image login"));
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        if !is_host(host) || !(path.is_empty() || path.split('/').all(is_component)) {
            return Err(bad(&format!("{text:?}")));
        }
        Ok(Self { scheme, host: host.to_owned(), path: path.to_owned() })
    }
}

impl fmt::Display for RegistryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.map(|scheme| format!("{}://", scheme.as_str())).unwrap_or_default();
        let slash = if self.path.is_empty() { "" } else { "/" };
        f.pad(&format!("{scheme}{}{slash}{}", self.host, self.path))
    }
}

serde_as_text!(RegistryLocation);
