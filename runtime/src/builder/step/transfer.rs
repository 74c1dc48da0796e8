//! COPY and ADD.

use super::Layering;
use super::source::{Found, From, Selection, find_in_context, find_in_layers, key_of_found};
use crate::builder::cache::KeyBuilder;
use crate::builder::clock::BuildTime;
use crate::builder::download::{self, Downloads};
use crate::builder::earlier::Earlier;
use crate::builder::error::StepError;
use crate::builder::fetch::fetch;
use crate::builder::file::{Source, Transfer};
use crate::builder::ignore::IgnoreRules;
use crate::builder::owner;
use crate::builder::remote::{self, GitFetch, GitReference, GitTree};
use crate::builder::schedule::Schedule;
use crate::builder::state::State;
use crate::builder::tree::{
    self, ArchiveOwners, Chmod, Content, CopyTimes, Draft, Existing, Files, Look, Overlay, Owner, Ownership, Reuse, Root, Writing, Written,
};
use crate::builder::words::{Lexer, Quotes};
use crate::image::layer::header::Time;
use rustix::fs::Stat;
use spec::value::Digest;
use std::sync::Arc;

/// Mode of a file that is written in the Dockerfile itself.
const INLINE_MODE: u32 = 0o644;
/// Mode of a file of the web.
const DOWNLOAD_MODE: u32 = 0o600;

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Takes files as they are.
    Copy,
    /// Takes what is elsewhere too, and unpacks archives.
    Add {
        /// `--unpack`.
        unpack: Option<bool>,
        /// `--checksum`: a digest, or a commit.
        checksum: Option<String>,
        /// `--keep-git-dir`.
        keep_git_dir: bool,
    },
}

/// Where sources come from that are on no disk of this host.
pub(crate) struct Remotes<'a> {
    /// Files of the web.
    pub downloads: &'a Downloads,
    /// Repositories.
    pub git: Option<&'a Arc<dyn GitFetch>>,
    /// Says when nobody wants them any more.
    pub schedule: &'a Schedule,
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
    Url { url: String, expected: Option<Digest> },
    Git { written: String, git: GitReference },
}

/// What the sources of a transfer name, each in turn. Of layers it is not looked for before it is needed.
pub(crate) struct Gathered(Vec<Taken>);

/// What one source names.
#[derive(Default)]
struct Taken {
    found: Vec<Found>,
    /// What it is known by, if it is not the content of what was found.
    identity: Option<String>,
    /// When a file of the web was changed last.
    modified: Option<i64>,
    /// Keeps what was fetched until it is copied.
    tree: Option<GitTree>,
}

/// Replaces variables and checks what can be checked without looking at a file.
pub(crate) fn prepare(state: &State, verb: Verb, transfer: &Transfer, parents: bool, escape: char) -> Result<Prepared, StepError> {
    let words = Lexer::new(escape);
    // In a body quotes are text, and the escape character is \ whatever the directive says.
    let body = Lexer { quotes: Quotes::Literal, ..Lexer::new('\\') };
    let mut sources = Vec::new();
    for source in &transfer.sources {
        sources.push(match source {
            Source::Path(path) => wanted(&verb, state.word(&words, path)?, transfer.sources.len())?,
            Source::Inline(heredoc) => {
                let content = if heredoc.expand { state.word(&body, &heredoc.content)? } else { heredoc.content.clone() };
                if heredoc.name.contains('/') || heredoc.name == "." || heredoc.name == ".." {
                    return Err(StepError::Invalid(format!("heredoc name {:?} is not a file name", heredoc.name)));
                }
                Wanted::Inline { name: heredoc.name.clone(), content }
            }
        });
    }
    // As in BuildKit: what stands in the Dockerfile itself comes last.
    sources.sort_by_key(|source| matches!(source, Wanted::Inline { .. }));
    let written = state.word(&words, &transfer.destination)?;
    let destination = state.absolute(&written);
    let exclude_texts = transfer.exclude.iter().map(|text| state.word(&words, text)).collect::<Result<Vec<_>, _>>()?;
    let exclude = IgnoreRules::of_patterns(exclude_texts.iter().map(String::as_str));
    let exclude = exclude.map_err(|error| StepError::Invalid(error.to_string()))?;
    let chown = transfer.chown.as_ref().map(|text| state.word(&words, text)).transpose()?;
    let chmod = transfer.chmod.as_ref().map(|text| state.word(&words, text)).transpose()?;
    // As with --chown, a variable that is empty here asks for nothing.
    let chmod = chmod.filter(|text| !text.is_empty());
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

/// What a path as written is.
fn wanted(verb: &Verb, path: String, sources: usize) -> Result<Wanted, StepError> {
    let git = remote::git_reference(&path);
    if !remote::is_url(&path) && git.is_none() {
        return match verb {
            Verb::Add { checksum: Some(_), .. } => {
                Err(StepError::Invalid("--checksum is for a source on the web or in a repository".to_owned()))
            }
            Verb::Copy | Verb::Add { .. } => Ok(Wanted::Path(path)),
        };
    }
    let Verb::Add { checksum, keep_git_dir, .. } = verb else {
        return Err(StepError::Invalid(format!("{path} is no path: COPY takes local files only")));
    };
    if checksum.is_some() && sources > 1 {
        return Err(StepError::Invalid("--checksum is for one source".to_owned()));
    }
    if let Some(git) = git {
        let mut git = git.map_err(StepError::Invalid)?;
        let hexadecimal = |text: &String| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(wrong) = checksum.as_ref().filter(|text| !hexadecimal(text)) {
            return Err(StepError::Invalid(format!("--checksum={wrong} is not a commit")));
        }
        git.keep_git_dir |= keep_git_dir;
        git.commit = checksum.as_ref().map(|text| text.to_ascii_lowercase()).or(git.commit);
        return Ok(Wanted::Git { written: path, git });
    }
    let expected = checksum.as_ref().map(|text| text.parse::<Digest>()).transpose();
    let expected = expected.map_err(|error| StepError::Invalid(format!("--checksum: {error}")))?;
    Ok(Wanted::Url { url: path, expected })
}

impl Prepared {
    /// The instruction as BuildKit's history has it, less its remark.
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
                Wanted::Path(path) | Wanted::Url { url: path, .. } | Wanted::Git { written: path, .. } => {
                    text.push_str(&format!(" {path}"));
                }
                Wanted::Inline { name, .. } => text.push_str(&format!(" <<{name}")),
            }
        }
        format!("{text} {destination}")
    }

    /// Whether archives of this source are unpacked: as BuildKit, what comes from the web is not unless told so, a repository never.
    fn unpacks(&self, source: &Wanted) -> bool {
        match (&self.verb, source) {
            (Verb::Copy, _) | (Verb::Add { .. }, Wanted::Inline { .. } | Wanted::Git { .. }) => false,
            (Verb::Add { unpack, .. }, Wanted::Path(_)) => unpack.unwrap_or(true),
            (Verb::Add { unpack, .. }, Wanted::Url { .. }) => unpack.unwrap_or(false),
        }
    }
}

/// Looks for the sources in the context and elsewhere. The same answer makes the cache key and is then copied.
pub(crate) fn gather(transfer: &Prepared, from: &From<'_>, remotes: &Remotes<'_>) -> Result<Gathered, StepError> {
    let From::Context(context) = from else { return Ok(Gathered(Vec::new())) };
    let taken = transfer.sources.iter().map(|source| match source {
        Wanted::Inline { .. } => Ok(Taken::default()),
        Wanted::Path(path) => {
            let found = find_in_context(context, path, &transfer.selection)?;
            Ok(Taken { found, ..Taken::default() })
        }
        Wanted::Url { url, expected } => download(url, *expected, remotes),
        Wanted::Git { written, git } => fetch_tree(written, git, &transfer.selection, remotes),
    });
    taken.collect::<Result<_, _>>().map(Gathered)
}

/// A file of the web, as it is kept here.
fn download(url: &str, expected: Option<Digest>, remotes: &Remotes<'_>) -> Result<Taken, StepError> {
    let (asked, kept) = (url.to_owned(), remotes.downloads.clone());
    let download = fetch(remotes.schedule, move |is_wanted| kept.get(&asked, expected, is_wanted))??;
    let (directory, name) = remotes.downloads.place(&download);
    let base = download::name_of(url, &download);
    let found = find_in_layers(&Root::open(&directory)?, "the downloads", &name, &Selection::default())?;
    let found = found.into_iter().map(|found| Found { base: base.clone().into_bytes(), ..found }).collect();
    let identity = Some(format!("url {base} {} {:?}", download.digest, download.modified));
    Ok(Taken { found, identity, modified: download.modified, tree: None })
}

/// A tree of a repository.
fn fetch_tree(written: &str, git: &GitReference, selection: &Selection, remotes: &Remotes<'_>) -> Result<Taken, StepError> {
    let failed = |source| StepError::Git { remote: written.to_owned(), source };
    let repositories = remotes.git.ok_or("this build was given no way to fetch repositories").map_err(|none| failed(none.into()))?;
    let (repositories, asked) = (Arc::clone(repositories), git.clone());
    let tree = fetch(remotes.schedule, move |_| repositories.fetch(&asked))?.map_err(failed)?;
    git.check(&tree.commit).map_err(|problem| failed(problem.into()))?;
    let directory = git.subdirectory.as_deref().unwrap_or_default();
    let found = find_in_layers(&Root::open(&tree.root)?, "the repository", &format!("/{directory}"), selection)?;
    let identity = Some(format!("git {} {directory} {} {}", tree.commit, git.keep_git_dir, git.submodules));
    Ok(Taken { found, identity, modified: None, tree: Some(tree) })
}

/// The cache key: where to, as whom, and what by content. Of a stage or image all of it counts, by its layers.
pub(crate) fn key(state: &State, transfer: &Prepared, from: &From<'_>, gathered: &Gathered, time: BuildTime) -> Result<Digest, StepError> {
    let kind = if transfer.verb == Verb::Copy { "copy" } else { "add" };
    // The names of --chown are the image's, so that with them it matters after all.
    let mut key = if transfer.link && transfer.chown.is_none() { KeyBuilder::new(kind, &[]) } else { state.key(kind) };
    key.text(if transfer.link { "link" } else { "" });
    key.text(if transfer.selection.parents { "parents" } else { "" });
    key.text(&transfer.destination).text(transfer.chown.as_deref().unwrap_or_default()).text(&format!("{:?}", transfer.chmod));
    key.texts(transfer.exclude_texts.iter().map(String::as_str)).text(&time.seconds.to_string());
    let mut gathered = gathered.0.iter();
    for source in &transfer.sources {
        let taken = gathered.next();
        key.text(if transfer.unpacks(source) { "unpack" } else { "" });
        if let Some(identity) = taken.and_then(|taken| taken.identity.as_ref()) {
            key.text(identity);
            continue;
        }
        match (source, from) {
            (Wanted::Inline { name, content }, _) => {
                key.text("inline").text(name).text(content);
            }
            (_, From::Context(context)) => key_of_found(&mut key, context, taken.map_or(&[], |taken| &taken.found))?,
            (Wanted::Path(path) | Wanted::Url { url: path, .. } | Wanted::Git { written: path, .. }, From::Layers { diff_ids, .. }) => {
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
    (time, earlier): (BuildTime, Option<Earlier>),
) -> Result<Option<Written>, StepError> {
    let empty = &layering.empty;
    let owner = match &transfer.chown {
        None => None,
        Some(text) => Some(owner::lookup(&Overlay::mount(&state.layers, Writing::No { empty })?.root, text)?),
    };
    let layers_below = if transfer.link { &[] } else { state.layers.as_slice() };
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
    let (mut sources, mut _trees) = (Vec::new(), Vec::new());
    for source in &transfer.sources {
        let mut taken = gathered.next().unwrap_or_default();
        _trees.extend(taken.tree.take());
        if let (Wanted::Path(path), Some((name, layers))) = (source, &layers) {
            taken.found = find_in_layers(&layers.root, name, path, &transfer.selection)?;
        }
        sources.push((source, taken));
    }
    if sources.iter().any(|(source, taken)| transfer.unpacks(source) && taken.found.iter().any(is_archive)) {
        let writing = Writing::To { upper: &layering.upper, work: &layering.work, empty };
        let target = Overlay::mount(layers_below, writing)?;
        placing.unpack(&target.root, sources)?;
        return Ok(None);
    }
    let below = Overlay::mount(layers_below, Writing::No { empty })?;
    let mut draft = Draft::new(&below.root, time.time());
    for (source, taken) in sources {
        placing.place(&mut draft, source, taken)?;
    }
    let upper = Root::open(&layering.upper)?;
    let From::Context(context) = from else { return Ok(Some(tree::write_layer(draft, upper.descriptor(), None)?)) };
    let digest = |stat: &Stat| context.known_digest(stat);
    let (layer, files) = earlier.map_or((None, Files::new()), |earlier| (Some(earlier.root), earlier.files));
    let reuse = Reuse { digest: &digest, layer, files };
    Ok(Some(tree::write_layer(draft, upper.descriptor(), Some(&reuse))?))
}

struct Placing<'a> {
    transfer: &'a Prepared,
    look: Look,
    owner: Option<Owner>,
    time: BuildTime,
}

impl Placing<'_> {
    fn place(&mut self, draft: &mut Draft<'_>, source: &Wanted, taken: Taken) -> Result<(), StepError> {
        let destination = self.transfer.destination.as_bytes();
        if let Wanted::Inline { name, content } = source {
            let bytes = content.clone().into_bytes();
            let look = Look { ownership: Ownership::Set(self.owner.unwrap_or(Owner::ROOT)), ..self.look.clone() };
            draft.place_bytes(bytes, INLINE_MODE, name.as_bytes(), destination, &look)?;
        }
        let look = match source {
            Wanted::Url { .. } => self.look_of_download(taken.modified),
            Wanted::Path(_) | Wanted::Inline { .. } | Wanted::Git { .. } => self.look.clone(),
        };
        for Found { directory, entry, base } in taken.found {
            draft.place(&directory, entry, &base, destination, &look)?;
        }
        Ok(())
    }

    /// As the web has it: mode 0600, and the server's time unless the build says one.
    fn look_of_download(&self, modified: Option<i64>) -> Look {
        let chmod = if self.look.chmod == Chmod::Keep { Chmod::Set(DOWNLOAD_MODE) } else { self.look.chmod.clone() };
        let times = match (modified, self.time.latest()) {
            (Some(seconds), None) => CopyTimes::At(Time { seconds, nanoseconds: 0 }),
            (Some(_), Some(_)) | (None, _) => CopyTimes::Made,
        };
        Look { chmod, times, ..self.look.clone() }
    }

    /// Archives are unpacked into the tree, all else is copied into it, one source after the other.
    fn unpack(&mut self, target: &Root, sources: Vec<(&Wanted, Taken)>) -> Result<(), StepError> {
        let destination = self.transfer.destination.as_bytes();
        for (source, mut taken) in sources {
            let mut others = Vec::new();
            for found in std::mem::take(&mut taken.found) {
                if self.transfer.unpacks(source) && is_archive(&found) {
                    let directory = found.directory.open().map_err(|errno| tree::TreeError::reading("archive", errno.into()))?;
                    let owners = (self.owner.unwrap_or(Owner::ROOT), ArchiveOwners::AsWritten);
                    tree::unpack(&directory, &found.entry.name, target, destination, owners)?;
                } else {
                    others.push(found);
                }
            }
            let mut draft = Draft::new(target, self.time.time());
            taken.found = others;
            self.place(&mut draft, source, taken)?;
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
