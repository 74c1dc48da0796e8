//! What a checkout is a checkout of.

use runtime::container::state::Timestamp;
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::fmt;
use std::str::FromStr;

/// A commit of a SHA-1 repository: 40 lower-case hexadecimal digits, and so a safe file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

/// A state of a source. Two equal revisions have equal content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Revision {
    /// A commit.
    Commit {
        /// Its id.
        id: CommitId,
        /// First line of its message, shortened and without control characters.
        summary: String,
        /// When its author says it was written.
        author_time: Timestamp,
    },
    /// A directory as it lies there.
    Directory {
        /// Digest of names, kinds, sizes, modes and change times of all below it: a hint that something changed, not of the content.
        fingerprint: Digest,
    },
}

impl CommitId {
    /// The 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as people quote a commit.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for CommitId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for CommitId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is not a commit id: it has 40 lower-case hexadecimal digits"))
    }
}

impl From<git2::Oid> for CommitId {
    fn from(oid: git2::Oid) -> Self {
        Self(oid.to_string())
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> Self {
        id.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Revision {
    /// The commit, if it is one.
    pub fn commit(&self) -> Option<&CommitId> {
        match self {
            Self::Commit { id, .. } => Some(id),
            Self::Directory { .. } => None,
        }
    }
}

/// `1a2b3c4d5e6f page: new title`, or `directory 1a2b3c4d5e6f`.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit { id, summary, .. } => write!(f, "{} {summary}", id.short()),
            Self::Directory { fingerprint } => write!(f, "directory {}", fingerprint.short()),
        }
    }
}
