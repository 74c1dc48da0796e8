//! Snapshots of site content: what a container mounts read-only from its site is copied once, by content digest, and never
//! changed afterwards, so that neither an edit in the site nor a new checkout reaches into what runs.

use crate::host::HostError;
use crate::source::content_digest;
use runtime::places::Places;
use spec::value::Digest;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Makes the snapshot of `site/path` exist and gives its place. `content` is what the plan was made for; a site that has
/// changed since is refused, and the next cycle plans for the new content.
pub fn ensure_snapshot(places: &Places, site: &Path, path: &str, content: &Digest) -> Result<PathBuf, HostError> {
    let target = places.content(content);
    if target.symlink_metadata().is_ok() {
        return Ok(target);
    }
    let tried = || format!("snapshot {path}");
    let staging = target.with_extension(format!("tmp-{}-{:?}", std::process::id(), std::thread::current().id()));
    let staged = stage(&site.join(path), &staging).map_err(|error| HostError::new(tried(), error)).and_then(|()| {
        let found = content_digest(&staging).map_err(|error| HostError::new(tried(), error))?;
        if found != *content {
            return Err(HostError::new(tried(), "it has changed since the plan was made; plan again"));
        }
        // A twin thread may have been faster; its snapshot has the same content.
        match fs::rename(&staging, &target) {
            Err(error) if !target.exists() => Err(HostError::new(tried(), error)),
            Ok(()) | Err(_) => Ok(()),
        }
    });
    if staged.is_err() || staging.exists() {
        remove(&staging).map_err(|error| HostError::new(format!("remove {}", staging.display()), error))?;
    }
    staged.map(|()| target)
}

/// Every snapshot that is not in use, and what an interrupted one left.
pub fn unused(places: &Places, in_use: &BTreeSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(places.snapshots()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| !in_use.contains(path)).collect())
}

fn stage(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    remove(to)?;
    copy(from, to)
}

/// Copies a file, symlink or tree with its permission bits. Other kinds of files are refused by [`content_digest`] before.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if metadata.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return fs::set_permissions(to, metadata.permissions());
    }
    fs::copy(from, to).map(|_| ())
}

/// Removes a snapshot; fine if it is absent.
pub fn remove(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
