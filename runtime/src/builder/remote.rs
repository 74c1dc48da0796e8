//! Sources of ADD and contexts that are not on this host: URLs and repositories, told apart as BuildKit does. Pure but for its seam.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;

/// Where to find a tree in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitReference {
    /// The repository: a URL, or `user@host:path`.
    pub remote: String,
    /// Branch, tag or commit; the default branch if `None`.
    pub reference: Option<String>,
    /// Directory of the repository; all of it if `None`.
    pub subdirectory: Option<String>,
}

/// A tree of a repository, on this host.
pub struct GitTree {
    /// The commit it is of, in hexadecimal digits.
    pub commit: String,
    /// Where its files are: all of the repository's.
    pub root: PathBuf,
    /// Keeps the files there while it lives.
    pub hold: Box<dyn Any + Send>,
}

impl fmt::Debug for GitTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitTree").field("commit", &self.commit).field("root", &self.root).finish_non_exhaustive()
    }
}

/// Fetches repositories: the builder has no Git of its own.
pub trait GitFetch: fmt::Debug + Send + Sync {
    /// Brings the tree of what the reference stands for now.
    fn fetch(&self, git: &GitReference) -> Result<GitTree, Box<dyn std::error::Error + Send + Sync>>;
}

/// Whether a source is a file on the web.
pub(crate) fn is_url(source: &str) -> bool {
    (source.starts_with("http://") || source.starts_with("https://")) && git_reference(source).is_none()
}

/// Reads a reference to a repository: `https://host/repo.git[#ref[:directory]]`, `git://…`, `ssh://…`, `git@host:repo`, or a URL with
/// `?ref=…&subdir=…`. `None` for all else: an http URL is a repository only if its path ends with `.git`.
pub fn git_reference(source: &str) -> Option<GitReference> {
    let (whole, fragment) = source.split_once('#').map_or((source, ""), |(whole, fragment)| (whole, fragment));
    let (remote, query) = match whole.split_once("://") {
        Some(_) => whole.split_once('?').map_or((whole, ""), |(remote, query)| (remote, query)),
        None => (whole, ""),
    };
    let known = match remote.split_once("://") {
        Some(("http" | "https", rest)) => rest.split_once('/').is_some_and(|(_, path)| path.ends_with(".git")),
        Some(("git" | "ssh" | "file", rest)) => !rest.is_empty(),
        Some(_) => false,
        None => is_scp_like(remote),
    };
    if !known {
        return None;
    }
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut found = GitReference { remote: remote.to_owned(), reference: given(reference), subdirectory: given(subdirectory) };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("ref" | "branch" | "tag" | "commit" | "checksum", value) => found.reference = given(value),
            ("subdir", value) => found.subdirectory = given(value),
            _ => return None,
        }
    }
    Some(found)
}

/// `user@host:path`, as scp writes it.
fn is_scp_like(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    text.split_once('@')
        .is_some_and(|(user, rest)| plain(user) && rest.split_once(':').is_some_and(|(host, path)| plain(host) && !path.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_what_is_none() {
        let read = |text: &str| git_reference(text).map(|git| (git.remote, git.reference, git.subdirectory));
        let git = |remote: &str, reference: &str, directory: &str| {
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Some((remote.to_owned(), given(reference), given(directory)))
        };
        let cases = [
            ("https://h/r.git", git("https://h/r.git", "", "")),
            ("https://h/r.git#v1", git("https://h/r.git", "v1", "")),
            ("https://h/r.git#v1:a/b", git("https://h/r.git", "v1", "a/b")),
            ("https://h/r.git#:a", git("https://h/r.git", "", "a")),
            ("https://h/r.git?ref=v2&subdir=x", git("https://h/r.git", "v2", "x")),
            ("git@h:o/r.git#main", git("git@h:o/r.git", "main", "")),
            ("ssh://git@h:22/o/r", git("ssh://git@h:22/o/r", "", "")),
            ("git://h/r", git("git://h/r", "", "")),
            ("https://h/r", None),
            ("https://h/r.git/file", None),
            ("https://h.git", None),
            ("a@b", None),
            ("dir/a@b:c", None),
            ("file.git", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
        assert!(is_url("https://h/r.tar.gz") && !is_url("https://h/r.git") && !is_url("r"));
    }
}
