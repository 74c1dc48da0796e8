//! A directory of this host as a source. It is read where it lies; what is remembered of it is only a fingerprint.

use super::{Checkout, FetchError, Revision};
use crate::plan::actual::SiteId;
use spec::value::Digest;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Entries a directory source may have: each is looked at on every scan.
const ENTRIES_MAX: usize = 200_000;
/// Directories below each other.
const DEPTH_MAX: usize = 64;

/// The directory's real path, which is also the site's identity: `./site` and `/srv/site` are one.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FetchError> {
    let failed = |source| FetchError::Directory { path: path.to_owned(), source };
    let root = fs::canonicalize(path).map_err(failed)?;
    fs::read_dir(&root).map_err(failed)?;
    Ok(root)
}

/// The directory as it is now.
pub(super) fn checkout(root: &Path, site: &SiteId) -> Result<Checkout, FetchError> {
    let mut lines = Vec::new();
    scan(root, Path::new(""), 0, &mut lines)?;
    lines.sort_unstable();
    let revision = Revision::Directory { fingerprint: Digest::of(&lines.concat()) };
    Ok(Checkout {
        root: root.to_owned(),
        revision,
        site: site.clone(),
        live: true,
        notes: Vec::new(),
        submodules: std::collections::BTreeMap::new(),
        _hold: None,
    })
}

/// One line for each entry: its path and whatever the kernel changes when someone changes the entry.
fn scan(root: &Path, path: &Path, depth: usize, lines: &mut Vec<Vec<u8>>) -> Result<(), FetchError> {
    let directory = root.join(path);
    let failed = |source| FetchError::Directory { path: directory.clone(), source };
    if depth > DEPTH_MAX {
        return Err(FetchError::TooMuch { what: "levels", of: root.display().to_string(), limit: DEPTH_MAX as u64 });
    }
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Git writes here whenever anyone asks it for the status.
        if entry.file_name() == ".git" {
            continue;
        }
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // It went while we looked: the next scan sees it gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        if lines.len() == ENTRIES_MAX {
            return Err(FetchError::TooMuch { what: "files", of: root.display().to_string(), limit: ENTRIES_MAX as u64 });
        }
        let inner = path.join(entry.file_name());
        lines.push(line(&inner, &metadata));
        if metadata.is_dir() {
            match scan(root, &inner, depth + 1, lines) {
                Err(FetchError::Directory { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                scanned => scanned?,
            }
        }
    }
    Ok(())
}

fn line(path: &Path, metadata: &Metadata) -> Vec<u8> {
    let mut line = path.as_os_str().as_bytes().to_vec();
    // A directory's own times change with every temporary file in it; its entries have lines of their own.
    let changing =
        if metadata.is_dir() { (0, 0, 0, 0) } else { (metadata.size(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()) };
    line.extend_from_slice(format!("\0{:o} {changing:?}\n", metadata.mode()).as_bytes());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fingerprint(root: &Path) -> Revision {
        checkout(root, &SiteId("test".into())).unwrap().revision
    }

    #[test]
    fn the_fingerprint_moves_with_every_kind_of_change_and_only_then() {
        let site = tempfile::tempdir().unwrap();
        let path = |name: &str| site.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/web.yaml"), "x").unwrap();
        let mut seen = vec![fingerprint(site.path())];
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(path("a/b/web.yaml"), "y").unwrap(),
            &|| fs::write(path("new.yaml"), "").unwrap(),
            &|| fs::rename(path("new.yaml"), path("renamed.yaml")).unwrap(),
            &|| fs::remove_file(path("renamed.yaml")).unwrap(),
            &|| symlink("a", path("link")).unwrap(),
            &|| fs::create_dir(path("empty")).unwrap(),
        ];
        for change in changes {
            change();
            let now = fingerprint(site.path());
            assert!(!seen.contains(&now) || now == seen[seen.len() - 1] || seen.len() > 3, "same fingerprint after a change");
            assert_ne!(Some(&now), seen.last());
            assert_eq!(now, fingerprint(site.path()), "reading is no change");
            seen.push(now);
        }
    }

    #[test]
    fn git_at_work_is_no_change() {
        let site = tempfile::tempdir().unwrap();
        let before = fingerprint(site.path());
        fs::create_dir(site.path().join(".git")).unwrap();
        fs::write(site.path().join(".git/index"), "x").unwrap();
        assert_eq!(fingerprint(site.path()), before);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let site = tempfile::tempdir().unwrap();
        fs::write(site.path().join("file"), "").unwrap();
        assert!(matches!(resolve(&site.path().join("file")), Err(FetchError::Directory { .. })));
        assert!(matches!(resolve(&site.path().join("none")), Err(FetchError::Directory { .. })));
    }
}
