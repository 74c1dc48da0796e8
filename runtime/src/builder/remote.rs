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
    /// The commit that it has to be, or the beginning of its id.
    pub commit: Option<String>,
    /// Whether `.git` comes along, with the commit and without its history.
    pub keep_git_dir: bool,
    /// Whether submodules are fetched into their directories.
    pub submodules: bool,
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
/// `?ref=…&branch=…&tag=…&subdir=…&checksum=…&keep-git-dir=…&submodules=…`. `None` for all else: an http URL is a repository only if its
/// path ends with `.git`. Errors: what is wrong with its query.
pub fn git_reference(source: &str) -> Option<Result<GitReference, String>> {
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
    let mut found = GitReference {
        remote: remote.to_owned(),
        reference: given(reference),
        subdirectory: given(subdirectory),
        commit: None,
        keep_git_dir: false,
        submodules: true,
    };
    let read = query.split('&').filter(|pair| !pair.is_empty()).try_for_each(|pair| found.query(pair));
    if found.reference.is_none() {
        found.reference.clone_from(&found.commit);
    }
    Some(read.map(|()| found).map_err(|problem| format!("{source}: {problem}")))
}

impl GitReference {
    /// One `name=value` of a URL's query.
    fn query(&mut self, pair: &str) -> Result<(), String> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let on = || match value {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(format!("{name} is true or false, not {value:?}")),
        };
        let once = |slot: &mut Option<String>, value: String| match slot.replace(value.clone()) {
            Some(before) if before != value => Err(format!("it names both {before} and {value}")),
            Some(_) | None => Ok(()),
        };
        match name {
            "keep-git-dir" => self.keep_git_dir = on()?,
            "submodules" => self.submodules = on()?,
            "ref" | "branch" | "tag" | "subdir" | "checksum" | "commit" if value.is_empty() => return Err(format!("{name} has no value")),
            "ref" | "branch" => once(&mut self.reference, value.to_owned())?,
            "tag" => once(&mut self.reference, format!("refs/tags/{}", value.trim_start_matches("refs/tags/")))?,
            "subdir" => once(&mut self.subdirectory, value.to_owned())?,
            "checksum" | "commit" => once(&mut self.commit, value.to_ascii_lowercase())?,
            _ => return Err(format!("there is no {name:?} in a repository's query")),
        }
        Ok(())
    }

    /// Whether a commit is the one that it has to be.
    pub fn check(&self, commit: &str) -> Result<(), String> {
        match &self.commit {
            Some(expected) if !commit.starts_with(expected.as_str()) => {
                Err(format!("it is at commit {commit}, not {expected} as its checksum says"))
            }
            Some(_) | None => Ok(()),
        }
    }
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
        let read = |text: &str| git_reference(text).and_then(Result::ok).map(|git| (git.remote, git.reference, git.subdirectory));
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
        let query = |query: &str| git_reference(&format!("https://h/r.git?{query}")).expect("a repository");
        let full = query("tag=v1&keep-git-dir&submodules=false&checksum=ABC").expect("a query");
        assert_eq!((full.reference.as_deref(), full.commit.as_deref()), (Some("refs/tags/v1"), Some("abc")));
        assert!(full.keep_git_dir && !full.submodules);
        assert!(full.check("abcdef").is_ok() && full.check("def").is_err());
        assert_eq!(query("commit=abc").expect("a query").reference.as_deref(), Some("abc"));
        for bad in ["ref=a&branch=b", "x=y", "ref=", "submodules=maybe"] {
            assert!(query(bad).is_err(), "{bad}");
        }
        assert!(is_url("https://h/r.tar.gz") && !is_url("https://h/r.git") && !is_url("r"));
    }
}
