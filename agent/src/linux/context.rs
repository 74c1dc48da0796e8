//! The context of a build by hand: a directory, a repository, or what comes down a pipe.

use super::repository::Repositories;
use runtime::builder::remote::{GitFetch as _, GitTree, git_reference};
use runtime::builder::{NamedContext, unpack_context};
use runtime::engine::Engine;
use runtime::store::Scratch;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Longest Dockerfile that comes down a pipe; longer is an archive.
const DOCKERFILE_BYTES_MAX: u64 = 4 << 20;

/// What a build takes from, here until this is dropped.
#[derive(Debug, Default)]
pub struct BuildContext {
    /// The directory.
    pub directory: PathBuf,
    /// The Dockerfile's text, if it came down a pipe.
    pub inline: Option<String>,
    /// Contexts by name.
    pub contexts: BTreeMap<String, NamedContext>,
    scratch: Vec<Scratch>,
    trees: Vec<GitTree>,
}

/// What was typed.
#[derive(Debug, Clone, Copy)]
pub struct GivenContext<'a> {
    /// The context.
    pub context: &'a str,
    /// The Dockerfile.
    pub dockerfile: &'a Path,
    /// Whether a repository's `.git` comes along.
    pub git_directory: GitDirectory,
}

/// Whether a repository's `.git` comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitDirectory {
    /// Yes.
    Keep,
    /// No, unless its address says so.
    Omit,
}

impl BuildContext {
    /// Opens what was typed: a directory, `https://host/repo.git#ref:directory` and the like, or `-`, which is an archive or a
    /// Dockerfile on `input`. `dockerfile` is `-` if the Dockerfile comes on `input` instead.
    pub fn open(engine: &Engine, given: &GivenContext<'_>, input: &mut dyn Read) -> Result<Self, BoxError> {
        let GivenContext { context, dockerfile, .. } = *given;
        let mut opened = Self::default();
        if dockerfile == Path::new("-") {
            if context == "-" {
                return Err("context and Dockerfile cannot both come from standard input".into());
            }
            opened.inline = Some(text_of(input)?);
        }
        if context == "-" {
            opened.pipe(engine, input)?;
        } else {
            opened.directory = opened.directory_of(engine, context, given.git_directory)?;
        }
        Ok(opened)
    }

    /// Adds a context by name: `name=directory`, `name=docker-image://reference` or `name=https://host/repo.git`.
    pub fn add(&mut self, engine: &Engine, pair: &str) -> Result<(), BoxError> {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not name=directory, image or repository"))?;
        let context = self.named(engine, value)?;
        self.contexts.insert(name.to_owned(), context);
        Ok(())
    }

    /// What a named context's value stands for; a directory is relative to the working directory.
    pub fn named(&mut self, engine: &Engine, value: &str) -> Result<NamedContext, BoxError> {
        match value.split_once("://") {
            Some(("docker-image", reference)) => Ok(NamedContext::Image(reference.to_owned())),
            Some(_) if git_reference(value).is_none() => {
                Err(format!("{value}: a context is a directory, docker-image://reference or a repository").into())
            }
            Some(_) | None => Ok(NamedContext::Directory(self.directory_of(engine, value, GitDirectory::Omit)?)),
        }
    }

    /// The directory that a text names, or a repository's tree.
    pub(super) fn directory_of(&mut self, engine: &Engine, text: &str, keep: GitDirectory) -> Result<PathBuf, BoxError> {
        let Some(git) = git_reference(text) else { return Ok(PathBuf::from(text)) };
        let mut git = git?;
        git.keep_git_dir |= keep == GitDirectory::Keep;
        let tree = Repositories { places: engine.places().clone(), images: engine.images().clone() }.fetch(&git)?;
        let root = tree.root.clone();
        let directory = match &git.subdirectory {
            None => root.clone(),
            Some(below) => crate::source::resolve_inside(&root, Path::new(below.trim_start_matches('/')))?,
        };
        self.trees.push(tree);
        Ok(directory)
    }

    /// An archive becomes a directory; anything else is a Dockerfile without a context.
    fn pipe(&mut self, engine: &Engine, input: &mut dyn Read) -> Result<(), BoxError> {
        let scratch = engine.images().scratch()?;
        self.directory = scratch.subdirectory("context")?;
        let archive = scratch.path().join("archive");
        let mut file = std::fs::File::create(&archive)?;
        let length = std::io::copy(input, &mut file)?;
        if !unpack_context(&archive, &self.directory)? {
            if length > DOCKERFILE_BYTES_MAX {
                return Err("standard input is neither an archive nor a Dockerfile".into());
            }
            self.inline = Some(std::fs::read_to_string(&archive)?);
        }
        std::fs::remove_file(&archive)?;
        self.scratch.push(scratch);
        Ok(())
    }
}

fn text_of(input: &mut dyn Read) -> Result<String, BoxError> {
    let mut text = String::new();
    input.take(DOCKERFILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > DOCKERFILE_BYTES_MAX { Err("the Dockerfile on standard input is too long".into()) } else { Ok(text) }
}
