//! What is in a tree, read once: names, modes, sizes. The same value is hashed for the cache key and copied.

use super::TreeError;
use super::root::{Spot, is_directory, is_file, is_link, open_directory};
use crate::builder::ignore::{IgnoreRules, Verdict};
use rustix::fs::{AtFlags, Dir, Stat};
use std::os::fd::OwnedFd;

/// Most entries of one COPY: some ten times the largest contexts seen; each is held in memory.
const ENTRIES_MAX: usize = 4_000_000;
/// Deepest directory: one open descriptor a level must stay well under the usual limit of 1024.
const DEPTH_MAX: usize = 256;

/// A file, directory or the like, with all that is below it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in its directory; empty for the root.
    pub name: Vec<u8>,
    /// lstat(2) of it.
    pub stat: Stat,
    /// What it is.
    pub content: Content,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Content {
    /// A regular file.
    File,
    /// A directory with what is in it, sorted by name.
    Directory(Vec<Entry>),
    /// A symbolic link with its text.
    Link(Vec<u8>),
    /// A device or pipe.
    Special,
}

/// Reads trees, leaving out what the rules hide.
pub(crate) struct Scan<'a> {
    /// What is left out; patterns are relative to the root.
    rules: &'a IgnoreRules,
    entries: usize,
}

impl<'a> Scan<'a> {
    /// A scan with these rules.
    pub(crate) fn new(rules: &'a IgnoreRules) -> Self {
        Self { rules, entries: 0 }
    }

    /// What is at a spot; `None` if nothing is, or if it is hidden with all below it.
    pub(crate) fn spot(&mut self, spot: &Spot) -> Result<Option<Entry>, TreeError> {
        let Some(stat) = spot.found else { return Ok(None) };
        match &spot.name {
            // The root itself is always there.
            None => {
                let children = self.directory(&spot.directory, &mut spot.path.clone(), 0)?;
                Ok(Some(Entry { name: Vec::new(), stat, content: Content::Directory(children) }))
            }
            Some(name) => self.entry(&spot.directory, name.clone(), stat, &mut spot.path.clone(), 0),
        }
    }

    /// Every path below a directory that matches a wildcard pattern, sorted, as paths from the root.
    pub(crate) fn matching(&mut self, base: &Spot, pattern: &str) -> Result<Vec<Vec<u8>>, TreeError> {
        let mut found = Vec::new();
        if base.is_directory() {
            let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
            let directory = base.open_directory()?;
            self.glob(&directory, &mut base.path.clone(), &parts, &mut found)?;
        }
        Ok(found)
    }

    /// What is below a directory and matches a pattern of patterns' own kind (`**` spans directories), with the directories on the way.
    /// `include` is that pattern as rules: what they hide is taken. Only what may match is looked at.
    pub(crate) fn including(&mut self, base: &Spot, pattern: &str, include: &IgnoreRules) -> Result<Vec<Entry>, TreeError> {
        if include.is_empty() {
            // The pattern names the root itself.
            return self.directory(&*base.open_directory()?, &mut base.path.clone(), 0);
        }
        let parts: Vec<&str> = pattern.split('/').collect();
        let directory = base.open_directory()?;
        self.include(&directory, &mut base.path.clone(), "", &parts, include, 0)
    }

    fn include(
        &mut self,
        directory: &OwnedFd,
        path: &mut Vec<u8>,
        relative: &str,
        parts: &[&str],
        include: &IgnoreRules,
        depth: usize,
    ) -> Result<Vec<Entry>, TreeError> {
        let Some((part, rest)) = parts.split_first() else { return Ok(Vec::new()) };
        if depth > DEPTH_MAX {
            return Err(TreeError::limit(path, format!("deeper than {DEPTH_MAX} directories")));
        }
        // From a `**` on any depth may match; a part without wildcards needs no list.
        let rest = if part.contains("**") { parts } else { rest };
        let names = if part.contains(['*', '?', '[', '\\']) { names(directory, path)? } else { vec![part.as_bytes().to_vec()] };
        let mut entries = Vec::new();
        for name in names {
            let length = enter(path, &name);
            let relative = if relative.is_empty() { String::new() } else { format!("{relative}/") } + &String::from_utf8_lossy(&name);
            let stat = match rustix::fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => {
                    path.truncate(length);
                    continue;
                }
                Err(error) => return Err(TreeError::of("stat", path)(error)),
            };
            if include.verdict(&relative) != Verdict::Seen {
                entries.extend(self.entry(directory, name, stat, path, depth)?);
            } else if is_directory(&stat)
                && (self.rules.is_empty() || self.rules.verdict(&String::from_utf8_lossy(path)) != Verdict::HiddenWhole)
            {
                let below = open_directory(directory, &name).map_err(TreeError::of("open", path))?;
                let children = self.include(&below, path, &relative, rest, include, depth + 1)?;
                if !children.is_empty() {
                    entries.push(Entry { name, stat, content: Content::Directory(children) });
                }
            }
            path.truncate(length);
        }
        Ok(entries)
    }

    fn glob(&mut self, directory: &OwnedFd, path: &mut Vec<u8>, parts: &[&str], found: &mut Vec<Vec<u8>>) -> Result<(), TreeError> {
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        for name in names(directory, path)? {
            if !crate::builder::pattern::matches(part, &String::from_utf8_lossy(&name)) {
                continue;
            }
            let length = enter(path, &name);
            let stat = lstat(directory, &name, path)?;
            if rest.is_empty() {
                if self.entry(directory, name, stat, &mut path.clone(), 0)?.is_some() {
                    found.push(path.clone());
                }
            } else if is_directory(&stat) {
                let below = open_directory(directory, &name).map_err(TreeError::of("open", path))?;
                self.glob(&below, path, rest, found)?;
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn directory(&mut self, directory: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<Vec<Entry>, TreeError> {
        if depth > DEPTH_MAX {
            return Err(TreeError::limit(path, format!("deeper than {DEPTH_MAX} directories")));
        }
        let mut entries = Vec::new();
        for name in names(directory, path)? {
            let length = enter(path, &name);
            let stat = lstat(directory, &name, path)?;
            entries.extend(self.entry(directory, name, stat, path, depth)?);
            path.truncate(length);
        }
        Ok(entries)
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: Vec<u8>,
        stat: Stat,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<Option<Entry>, TreeError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(TreeError::limit(path, format!("more than {ENTRIES_MAX} files")));
        }
        let verdict = if self.rules.is_empty() { Verdict::Seen } else { self.rules.verdict(&String::from_utf8_lossy(path)) };
        if verdict == Verdict::HiddenWhole || (verdict == Verdict::Hidden && !is_directory(&stat)) {
            return Ok(None);
        }
        let content = if is_directory(&stat) {
            let below = open_directory(directory, &name).map_err(TreeError::of("open", path))?;
            let children = self.directory(&below, path, depth + 1)?;
            Content::Directory(children)
        } else if is_file(&stat) {
            Content::File
        } else if is_link(&stat) {
            let target = rustix::fs::readlinkat(directory, name.as_slice(), Vec::new()).map_err(TreeError::of("read", path))?;
            Content::Link(target.into_bytes())
        } else if stat.st_mode & libc::S_IFMT == libc::S_IFSOCK {
            // A socket is nothing without the process that made it.
            return Ok(None);
        } else {
            Content::Special
        };
        Ok(Some(Entry { name, stat, content }))
    }
}

/// Appends a name to a path; what it was before is `truncate(result)`.
pub(super) fn enter(path: &mut Vec<u8>, name: &[u8]) -> usize {
    let length = path.len();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    length
}

fn lstat(directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Stat, TreeError> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::of("stat", path))
}

/// The names in a directory, sorted by their bytes.
pub(super) fn names(directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(TreeError::of("list", path))? {
        let name = entry.map_err(TreeError::of("list", path))?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
