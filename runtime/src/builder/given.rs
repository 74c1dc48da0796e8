//! What is given with a build and is no part of it: secrets and ssh agents. It reaches no layer, history, cache key or log.

use super::ssh::SshAgent;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Largest secret, as BuildKit has it: a secret is a token or a key, not data.
pub const SECRET_BYTES_MAX: usize = 500 * 1024;

/// Secrets and agents by the ids that mounts name.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// For `--mount=type=secret`.
    pub secrets: BTreeMap<String, Secret>,
    /// For `--mount=type=ssh`.
    pub agents: BTreeMap<String, SshAgent>,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a value; `None` if it is longer than [`SECRET_BYTES_MAX`].
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= SECRET_BYTES_MAX).then_some(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Parts of secrets shorter than this are not looked for in output: they would be found everywhere.
const REDACTED_BYTES_MIN: usize = 4;

/// Takes the values of secrets out of lines of output.
pub(super) struct Redaction(Vec<String>);

impl Redaction {
    /// For the secrets that a step sees. One of several lines is looked for line by line.
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let lines = |secret: &Secret| String::from_utf8_lossy(&secret.0).lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let mut parts: Vec<String> = secrets.flat_map(lines).filter(|line| line.len() >= REDACTED_BYTES_MIN).collect();
        // The longer first: one may be part of another.
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        Self(parts)
    }

    /// The line without them.
    pub(super) fn line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        self.0.iter().fold(Cow::Borrowed(line), |line, part| match line.contains(part) {
            true => Cow::Owned(line.replace(part, "***")),
            false => line,
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_show() {
        let secrets = ["token", "token-longer\nsecond line\n", "ab"].map(|text| Secret::new(text.into()).expect("short"));
        let redaction = Redaction::of(secrets.iter());
        assert_eq!(redaction.line("a token, token-longer and ab: second line!"), "a ***, *** and ab: ***!");
        assert!(matches!(redaction.line("nothing"), Cow::Borrowed(_)));
        assert_eq!(format!("{:?}", secrets[0]), "***");
        assert_eq!(Secret::new(vec![0; SECRET_BYTES_MAX + 1]), None);
    }
}
