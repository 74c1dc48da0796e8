//! COPY and ADD.

use super::Layering;
use super::source::{Found, From, Selection, find_in_context, find_in_layers, key_of_found};
use crate::builder::cache::KeyBuilder;
use crate::builder::clock::BuildTime;
use crate::builder::error::StepError;
use crate::builder::file::{Source, Transfer};
use crate::builder::ignore::IgnoreRules;
use crate::builder::owner;
use crate::builder::state::State;
use crate::builder::tree::{self, Chmod, Content, CopyTimes, Draft, Existing, Look, Overlay, Owner, Ownership, Root, Writing, Written};
use crate::builder::words::{Lexer, Quotes};
use spec::value::Digest;

/// Mode of a file that is written in the Dockerfile itself.
const INLINE_MODE: u32 = 0o644;

/// COPY or ADD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Takes files as they are.
    Copy,
    /// Unpacks archives, unless told not to.
    Add {
        /// `--unpack`.
        unpack: Option<bool>,
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
    selection: Selection,
    exclude_texts: Vec<String>,
    /// For the history.
    pub text: String,
}

/// One source after substitution.
enum Wanted {
    Path(String),
    Inline { name: String, content: String },
}

/// What the sources of a transfer name, each in turn. Of layers it is not looked for before it is needed.
pub(crate) struct Gathered(Vec<Vec<Found>>);

/// Replaces variables and checks what can be checked without looking at a file.
pub(crate) fn prepare(state: &State, verb: Verb, transfer: &Transfer, parents: bool, escape: char) -> Result<Prepared, StepError> {
    let words = Lexer::new(escape);
    // Quotes in paths are part of the name.
    let paths = Lexer { quotes: Quotes::Literal, ..words };
    let mut sources = Vec::new();
    for source in &transfer.sources {
        sources.push(match source {
            Source::Path(path) => Wanted::Path(state.word(&paths, path)?),
            Source::Inline(heredoc) => {
                let content = if heredoc.expand { state.word(&paths, &heredoc.content)? } else { heredoc.content.clone() };
                if heredoc.name.contains('/') || heredoc.name == "." || heredoc.name == ".." {
                    return Err(StepError::Invalid(format!("heredoc name {:?} is not a file name", heredoc.name)));
                }
                Wanted::Inline { name: heredoc.name.clone(), content }
            }
        });
    }
    for source in &sources {
        let Wanted::Path(path) = source else { continue };
        let remote = ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|scheme| path.starts_with(scheme));
        if remote && verb != Verb::Copy {
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
    let mut prepared = Prepared {
        verb,
        sources,
        destination,
        chmod: chmod.as_deref().map_or(Ok(Chmod::Keep), Chmod::parse).map_err(StepError::Invalid)?,
        // As in BuildKit: with --chmod the flag means nothing.
        link: transfer.link && chmod.is_none(),
        selection: Selection { parents, exclude },
        exclude_texts,
        chown,
        text: String::new(),
    };
    prepared.text = prepared.history(chmod.as_deref(), &written);
    Ok(prepared)
}

impl Prepared {
    /// The instruction as BuildKit's history has it.
    fn history(&self, chmod: Option<&str>, destination: &str) -> String {
        let mut text = if self.verb == Verb::Copy { "COPY" } else { "ADD" }.to_owned();
        if self.selection.parents {
            text.push_str(" --parents");
        }
        for (flag, value) in [("chown", self.chown.as_deref()), ("chmod", chmod)] {
            if let Some(value) = value {
                text.push_str(&format!(" --{flag}={value}"));
            }
        }
        for source in &self.sources {
            match source {
                Wanted::Path(path) => text.push_str(&format!(" {path}")),
                Wanted::Inline { name, .. } => text.push_str(&format!(" <<{name}")),
            }
        }
        format!("{text} {destination}")
    }

    fn unpacks(&self) -> bool {
        match self.verb {
            Verb::Copy => false,
            Verb::Add { unpack } => unpack.unwrap_or(true),
        }
    }
}

/// Looks for the sources in the context. The same answer makes the cache key and is then copied.
pub(crate) fn gather(transfer: &Prepared, from: &From<'_>) -> Result<Gathered, StepError> {
    let From::Context(context) = from else { return Ok(Gathered(Vec::new())) };
    let found = transfer.sources.iter().map(|source| match source {
        Wanted::Inline { .. } => Ok(Vec::new()),
        Wanted::Path(path) => find_in_context(context, path, &transfer.selection),
    });
    found.collect::<Result<_, _>>().map(Gathered)
}

/// The cache key: where to, as whom, and what by content. Of a stage or image all of it counts, by its layers.
pub(crate) fn key(state: &State, transfer: &Prepared, from: &From<'_>, gathered: &Gathered, time: BuildTime) -> Result<Digest, StepError> {
    let kind = if transfer.verb == Verb::Copy { "copy" } else { "add" };
    // The names of --chown are the image's, so that with them it matters after all.
    let mut key = if transfer.link && transfer.chown.is_none() { KeyBuilder::new(kind, &[]) } else { state.key(kind) };
    key.text(if transfer.link { "link" } else { "" });
    key.text(if transfer.selection.parents { "parents" } else { "" }).text(if transfer.unpacks() { "unpack" } else { "" });
    key.text(&transfer.destination).text(transfer.chown.as_deref().unwrap_or_default()).text(&format!("{:?}", transfer.chmod));
    key.texts(transfer.exclude_texts.iter().map(String::as_str)).text(&time.seconds.to_string());
    let mut found = gathered.0.iter();
    for source in &transfer.sources {
        let found = found.next();
        match (source, from) {
            (Wanted::Inline { name, content }, _) => {
                key.text("inline").text(name).text(content);
            }
            (Wanted::Path(_), From::Context(context)) => key_of_found(&mut key, context, found.map_or(&[], Vec::as_slice))?,
            (Wanted::Path(path), From::Layers { diff_ids, .. }) => {
                key.text("path").text(path);
                for id in diff_ids {
                    key.bytes(id.as_bytes());
                }
            }
        }
    }
    Ok(key.finish())
}

/// Copies on top of the stage's layers. The layer as it was written, or `None` if what came into the upper directory is still to be
/// looked at: an archive was unpacked there.
pub(crate) fn execute(
    state: &State,
    transfer: &Prepared,
    from: &From<'_>,
    gathered: Gathered,
    layering: &Layering,
    time: BuildTime,
) -> Result<Option<Written>, StepError> {
    let empty = &layering.empty;
    let owner = match &transfer.chown {
        None => None,
        Some(text) => Some(owner::lookup(&Overlay::mount(&state.layers, Writing::No { empty })?.root, text)?),
    };
    let below = if transfer.link { &[] } else { state.layers.as_slice() };
    let (ownership, times, extended) = match from {
        From::Context(_) => (Ownership::Set(owner.unwrap_or(Owner::ROOT)), CopyTimes::Made, false),
        From::Layers { .. } => (owner.map_or(Ownership::Keep, Ownership::Set), CopyTimes::Keep { latest: time.latest() }, true),
    };
    let existing = if transfer.selection.parents { Existing::Leave } else { Existing::Overwrite };
    let look = Look { ownership, chmod: transfer.chmod.clone(), times, extended, existing };
    let layers = match from {
        From::Context(_) => None,
        From::Layers { name, directories, .. } => Some((name, Overlay::mount(directories, Writing::No { empty })?)),
    };
    let mut placing = Placing { transfer, look, owner, time };
    let mut gathered = gathered.0.into_iter();
    let mut sources = Vec::new();
    for source in &transfer.sources {
        let found = gathered.next().unwrap_or_default();
        sources.push(match (source, &layers) {
            (Wanted::Path(path), Some((name, layers))) => (source, find_in_layers(&layers.root, name, path, &transfer.selection)?),
            (Wanted::Path(_), None) | (Wanted::Inline { .. }, _) => (source, found),
        });
    }
    if transfer.unpacks() && sources.iter().flat_map(|(_, found)| found).any(is_archive) {
        let writing = Writing::To { upper: &layering.upper, work: &layering.work, empty };
        let target = Overlay::mount(below, writing)?;
        placing.unpack(&target.root, sources)?;
        return Ok(None);
    }
    let below = Overlay::mount(below, Writing::No { empty })?;
    let mut draft = Draft::new(&below.root, time.time());
    for (source, found) in sources {
        placing.place(&mut draft, source, found)?;
    }
    let upper = Root::open(&layering.upper)?;
    Ok(Some(tree::write_layer(draft, upper.descriptor())?))
}

struct Placing<'a> {
    transfer: &'a Prepared,
    look: Look,
    owner: Option<Owner>,
    time: BuildTime,
}

impl Placing<'_> {
    fn place(&mut self, draft: &mut Draft<'_>, source: &Wanted, found: Vec<Found>) -> Result<(), StepError> {
        let destination = self.transfer.destination.as_bytes();
        if let Wanted::Inline { name, content } = source {
            let bytes = content.clone().into_bytes();
            let look = Look { ownership: Ownership::Set(self.owner.unwrap_or(Owner::ROOT)), ..self.look.clone() };
            draft.place_bytes(bytes, INLINE_MODE, name.as_bytes(), destination, &look)?;
        }
        for Found { directory, entry, base } in found {
            draft.place(&directory, entry, &base, destination, &self.look)?;
        }
        Ok(())
    }

    /// Archives are unpacked into the tree, all else is copied into it, one source after the other.
    fn unpack(&mut self, target: &Root, sources: Vec<(&Wanted, Vec<Found>)>) -> Result<(), StepError> {
        let destination = self.transfer.destination.as_bytes();
        for (source, found) in sources {
            let mut others = Vec::new();
            for found in found {
                if is_archive(&found) {
                    let directory = found.directory.open().map_err(|errno| tree::TreeError::reading("archive", errno.into()))?;
                    tree::unpack(&directory, &found.entry.name, target, destination, self.owner)?;
                } else {
                    others.push(found);
                }
            }
            let mut draft = Draft::new(target, self.time.time());
            self.place(&mut draft, source, others)?;
            tree::write_tree(draft, target.descriptor())?;
        }
        Ok(())
    }
}

/// Whether ADD unpacks it: told by its content.
fn is_archive(found: &Found) -> bool {
    let Content::File = found.entry.content else { return false };
    found.directory.open().is_ok_and(|directory| tree::is_archive(&directory, &found.entry.name))
}
