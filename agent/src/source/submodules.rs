//! Submodules of a repository: what `.gitmodules` says of them. Pure.
//!
//! A site never has any; a build may ask for them.

use std::collections::BTreeMap;

/// Where each submodule is, by its path in the work tree (gitmodules(5)). Only `path` and `url` are read, and nothing is included: the
/// file is part of the repository, and may say what it likes.
pub fn urls(text: &str) -> BTreeMap<String, String> {
    let mut sections: Vec<(Option<String>, Option<String>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            sections.push((None, None));
            continue;
        }
        let (Some((key, value)), Some((path, url))) = (line.split_once('='), sections.last_mut()) else { continue };
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value).to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "path" => *path = Some(value.trim_end_matches('/').to_owned()),
            "url" => *url = Some(value),
            _ => {}
        }
    }
    sections.into_iter().filter_map(|(path, url)| Some((path?, url?))).collect()
}

/// The address of a submodule of the repository at `parent`; `./` and `../` are relative to that. Errors: it is none that may be fetched.
pub fn address(parent: &str, url: &str) -> Result<String, String> {
    if url.starts_with("./") || url.starts_with("../") {
        return relative(parent, url).ok_or_else(|| format!("submodule {url:?} lies above {parent}"));
    }
    let is_path = !url.contains(':');
    // As Git: what comes from elsewhere names no repository of this host.
    if (is_path || url.starts_with("file://")) && !parent.starts_with("file://") {
        return Err(format!("submodule {url:?} of {parent} is a path of this host"));
    }
    if is_path { Err(format!("submodule {url:?} is no address: write file://, https:// or ssh://")) } else { Ok(url.to_owned()) }
}

fn relative(parent: &str, url: &str) -> Option<String> {
    let mut base = parent.trim_end_matches('/');
    // What is cut off behind a colon is joined there again: host:repo.
    let mut separator = "/";
    let mut rest = url;
    loop {
        if let Some(below) = rest.strip_prefix("../") {
            let cut = base.rfind(['/', ':']).filter(|cut| base[..*cut].contains(['/', ':', '@']))?;
            (base, separator, rest) = (&base[..cut], &base[cut..=cut], below);
        } else if let Some(here) = rest.strip_prefix("./") {
            rest = here;
        } else {
            return Some(format!("{base}{separator}{rest}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gitmodules_says() {
        let text = "# x\n[submodule \"a\"]\n\tpath = lib/a\n\turl = ../a.git\n\tbranch = x\n[submodule \"b\"]\n url=\"https://h/b.git\"\n Path = b/\n[include]\n path = /etc/passwd\n[submodule \"c\"]\n path = c\n";
        let expected = [("b", "https://h/b.git"), ("lib/a", "../a.git")].map(|(path, url)| (path.to_owned(), url.to_owned()));
        assert_eq!(urls(text), expected.into());
        assert!(urls("path = x\nurl = y").is_empty());
    }

    #[test]
    fn addresses_are_relative_to_the_repository() {
        let cases = [
            ("https://h/g/r.git", "../a.git", "https://h/g/a.git"),
            ("https://h/g/r.git/", "../../o/a.git", "https://h/o/a.git"),
            ("https://h/g/r.git", "./a", "https://h/g/r.git/a"),
            ("git@h:g/r.git", "../a.git", "git@h:g/a.git"),
            ("git@h:r.git", "../a.git", "git@h:a.git"),
            ("file:///srv/r.git", "../a.git", "file:///srv/a.git"),
            ("https://h/r.git", "https://o/a.git", "https://o/a.git"),
            ("https://h/r.git", "git@o:a.git", "git@o:a.git"),
            ("file:///srv/r.git", "file:///srv/a.git", "file:///srv/a.git"),
        ];
        for (parent, url, expected) in cases {
            assert_eq!(address(parent, url).as_deref(), Ok(expected), "{parent} {url}");
        }
        for (parent, url) in [
            ("https://h/r.git", "file:///srv/a.git"),
            ("https://h/r.git", "/srv/a.git"),
            ("file:///srv/r.git", "/srv/a.git"),
            ("git@h:r.git", "../../../a.git"),
        ] {
            assert!(address(parent, url).is_err(), "{parent} {url}");
        }
    }
}
