//! `RUN --mount`: what a command finds besides its image, and what is not part of the layer.
//!
//! tmpfs: memory. cache: a directory that stays, shared by all builds of the store under its id. bind: a copy of what the context, a
//! stage or an image has, so that neither rules of `.dockerignore` nor writes of the command matter to the original.

use super::source::{self, From};
use crate::builder::cache::KeyBuilder;
use crate::builder::error::StepError;
use crate::builder::state::State;
use crate::builder::tree::{self, Chmod, Content, CopyTimes, Draft, Existing, Look, Owner, Ownership, Root};
use crate::builder::words::Lexer;
use crate::container::config::MountConfig;
use crate::image::layer::pack::EPOCH;
use crate::store::{FileError, Lock, Scratch};
use rustix::fs::{Gid, Mode, Uid};
use spec::value::{ByteSize, Digest, MountTarget};
use std::fs;
use std::path::{Path, PathBuf};

/// A mount as asked for, its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Memory.
    Tmpfs {
        /// Where.
        target: MountTarget,
        /// Most it holds.
        size: Option<ByteSize>,
    },
    /// A directory that stays.
    Cache {
        /// Where.
        target: MountTarget,
        /// Its name among all builds.
        id: String,
        /// Bits and owner it is made with.
        mode: u32,
        /// Likewise.
        owner: Owner,
        /// Whether two commands may have it at once.
        sharing: Sharing,
    },
    /// A copy of something.
    Bind {
        /// Where.
        target: MountTarget,
        /// Stage or image; the context if `None`.
        from: Option<String>,
        /// Path there.
        source: String,
        /// Whether the command may write; what it writes is dropped.
        writable: bool,
    },
}

/// Whether two commands may have a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Yes.
    Shared,
    /// One after the other.
    Locked,
}

/// What holds mounts in place while a command runs.
#[derive(Default)]
pub(crate) struct Held {
    /// For the container.
    pub mounts: Vec<MountConfig>,
    _locks: Vec<Lock>,
}

/// Reads a `--mount`. `None` for one that is optional and not there: secrets, which no build is given yet.
pub(crate) fn parse(text: &str, state: &State, lexer: &Lexer) -> Result<Option<Mount>, StepError> {
    let invalid = |problem: String| StepError::Invalid(format!("--mount={text}: {problem}"));
    let mut options = Options::default();
    for option in text.split(',') {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        // A stage's name is needed before any variable is known.
        let value = match name {
            "from" => value.map(str::to_owned),
            _ => value.map(|value| state.word(lexer, value)).transpose()?,
        };
        options.set(name, value).map_err(invalid)?;
    }
    let target = || match options.target.as_deref() {
        None => Err(invalid("it needs a target=…".to_owned())),
        Some(target) => state.absolute(target).parse::<MountTarget>().map_err(|error| invalid(error.to_string())),
    };
    Ok(Some(match options.kind.as_deref().unwrap_or("bind") {
        "tmpfs" => Mount::Tmpfs { target: target()?, size: options.size },
        "cache" if options.from.is_some() => return Err(StepError::Unsupported(format!("a cache that begins with something: {text}"))),
        "cache" => {
            let target = target()?;
            let id = options.id.unwrap_or_else(|| target.to_string());
            let sharing = if options.sharing.as_deref().unwrap_or("shared") == "shared" { Sharing::Shared } else { Sharing::Locked };
            let owner = Owner { user: options.user.unwrap_or(0), group: options.group.unwrap_or(0) };
            Mount::Cache { target, id, mode: options.mode.unwrap_or(0o755), owner, sharing }
        }
        "bind" => {
            let source = options.source.unwrap_or_else(|| "/".to_owned());
            Mount::Bind { target: target()?, from: options.from, source, writable: options.writable }
        }
        "secret" | "ssh" if !options.required => return Ok(None),
        kind @ ("secret" | "ssh") => return Err(StepError::Unsupported(format!("a required {kind}: {text}"))),
        kind => return Err(invalid(format!("type is bind, cache, tmpfs, secret or ssh, not {kind:?}"))),
    }))
}

#[derive(Default)]
struct Options {
    kind: Option<String>,
    target: Option<String>,
    source: Option<String>,
    from: Option<String>,
    id: Option<String>,
    sharing: Option<String>,
    mode: Option<u32>,
    user: Option<u32>,
    group: Option<u32>,
    size: Option<ByteSize>,
    writable: bool,
    required: bool,
}

impl Options {
    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let switch = |value: &Option<String>| match value.as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("{name} is true or false, not {other:?}")),
        };
        let text = |value: Option<String>| value.ok_or_else(|| format!("{name} needs a value"));
        let number = |value: Option<String>| {
            let value = text(value)?;
            value.parse().map_err(|_| format!("{name}={value} is not a number"))
        };
        match name.to_ascii_lowercase().as_str() {
            "type" => self.kind = Some(text(value)?),
            "target" | "dst" | "destination" => self.target = Some(text(value)?),
            "source" | "src" => self.source = Some(text(value)?),
            "from" => self.from = Some(text(value)?).filter(|from| !from.is_empty()),
            "id" => self.id = Some(text(value)?),
            "sharing" => match text(value)?.as_str() {
                known @ ("shared" | "locked" | "private") => self.sharing = Some(known.to_owned()),
                other => return Err(format!("sharing is shared, locked or private, not {other:?}")),
            },
            "mode" => {
                let value = text(value)?;
                self.mode = Some(u32::from_str_radix(&value, 8).map_err(|_| format!("mode={value} is not octal"))? & 0o7777);
            }
            "uid" => self.user = Some(number(value)?),
            "gid" => self.group = Some(number(value)?),
            "size" => self.size = Some(text(value)?.parse().map_err(|error: spec::value::ValueError| error.to_string())?),
            "readwrite" | "rw" => self.writable = switch(&value)?,
            "readonly" | "ro" => self.writable = !switch(&value)?,
            "required" => self.required = switch(&value)?,
            "env" => drop(text(value)?),
            _ => return Err(format!("there is no option {name:?}")),
        }
        Ok(())
    }
}

/// What of a mount decides the result: where it is, and of a bind its content. Never what a cache holds.
pub(crate) fn key(key: &mut KeyBuilder, mount: &Mount, from: &From<'_>) -> Result<(), StepError> {
    match mount {
        Mount::Tmpfs { target, .. } => key.text("tmpfs").text(target.as_str()),
        Mount::Cache { target, id, .. } => key.text("cache").text(target.as_str()).text(id),
        Mount::Bind { target, source, .. } => {
            key.text("bind").text(target.as_str()).text(source);
            source::key_of_source(key, source, from)?;
            key
        }
    };
    Ok(())
}

/// Makes a mount's content ready. `caches` is where caches are kept, `scratch` the step's own directory.
pub(crate) fn hold(
    held: &mut Held,
    mount: &Mount,
    from: &From<'_>,
    caches: &Path,
    scratch: &Scratch,
    empty: &Path,
) -> Result<(), StepError> {
    held.mounts.push(match mount {
        Mount::Tmpfs { target, size } => MountConfig::Tmpfs { target: target.clone(), size: *size, mode: 0o1777 },
        Mount::Cache { target, id, mode, owner, sharing } => {
            let (directory, lock) = cache(caches, id, *mode, *owner, *sharing)?;
            held._locks.push(lock);
            MountConfig::Bind { source: directory, target: target.clone(), read_only: false, copy_up: false }
        }
        Mount::Bind { target, source, writable, .. } => {
            let directory = scratch.subdirectory(&format!("mount-{}", held.mounts.len()))?;
            let source = copy(&directory, source, from, empty)?;
            MountConfig::Bind { source, target: target.clone(), read_only: !writable, copy_up: false }
        }
    });
    Ok(())
}

/// The directory of a cache, made if absent, and the lock that keeps others off it.
fn cache(caches: &Path, id: &str, mode: u32, owner: Owner, sharing: Sharing) -> Result<(PathBuf, Lock), StepError> {
    let name = Digest::of(id.as_bytes()).hex();
    fs::create_dir_all(caches).map_err(FileError::of("create", caches))?;
    let lock_path = caches.join(format!("{name}.lock"));
    let lock = match sharing {
        Sharing::Shared => Lock::shared(&lock_path)?,
        Sharing::Locked => Lock::exclusive(&lock_path)?,
    };
    let directory = caches.join(name);
    if !directory.exists() {
        fs::create_dir_all(&directory).map_err(FileError::of("create", &directory))?;
        rustix::fs::chown(&directory, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)))
            .map_err(FileError::of("chown", &directory))?;
        rustix::fs::chmod(&directory, Mode::from_raw_mode(mode)).map_err(FileError::of("chmod", &directory))?;
    }
    Ok((directory, lock))
}

/// Copies what is to be bound; the path of the copy.
fn copy(directory: &Path, path: &str, from: &From<'_>, empty: &Path) -> Result<PathBuf, StepError> {
    let root = Root::open(directory)?;
    let ownership = match from {
        From::Context(_) => Ownership::Set(Owner::ROOT),
        From::Layers { .. } => Ownership::Keep,
    };
    let times = CopyTimes::Keep { latest: None };
    let look = Look { ownership, chmod: Chmod::Keep, times, extended: true, existing: Existing::Overwrite };
    let mut copied = directory.join("tree");
    source::each_source(path, from, empty, &mut |found| {
        let mut draft = Draft::new(&root, EPOCH);
        if matches!(found.entry.content, Content::Directory(_)) {
            draft.place(&found.directory, found.entry, b"tree", b"/tree/", &look)?;
        } else {
            copied = directory.join("file");
            draft.place(&found.directory, found.entry, b"file", b"/file", &look)?;
        }
        Ok(tree::write_tree(draft, root.descriptor())?)
    })?;
    Ok(copied)
}
