//! Whom a process runs as.

use super::{ValueError, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// `user[:group]`, each a name or a number; names are looked up in the image's own `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserSpec {
    /// User name or number.
    pub user: String,
    /// Group name or number; the user's own group if `None`.
    pub group: Option<String>,
}

impl FromStr for UserSpec {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        for part in std::iter::once(user).chain(group) {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$' | b'+' | b'@');
            if part.is_empty() || part.starts_with('-') || !part.bytes().all(allowed) {
                return Err(ValueError::with_hint(format!("{text:?} is not a user"), "write user or user:group, names or numbers"));
            }
            // A number beyond 2^31 - 1 wraps to something else in too many programs (CVE-2024-40635).
            if part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<i32>().is_err() {
                return Err(ValueError::new(format!("user or group number {part} is above 2147483647")));
            }
        }
        Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => f.pad(&format!("{}:{group}", self.user)),
            None => f.pad(&self.user),
        }
    }
}

serde_as_text!(UserSpec);
