//! What a path means: the endpoints of the distribution specification. Pure.

/// Where tokens are had.
pub(super) const TOKEN_PATH: &str = "/token";
/// Longest name of a repository the specification allows for with its host.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag the specification allows.
const TAG_BYTES_MAX: usize = 128;

/// An endpoint. Names, tags and digests are of the right form; whether they exist is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/token`
    Token,
    /// `/v2/`
    Root,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<repository>/tags/list`
    Tags { repository: String },
    /// `/v2/<repository>/manifests/<tag or digest>`
    Manifest { repository: String, reference: String },
    /// `/v2/<repository>/blobs/<digest>`
    Blob { repository: String, digest: String },
    /// `/v2/<repository>/blobs/uploads/`
    Uploads { repository: String },
    /// `/v2/<repository>/blobs/uploads/<id>`
    Upload { repository: String, id: String },
    /// `/v2/<repository>/referrers/<digest>`
    Referrers { repository: String, digest: String },
}

impl Route {
    /// The endpoint of a path without its query.
    pub(super) fn of(path: &str) -> Option<Self> {
        if path == TOKEN_PATH {
            return Some(Self::Token);
        }
        let rest = path.strip_prefix("/v2")?;
        match rest {
            "" | "/" => return Some(Self::Root),
            "/_catalog" => return Some(Self::Catalog),
            _ => {}
        }
        let parts: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
        // The name of a repository may have parts called like an endpoint: the last ones decide.
        let repository = |count: usize| {
            let name = parts[..parts.len() - count].join("/");
            is_repository(&name).then_some(name)
        };
        match parts.as_slice() {
            [_, .., "tags", "list"] => Some(Self::Tags { repository: repository(2)? }),
            [_, .., "blobs", "uploads"] | [_, .., "blobs", "uploads", ""] => {
                let trailing = usize::from(parts.last() == Some(&""));
                Some(Self::Uploads { repository: repository(2 + trailing)? })
            }
            [_, .., "blobs", "uploads", id] => Some(Self::Upload { repository: repository(3)?, id: (*id).to_owned() }),
            [_, .., "blobs", digest] => Some(Self::Blob { repository: repository(2)?, digest: (*digest).to_owned() }),
            [_, .., "manifests", reference] if is_tag(reference) || reference.contains(':') => {
                Some(Self::Manifest { repository: repository(2)?, reference: (*reference).to_owned() })
            }
            [_, .., "referrers", digest] => Some(Self::Referrers { repository: repository(2)?, digest: (*digest).to_owned() }),
            _ => None,
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` between slashes.
pub(super) fn is_repository(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        let separators: Vec<&str> = part.split(is_word).filter(|run| !run.is_empty()).collect();
        let well_separated = separators.iter().all(|run| matches!(*run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'));
        part.starts_with(is_word) && part.ends_with(is_word) && well_separated
    };
    name.len() <= REPOSITORY_BYTES_MAX && name.split('/').all(is_part)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
pub(super) fn is_tag(tag: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= TAG_BYTES_MAX && tag.starts_with(is_first) && tag.chars().all(|c| is_first(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_what_they_mean() {
        let manifest = |repository: &str, reference: &str| {
            Some(Route::Manifest { repository: repository.to_owned(), reference: reference.to_owned() })
        };
        let text = str::to_owned;
        let cases = [
            ("/v2/", Some(Route::Root)),
            ("/token", Some(Route::Token)),
            ("/token/", None),
            ("/v2", Some(Route::Root)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/tags/list", Some(Route::Tags { repository: text("a") })),
            ("/v2/a/b/manifests/latest", manifest("a/b", "latest")),
            ("/v2/manifests/manifests/manifests", manifest("manifests", "manifests")),
            ("/v2/a/manifests/sha256:00", manifest("a", "sha256:00")),
            ("/v2/a/blobs/sha256:00", Some(Route::Blob { repository: text("a"), digest: text("sha256:00") })),
            ("/v2/a/blobs/uploads/", Some(Route::Uploads { repository: text("a") })),
            ("/v2/a/blobs/uploads", Some(Route::Uploads { repository: text("a") })),
            ("/v2/a/blobs/uploads/7f", Some(Route::Upload { repository: text("a"), id: text("7f") })),
            ("/v2/a/referrers/sha256:00", Some(Route::Referrers { repository: text("a"), digest: text("sha256:00") })),
            ("/v2/A/tags/list", None),
            ("/v2//tags/list", None),
            ("/v2/a/../b/tags/list", None),
            ("/v2/tags/list", None),
            ("/v2/a/manifests/-x", None),
            ("/v2/a/manifests/", None),
            ("/v1/", None),
            ("/", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }

    #[test]
    fn names_of_repositories() {
        for good in ["a", "a/b", "a.b", "a_b", "a__b", "a-b", "a---b", "docker.io/library/x"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in ["", "/", "a/", "a..b", "a___b", "-a", "a-", "a._b", "ä", "a:b", &"a".repeat(256)] {
            assert!(!is_repository(bad), "{bad}");
        }
    }
}
