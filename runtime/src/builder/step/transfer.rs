//! COPY and ADD.

use super::Layering;
use crate::builder::cache::KeyBuilder;
use crate::builder::context::Context;
use crate::builder::error::StepError;
use crate::builder::file::{Source, Transfer};
use crate::builder::ignore::{IgnoreRules, Verdict};
use crate::builder::owner;
use crate::builder::pattern;
use crate::builder::state::State;
use crate::builder::tree::{self, Attributes, Chmod, Copier, Entry, LastLink, Missing, Overlay, Ownership, Root, Scan, Spot, Writing};
use crate::builder::words::{Lexer, Quotes};
use crate::store::FileError;
use spec::value::Digest;
use std::fs;
use std::path::{Path, PathBuf};

/// COPY or ADD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Takes files as they are.
    Copy,
    /// Unpacks archives.
    Add,
}

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

/// A transfer with its variables replaced.
pub(crate) struct Prepared {
    verb: Verb,
    sources: Vec<Wanted>,
    /// Absolute; ends in `/` if it is a directory in any case.
    destination: String,
    chown: Option<String>,
    chmod: Chmod,
    /// Copied into an empty tree that is then laid over the image: its links are not followed, its content does not matter.
    link: bool,
    exclude: IgnoreRules,
    exclude_texts: Vec<String>,
    /// For the history.
    pub text: String,
}

/// One source after substitution.
enum Wanted {
    Path(String),
    Inline { name: String, content: String },
}

/// A source that was found.
pub(crate) struct Found {
    /// Where it is.
    pub spot: Spot,
    /// What it is.
    pub entry: Entry,
    /// Its name as the user wrote it.
    base: Vec<u8>,
}

/// Replaces variables and checks what can be checked without looking at a file.
pub(crate) fn prepare(state: &State, verb: Verb, transfer: &Transfer, escape: char) -> Result<Prepared, StepError> {
    let words = Lexer::new(escape);
    // Quotes in paths are part of the name.
    let paths = Lexer { quotes: Quotes::Literal, ..words };
    let mut sources = Vec::new();
    for source in &transfer.sources {
        sources.push(match source {
            Source::Path(path) => Wanted::Path(state.word(&paths, path)?),
            Source::Inline(heredoc) => {
                let content = if heredoc.expand { state.word(&paths, &heredoc.content)? } else { heredoc.content.clone() };
                Wanted::Inline { name: heredoc.name.clone(), content }
            }
        });
    }
    for source in &sources {
        let Wanted::Path(path) = source else { continue };
        let remote = ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|scheme| path.starts_with(scheme));
        if remote && verb == Verb::Add {
            return Err(StepError::Unsupported(format!("ADD of {path}")));
        }
        if remote {
            return Err(StepError::Invalid(format!("{path} is no path: COPY takes local files only")));
        }
    }
    let written = state.word(&paths, &transfer.destination)?;
    let destination = state.absolute(&written);
    if sources.len() > 1 && !destination.ends_with('/') {
        return Err(StepError::Invalid(format!("with several sources the destination is a directory: write {written}/")));
    }
    let exclude_texts = transfer.exclude.iter().map(|text| state.word(&words, text)).collect::<Result<Vec<_>, _>>()?;
    let exclude = IgnoreRules::of_patterns(exclude_texts.iter().map(String::as_str));
    let exclude = exclude.map_err(|error| StepError::Invalid(error.to_string()))?;
    let chown = transfer.chown.as_ref().map(|text| state.word(&words, text)).transpose()?;
    let chmod = transfer.chmod.as_ref().map(|text| state.word(&words, text)).transpose()?;
    let names = sources.iter().map(|source| match source {
        Wanted::Path(path) => path.clone(),
        Wanted::Inline { name, .. } => format!("<<{name}"),
    });
    let verb_name = if verb == Verb::Copy { "COPY" } else { "ADD" };
    let text = format!("{verb_name} {} {written}", names.collect::<Vec<_>>().join(" "));
    Ok(Prepared { verb, sources, destination, chown, chmod: mode(chmod.as_deref())?, link: transfer.link, exclude, exclude_texts, text })
}

/// The cache key: where to, as whom, and what by content. Of a stage or image all of it counts, by its layers.
pub(crate) fn key(state: &State, transfer: &Prepared, from: &From<'_>, seconds: i64) -> Result<Digest, StepError> {
    let kind = if transfer.verb == Verb::Copy { "copy" } else { "add" };
    // The names of --chown are the image's, so that with them it matters after all.
    let mut key = if transfer.link && transfer.chown.is_none() { KeyBuilder::new(kind, &[]) } else { state.key(kind) };
    key.text(if transfer.link { "link" } else { "" });
    key.text(&transfer.destination).text(transfer.chown.as_deref().unwrap_or_default()).text(&format!("{:?}", transfer.chmod));
    key.texts(transfer.exclude_texts.iter().map(String::as_str)).text(&seconds.to_string());
    for source in &transfer.sources {
        match source {
            Wanted::Inline { name, content } => {
                key.text("inline").text(name).text(content);
            }
            Wanted::Path(path) => key_of_source(&mut key, path, from)?,
        }
    }
    Ok(key.finish())
}

/// Adds what one source says to a key: of the context its content, of layers its path, for the layers themselves are in the key.
pub(crate) fn key_of_source(key: &mut KeyBuilder, path: &str, from: &From<'_>) -> Result<(), StepError> {
    let context = match from {
        From::Context(context) => context,
        From::Layers { diff_ids, .. } => {
            key.text("path").text(path);
            for id in diff_ids {
                key.bytes(id.as_bytes());
            }
            return Ok(());
        }
    };
    for mut found in find(&context.root, &context.rules, path, "the build context")? {
        if let tree::Content::Directory(_) = &found.entry.content {
            // Of a directory the content is copied, not its own mode.
            found.entry.stat.st_mode &= !0o7777;
        }
        let reading = |error| StepError::from(tree::TreeError::reading(path, error));
        let digest = context.digest(&found.spot.directory, &found.entry).map_err(reading)?;
        key.text("content").bytes(&found.base).bytes(digest.as_bytes());
    }
    Ok(())
}

/// Finds one source and hands over all that it names.
pub(crate) fn each_source(
    path: &str,
    from: &From<'_>,
    empty: &Path,
    take: &mut dyn FnMut(Found) -> Result<(), StepError>,
) -> Result<(), StepError> {
    match from {
        From::Context(context) => find(&context.root, &context.rules, path, "the build context")?.into_iter().try_for_each(take),
        From::Layers { name, directories, .. } => {
            let layers = Overlay::mount(directories, Writing::No { empty })?;
            find(&layers.root, &IgnoreRules::default(), path, name)?.into_iter().try_for_each(take)
        }
    }
}

/// Copies on top of the stage's layers.
pub(crate) fn execute(state: &State, transfer: &Prepared, from: &From<'_>, layering: &Layering, seconds: i64) -> Result<(), StepError> {
    let owner = match &transfer.chown {
        None => None,
        Some(text) => Some(owner::lookup(&Overlay::mount(&state.layers, Writing::No { empty: &layering.empty })?.root, text)?),
    };
    let below = if transfer.link { &[] } else { state.layers.as_slice() };
    let target = Overlay::mount(below, Writing::To { upper: &layering.upper, work: &layering.work, empty: &layering.empty })?;
    let (attributes, ownership) = match from {
        From::Context(_) => (Attributes::Fixed { seconds }, Ownership::Set(owner.unwrap_or(tree::Owner::ROOT))),
        From::Layers { .. } => (Attributes::Keep, owner.map_or(Ownership::Keep, Ownership::Set)),
    };
    let mut copier = Copier::new(&target.root, ownership, transfer.chmod.clone(), attributes);
    for source in &transfer.sources {
        match source {
            Wanted::Path(path) => {
                each_source(path, from, &layering.empty, &mut |found| copy_one(transfer, &target.root, &mut copier, found, owner))?
            }
            Wanted::Inline { name, content } => {
                let directory = layering.scratch.subdirectory("inline")?;
                let inline = write_inline(&directory, name, content)?;
                copier.copy(&inline.spot.directory, &inline.entry, &inline.base, transfer.destination.as_bytes())?;
                fs::remove_dir_all(&directory).map_err(FileError::of("remove", &directory))?;
            }
        }
    }
    Ok(())
}

fn copy_one(
    transfer: &Prepared,
    target: &Root,
    copier: &mut Copier<'_>,
    mut found: Found,
    owner: Option<tree::Owner>,
) -> Result<(), StepError> {
    let destination = transfer.destination.as_bytes();
    if transfer.verb == Verb::Add && matches!(found.entry.content, tree::Content::File) {
        let archive = tree::unpack(&found.spot.directory, &found.entry.name, target, destination, owner)?;
        if archive {
            return Ok(());
        }
    }
    exclude(&mut found.entry, &transfer.exclude, "");
    Ok(copier.copy(&found.spot.directory, &found.entry, &found.base, destination)?)
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

/// What a source names: one thing, or all that matches a wildcard, which may be nothing.
fn find(root: &Root, rules: &IgnoreRules, source: &str, origin: &str) -> Result<Vec<Found>, StepError> {
    let mut scan = Scan::new(rules);
    let source_path = clean(source);
    if pattern::has_wildcard(&source_path) {
        let parts: Vec<&str> = source_path.split('/').collect();
        let literal = parts.iter().position(|part| pattern::has_wildcard(part)).unwrap_or(parts.len());
        let base = match root.find(parts[..literal].join("/").as_bytes(), Missing::Fail, LastLink::Follow) {
            Ok(base) => base,
            Err(error) if error.is_absent() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut all = Vec::new();
        for path in scan.matching(&base, &parts[literal..].join("/"))? {
            all.extend(find_one(root, &mut scan, &path)?);
        }
        return Ok(all);
    }
    let plain = unescaped(&source_path);
    let found = match find_one(root, &mut scan, plain.as_bytes()) {
        Err(StepError::Tree(error)) if error.is_absent() => None,
        found => found?,
    };
    found.map(|found| vec![found]).ok_or_else(|| {
        let spot = root.find(plain.as_bytes(), Missing::Fail, LastLink::Follow).ok();
        let hidden = spot.is_some_and(|spot| spot.found.is_some());
        StepError::NoSource { source_path: source.to_owned(), origin: origin.to_owned(), hidden }
    })
}

fn find_one(root: &Root, scan: &mut Scan<'_>, path: &[u8]) -> Result<Option<Found>, StepError> {
    let spot = root.find(path, Missing::Fail, LastLink::Follow)?;
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    Ok(scan.spot(&spot)?.map(|entry| Found { spot, entry, base }))
}

/// A path from the root, without dots; `..` stops at the root.
fn clean(path: &str) -> String {
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

/// A file written in the Dockerfile, mode 0644, on disk to be copied.
fn write_inline(directory: &Path, name: &str, content: &str) -> Result<Found, StepError> {
    if name.contains('/') || name == "." || name == ".." {
        return Err(StepError::Invalid(format!("heredoc name {name:?} is not a file name")));
    }
    let path = directory.join(name);
    fs::write(&path, content).map_err(FileError::of("write", &path))?;
    rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o644)).map_err(FileError::of("chmod", &path))?;
    let root = Root::open(directory)?;
    let rules = IgnoreRules::default();
    let found = find_one(&root, &mut Scan::new(&rules), name.as_bytes())?;
    found.ok_or_else(|| StepError::Invalid(format!("heredoc {name:?} vanished")))
}

fn mode(text: Option<&str>) -> Result<Chmod, StepError> {
    let Some(text) = text else { return Ok(Chmod::Keep) };
    let octal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Ok(Chmod::Set(mode)),
        _ if octal => Err(StepError::Invalid(format!("--chmod={text} is not octal between 0 and 07777"))),
        _ => Err(StepError::Unsupported(format!("symbolic --chmod={text}"))),
    }
}
