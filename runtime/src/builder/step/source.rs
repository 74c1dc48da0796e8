//! What the sources of a COPY or ADD name: found in the context, in a stage or in an image, less what the rules leave out.

use crate::builder::cache::KeyBuilder;
use crate::builder::context::Context;
use crate::builder::error::StepError;
use crate::builder::ignore::{IgnoreRules, Verdict};
use crate::builder::pattern;
use crate::builder::tree::{self, Content, Entry, LastLink, Missing, Overlay, Root, Scan, SourceDirectory, TreeError, Writing};
use spec::value::Digest;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the sources are looked for.
pub(crate) enum From<'a> {
    /// The build context.
    Context(&'a Context),
    /// A stage or image: its layers, and their digests which stand for all that is in them.
    Layers {
        /// What errors call it.
        name: String,
        /// Directories, lowest first.
        directories: Vec<PathBuf>,
        /// Digests, lowest first.
        diff_ids: Vec<Digest>,
    },
}

/// A source that was found.
#[derive(Clone)]
pub(crate) struct Found {
    /// The directory that holds it, or itself if its entry has no name.
    pub directory: Arc<SourceDirectory>,
    /// What it is.
    pub entry: Entry,
    /// Its name as the user wrote it.
    pub base: Vec<u8>,
}

/// Which part of what a source names is taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// `--parents`: the directories on the way to a source come along, from `/./` on.
    pub parents: bool,
    /// `--exclude`: patterns relative to each source.
    pub exclude: IgnoreRules,
}

/// A tree that sources are looked for in.
struct Origin<'a> {
    root: &'a Root,
    /// What is not there to be seen.
    rules: &'a IgnoreRules,
    /// What errors call it.
    name: &'a str,
}

/// What one source names, of the context.
pub(crate) fn find_in_context(context: &Context, path: &str, selection: &Selection) -> Result<Vec<Found>, StepError> {
    find(&Origin { root: &context.root, rules: &context.rules, name: &context.name }, path, selection)
}

/// What one source names, of layers that are mounted at `root`.
pub(crate) fn find_in_layers(root: &Root, name: &str, path: &str, selection: &Selection) -> Result<Vec<Found>, StepError> {
    find(&Origin { root, rules: &IgnoreRules::default(), name }, path, selection)
}

/// What a path names that is no pattern: of the context, or of layers mounted at `layers`.
pub(crate) fn find_exactly(path: &str, from: &From<'_>, layers: Option<&Root>) -> Result<Found, StepError> {
    let nothing_hidden = IgnoreRules::default();
    let origin = match (from, layers) {
        (From::Context(context), _) => Origin { root: &context.root, rules: &context.rules, name: &context.name },
        (From::Layers { name, .. }, Some(root)) => Origin { root, rules: &nothing_hidden, name },
        (From::Layers { .. }, None) => unreachable!("layers are mounted before they are looked into"),
    };
    find_one(&origin, clean(path).as_bytes())?.ok_or_else(|| missing(&origin, path))
}

/// Finds one source and hands over all that it names.
pub(crate) fn each_source(
    path: &str,
    from: &From<'_>,
    empty: &Path,
    take: &mut dyn FnMut(Found) -> Result<(), StepError>,
) -> Result<(), StepError> {
    let whole = Selection::default();
    match from {
        From::Context(context) => find_in_context(context, path, &whole)?.into_iter().try_for_each(take),
        From::Layers { name, directories, .. } => {
            let layers = Overlay::mount(directories, Writing::No { empty })?;
            find_in_layers(&layers.root, name, path, &whole)?.into_iter().try_for_each(take)
        }
    }
}

/// What a part of layers is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Identity<'a> {
    /// The layers, and its path: told without a look at it.
    Path,
    /// What it holds: told by reading it. An empty directory goes with it.
    Content(&'a Path),
}

/// Adds what a path names to a key: of the context its content, of layers what it is known by.
pub(crate) fn key_of_path(key: &mut KeyBuilder, path: &str, from: &From<'_>, identity: Identity<'_>) -> Result<(), StepError> {
    match (from, identity) {
        (From::Context(context), _) => key_of_found(key, context, &[find_exactly(path, from, None)?]),
        (From::Layers { name, directories, .. }, Identity::Content(empty)) if !is_whole(path) => {
            let layers = Overlay::mount(directories, Writing::No { empty })?;
            let found = find_exactly(path, from, Some(&layers.root))?;
            key_of_owners(key, &found.entry);
            key_of_found(key, &Context::of_tree(name, layers.root), &[found])
        }
        (From::Layers { diff_ids, .. }, Identity::Path | Identity::Content(_)) => {
            key.text("path").text(path);
            for id in diff_ids {
                key.bytes(id.as_bytes());
            }
            Ok(())
        }
    }
}

/// Whether a path names all there is: that is known by the layers, and to read it would take long.
pub(crate) fn is_whole(path: &str) -> bool {
    clean(path).is_empty()
}

/// Adds who owns what was found: of layers it matters, of the context all belongs to root.
fn key_of_owners(key: &mut KeyBuilder, entry: &Entry) {
    key.bytes(&entry.stat.st_uid.to_le_bytes()).bytes(&entry.stat.st_gid.to_le_bytes());
    if let Content::Directory(children) = &entry.content {
        children.iter().for_each(|child| key_of_owners(key, child));
    }
}

/// Adds the content of what was found in the context to a key.
pub(crate) fn key_of_found(key: &mut KeyBuilder, context: &Context, found: &[Found]) -> Result<(), StepError> {
    let reading = |source: &Found, error| TreeError::reading(&String::from_utf8_lossy(&source.base), error);
    context.learn(found.iter().map(|source| (&source.directory, &source.entry)))?;
    for source in found {
        let digest = context.digest(&source.directory, &source.entry).map_err(|error| reading(source, error))?;
        key.text("content").bytes(&source.base).bytes(digest.as_bytes());
    }
    Ok(())
}

/// One thing, or all that matches a wildcard, which may be nothing.
fn find(origin: &Origin<'_>, source: &str, selection: &Selection) -> Result<Vec<Found>, StepError> {
    if selection.parents {
        return find_with_parents(origin, source, &selection.exclude);
    }
    let path = clean(source);
    let wildcard = pattern::has_wildcard(&path);
    let mut all = Vec::new();
    for path in matching(origin, &path)? {
        // A link that a wildcard brought in leads somewhere too, or it is an error.
        let mut found = find_one(origin, &path)?.ok_or_else(|| missing(origin, &String::from_utf8_lossy(&path)))?;
        // A name that a wildcard brought in can be excluded, one that was written down cannot.
        if wildcard && selection.exclude.verdict(&String::from_utf8_lossy(&found.base)) != Verdict::Seen {
            continue;
        }
        exclude(&mut found.entry, &selection.exclude, "");
        if let Content::Directory(_) = found.entry.content {
            // Of a directory the content is copied, not its own mode.
            found.entry.stat.st_mode &= !0o7777;
        }
        all.push(found);
    }
    Ok(all)
}

/// `--parents`: each path that matches, with the directories on the way to it, from the root or from `/./` on. A pattern may hold `**`.
fn find_with_parents(origin: &Origin<'_>, source: &str, excluded: &IgnoreRules) -> Result<Vec<Found>, StepError> {
    let (pivot, written) = source.split_once("/./").unwrap_or(("", source));
    let (pivot, wanted) = (clean(pivot), clean(written));
    let wildcard = pattern::has_wildcard(&pivot) || pattern::has_wildcard(&wanted);
    let include = IgnoreRules::of_patterns([wanted.as_str()]).map_err(|error| StepError::Invalid(error.to_string()))?;
    let mut all = Vec::new();
    for path in matching(origin, &pivot)? {
        let spot = origin.root.find(&path, Missing::Fail, LastLink::Follow)?;
        if !spot.is_directory() {
            all.extend(find_one(origin, &path)?);
            continue;
        }
        let children = Scan::new(origin.rules).including(&spot, &wanted, &include)?;
        let Some(stat) = spot.found else { continue };
        let mut entry = Entry { name: Vec::new(), stat, content: Content::Directory(children) };
        entry.stat.st_mode &= !0o7777;
        exclude(&mut entry, excluded, "");
        if !matches!(&entry.content, Content::Directory(children) if children.is_empty()) {
            all.push(Found { directory: SourceDirectory::new(origin.root.descriptor(), spot.path), entry, base: Vec::new() });
        }
    }
    if all.is_empty() && !wildcard && excluded.is_empty() { Err(missing(origin, source)) } else { Ok(all) }
}

/// The paths that a cleaned path stands for: itself, or what its wildcards match.
fn matching(origin: &Origin<'_>, path: &str) -> Result<Vec<Vec<u8>>, StepError> {
    if !pattern::has_wildcard(path) {
        return Ok(vec![unescaped(path).into_bytes()]);
    }
    if !pattern::is_well_formed(path) {
        return Err(StepError::Invalid(format!("{path:?} is not a pattern: a [ that stands for itself is written [[]")));
    }
    let parts: Vec<&str> = path.split('/').collect();
    let literal = parts.iter().position(|part| pattern::has_wildcard(part)).unwrap_or(parts.len());
    match origin.root.find(unescaped(&parts[..literal].join("/")).as_bytes(), Missing::Fail, LastLink::Follow) {
        Ok(base) => Ok(Scan::new(origin.rules).matching(&base, &parts[literal..].join("/"))?),
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// What is at a path; `None` if nothing is, or if it is hidden.
fn find_one(origin: &Origin<'_>, path: &[u8]) -> Result<Option<Found>, StepError> {
    let spot = match origin.root.find(path, Missing::Fail, LastLink::Follow) {
        Ok(spot) => spot,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let entry = Scan::new(origin.rules).spot(&spot)?;
    let parent = match &spot.name {
        None => spot.path,
        Some(_) => spot.path.iter().rposition(|byte| *byte == b'/').map_or_else(Vec::new, |slash| spot.path[..slash].to_vec()),
    };
    Ok(entry.map(|entry| Found { directory: SourceDirectory::new(origin.root.descriptor(), parent), entry, base }))
}

/// Why nothing was found, and whether it is there but hidden.
fn missing(origin: &Origin<'_>, source: &str) -> StepError {
    let spot = origin.root.find(unescaped(&clean(source)).as_bytes(), Missing::Fail, LastLink::Follow).ok();
    let hidden = spot.is_some_and(|spot| spot.found.is_some());
    StepError::NoSource { source_path: source.to_owned(), origin: origin.name.to_owned(), hidden }
}

/// Drops what `--exclude` names, relative to the source.
fn exclude(entry: &mut Entry, rules: &IgnoreRules, path: &str) {
    if rules.is_empty() {
        return;
    }
    if let tree::Content::Directory(children) = &mut entry.content {
        children.retain_mut(|child| {
            let path = if path.is_empty() { String::new() } else { format!("{path}/") } + &String::from_utf8_lossy(&child.name);
            exclude(child, rules, &path);
            let kept_for_children = matches!(&child.content, tree::Content::Directory(below) if !below.is_empty());
            match rules.verdict(&path) {
                Verdict::Seen => true,
                Verdict::Hidden => kept_for_children,
                Verdict::HiddenWhole => false,
            }
        });
    }
}

/// A path from the root, without dots; `..` stops at the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A path without wildcards may still have escaped characters.
fn unescaped(path: &str) -> String {
    let mut chars = path.chars();
    let mut plain = String::new();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}
