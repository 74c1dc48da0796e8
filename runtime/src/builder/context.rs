//! The build context: the directory COPY and ADD take from, less what `.dockerignore` hides, and its digests.

use super::file::DOCKERFILE_BYTES_MAX;
use super::ignore::{IGNORE_BYTES_MAX, IgnoreError, IgnoreRules};
use super::index::StatIndex;
use super::learn;
use super::tree::{Content, Entry, LastLink, Missing, Root, Scan, SourceDirectory, TreeError};
use rustix::fs::Stat;
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The context of one build.
pub struct Context {
    /// What errors call it.
    pub name: String,
    /// The directory.
    pub root: Root,
    /// What is left out.
    pub rules: IgnoreRules,
    index: Mutex<StatIndex>,
}

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Something in it.
    #[error("build context {context:?}")]
    Tree {
        /// The directory.
        context: String,
        /// What.
        #[source]
        source: TreeError,
    },
    /// There is no such Dockerfile.
    #[error("there is no {dockerfile:?} in the build context {context:?}")]
    NoDockerfile {
        /// The path given.
        dockerfile: String,
        /// The directory.
        context: String,
    },
    /// A text that is none, or too long to be one.
    #[error("{file:?} is not UTF-8 text of at most {limit} bytes")]
    NotText {
        /// The file.
        file: String,
        /// Most bytes.
        limit: u64,
    },
    /// A `.dockerignore` that cannot be read.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
}

impl Context {
    /// Opens a context with the rules of `<Dockerfile>.dockerignore` or else `.dockerignore`. `index` is where digests are kept.
    pub fn open(context: &Path, dockerfile: &Path, index: Option<&Path>) -> Result<Self, ContextError> {
        let root = Root::open(context).map_err(|source| ContextError::Tree { context: context.display().to_string(), source })?;
        let own = format!("{}.dockerignore", dockerfile.display());
        let of_dockerfile = match own.as_str() {
            ".dockerignore" => None,
            own => read_text(&root, context, Path::new(own), IGNORE_BYTES_MAX)?,
        };
        let rules = match of_dockerfile {
            Some(text) => IgnoreRules::parse(&own, &text)?,
            None => match read_text(&root, context, Path::new(".dockerignore"), IGNORE_BYTES_MAX)? {
                Some(text) => IgnoreRules::parse(".dockerignore", &text)?,
                None => IgnoreRules::default(),
            },
        };
        let index = Mutex::new(index.map(StatIndex::open).unwrap_or_default());
        Ok(Self { name: "the build context".to_owned(), root, rules, index })
    }

    /// Opens a context that a build has by name, with the rules of its `.dockerignore`.
    pub fn open_named(name: &str, context: &Path, index: &Path) -> Result<Self, ContextError> {
        let opened = Self::open(context, Path::new(""), Some(index))?;
        Ok(Self { name: format!("context {name}"), ..opened })
    }

    /// Any tree, all of it, with nothing known of it yet.
    pub(crate) fn of_tree(name: &str, root: Root) -> Self {
        Self { name: name.to_owned(), root, rules: IgnoreRules::default(), index: Mutex::default() }
    }

    /// The Dockerfile's text; `dockerfile` is relative to the context, or absolute. `.dockerignore` does not hide it from this.
    pub fn dockerfile(&self, context: &Path, dockerfile: &Path) -> Result<String, ContextError> {
        read_text(&self.root, context, dockerfile, DOCKERFILE_BYTES_MAX)?.ok_or_else(|| ContextError::NoDockerfile {
            dockerfile: dockerfile.display().to_string(),
            context: context.display().to_string(),
        })
    }

    /// The digest of a scanned entry: names, kinds, permission bits, link texts and bytes; never times or owners, which Git does not
    /// keep and COPY does not copy. `from` is the directory that holds it, or itself if it has no name.
    pub(crate) fn digest(&self, from: &Arc<SourceDirectory>, entry: &Entry) -> Result<Digest, io::Error> {
        let mut hash = Sha256::new();
        let mut index = self.index();
        hash_entry(&mut hash, from, entry, &mut |from, name, stat| match index.get(stat) {
            Some(digest) => Ok(digest),
            None => learn::one(&mut index, from, name, stat),
        })?;
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    /// Reads the files among scanned entries that are not known yet, on all processors: [`Self::digest`] then finds them known.
    pub(crate) fn learn<'a>(&self, entries: impl Iterator<Item = (&'a Arc<SourceDirectory>, &'a Entry)>) -> Result<(), TreeError> {
        learn::all(&mut self.index(), entries)
    }

    /// The digest of a file in this state, if it was read before.
    pub(crate) fn known_digest(&self, stat: &Stat) -> Option<Digest> {
        self.index().get(stat)
    }

    /// Keeps what was learnt for the next build. That it cannot be written only makes the next build slower.
    pub fn save_index(&self) {
        let _ = self.index().save();
    }

    fn index(&self) -> MutexGuard<'_, StatIndex> {
        // An entry is whole or absent: one who panicked while holding it broke nothing.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type FileDigest<'a> = dyn FnMut(&Arc<SourceDirectory>, &[u8], &Stat) -> Result<Digest, io::Error> + 'a;

fn hash_entry(hash: &mut Sha256, from: &Arc<SourceDirectory>, entry: &Entry, file: &mut FileDigest<'_>) -> Result<(), io::Error> {
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(&entry.name);
    field(&entry.stat.st_mode.to_le_bytes());
    match &entry.content {
        Content::File => field(file(from, &entry.name, &entry.stat)?.as_bytes()),
        Content::Link(target) => field(target),
        Content::Special => field(&entry.stat.st_rdev.to_le_bytes()),
        Content::Directory(children) => {
            field(&(children.len() as u64).to_le_bytes());
            let directory = from.of(entry);
            for child in children {
                hash_entry(hash, &directory, child, file)?;
            }
        }
    }
    Ok(())
}

/// The digest of a Dockerfile and of its whole context after `.dockerignore`: what decides whether to build again.
///
/// `dockerfile` is relative to the context, or absolute; `index` is a file that makes the next call fast.
pub fn context_digest(context: &Path, dockerfile: &Path, index: Option<&Path>) -> Result<Digest, ContextError> {
    let opened = Context::open(context, dockerfile, index)?;
    let text = opened.dockerfile(context, dockerfile)?;
    whole_digest(&opened, context, &text)
}

/// The same for a Dockerfile that is a text of its own.
pub fn inline_context_digest(context: &Path, text: &str, index: Option<&Path>) -> Result<Digest, ContextError> {
    whole_digest(&Context::open(context, Path::new(""), index)?, context, text)
}

fn whole_digest(opened: &Context, context: &Path, text: &str) -> Result<Digest, ContextError> {
    let failed = |source| ContextError::Tree { context: context.display().to_string(), source };
    let spot = opened.root.find(b"/", Missing::Fail, LastLink::Follow).map_err(failed)?;
    let entry = Scan::new(&opened.rules).spot(&spot).map_err(failed)?;
    let mut bytes = Digest::of(text.as_bytes()).as_bytes().to_vec();
    if let Some(mut entry) = entry {
        // The root's own mode is the checkout's, not the site's.
        entry.stat.st_mode = 0;
        let directory = SourceDirectory::new(opened.root.descriptor(), Vec::new());
        opened.learn([(&directory, &entry)].into_iter()).map_err(failed)?;
        let digest = opened.digest(&directory, &entry).map_err(|error| failed(TreeError::reading("/", error)))?;
        bytes.extend_from_slice(digest.as_bytes());
    }
    opened.save_index();
    Ok(Digest::of(&bytes))
}

/// Reads a text of the context, or of the host if the path is absolute; `None` if there is none.
fn read_text(root: &Root, context: &Path, path: &Path, limit: u64) -> Result<Option<String>, ContextError> {
    let failed = |source| ContextError::Tree { context: context.display().to_string(), source };
    let bytes = if path.is_absolute() {
        match File::open(path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(limit + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| failed(TreeError::reading(&path.display().to_string(), error)))?;
                Some(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(TreeError::reading(&path.display().to_string(), error))),
        }
    } else {
        root.read(path.as_os_str().as_encoded_bytes(), limit + 1).map_err(failed)?
    };
    let not_text = || ContextError::NotText { file: path.display().to_string(), limit };
    match bytes {
        None => Ok(None),
        Some(bytes) if bytes.len() as u64 > limit => Err(not_text()),
        Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| not_text()),
    }
}
