//! Makes what is to be mounted ready, for as long as the command runs.

use super::bind::{Bind, bind};
use super::{Access, Mount};
use crate::builder::cache_mount::{CacheMounts, Claim, Wish};
use crate::builder::error::StepError;
use crate::builder::given::Given;
use crate::builder::ssh::Socket;
use crate::builder::step::source::{self, Found, From};
use crate::builder::tree::{self, Chmod, Content, CopyTimes, Draft, Existing, Look, Owner, Ownership, Root};
use crate::container::config::MountConfig;
use crate::image::layer::pack::EPOCH;
use crate::store::{FileError, Scratch};
use rustix::fs::{Gid, Mode, Uid};
use spec::value::Digest;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What holds mounts in place while a command runs.
#[derive(Default)]
pub(crate) struct Held {
    /// For the container.
    pub mounts: Vec<MountConfig>,
    /// Secrets that are variables; they win over others of the same name.
    pub variables: BTreeMap<String, String>,
    /// Where the first agent's socket is, or would be: as in BuildKit, also if no agent was given.
    pub agent: Option<String>,
    _claims: BTreeMap<String, Claim>,
    _open: Vec<OwnedFd>,
    _sockets: Vec<Socket>,
}

/// What mounts are made ready with.
pub(crate) struct Means<'a> {
    /// Caches by name.
    pub caches: &'a CacheMounts,
    /// Values given with the build.
    pub given: &'a Given,
    /// The step's own directory.
    pub scratch: &'a Scratch,
    /// The same in memory, for what must not reach a disk.
    pub memory: &'a Scratch,
    /// An empty directory.
    pub empty: &'a Path,
    /// Whether the step is still wanted.
    pub is_wanted: &'a dyn Fn() -> bool,
}

/// Makes mounts ready; `sources` are what they take from, one for one.
pub(crate) fn hold(mounts: &[Mount], sources: &[From<'_>], means: &Means<'_>) -> Result<Held, StepError> {
    let mut held = Held { _claims: claims(mounts, sources, means)?, ..Held::default() };
    for (index, (mount, from)) in mounts.iter().zip(sources).enumerate() {
        let mount = match mount {
            // Unlike a container's: builds unpack programs there and run them.
            Mount::Tmpfs { target, size, writable: true } => {
                Some(MountConfig::Tmpfs { target: target.clone(), size: *size, mode: 0o1777, executable: true })
            }
            Mount::Tmpfs { target, writable: false, .. } => {
                let source = means.empty.to_owned();
                Some(MountConfig::Bind { source, target: target.clone(), read_only: true, copy_up: false })
            }
            Mount::Cache { target, id, writable, .. } => {
                let source = held._claims[id].directory().to_owned();
                Some(MountConfig::Bind { source, target: target.clone(), read_only: !writable, copy_up: false })
            }
            Mount::Bind { target, source, writable, .. } => {
                let directory = means.scratch.subdirectory(&format!("mount-{index}"))?;
                let (mount, open) = bind(Bind { target, source, writable: *writable }, from, &directory, means)?;
                held._open.extend(open);
                Some(mount)
            }
            Mount::Secret { id, target, variable, access, required } => match (means.given.secrets.get(id), required) {
                (None, false) => {
                    held.variables.extend(variable.clone().map(|variable| (variable, String::new())));
                    None
                }
                (None, true) => return Err(StepError::NotGiven { what: "secret", id: id.clone(), option: "--secret" }),
                (Some(secret), _) => {
                    if let Some(variable) = variable {
                        let text = std::str::from_utf8(secret.bytes());
                        let text = text.map_err(|_| StepError::Invalid(format!("secret {id} is not UTF-8: it cannot be a variable")))?;
                        held.variables.insert(variable.clone(), text.to_owned());
                    }
                    let bind = |target: &spec::value::MountTarget| {
                        let source = secret_file(&means.memory.path().join(format!("secret-{index}")), secret.bytes(), *access)?;
                        Ok::<_, StepError>(MountConfig::Bind { source, target: target.clone(), read_only: true, copy_up: false })
                    };
                    target.as_ref().map(bind).transpose()?
                }
            },
            Mount::Ssh { id, target, access, required } => match (means.given.agents.get(id), required) {
                (None, false) => {
                    held.agent.get_or_insert_with(|| target.to_string());
                    None
                }
                (None, true) => return Err(StepError::NotGiven { what: "ssh agent", id: id.clone(), option: "--ssh" }),
                (Some(agent), _) => {
                    let access = (access.mode, access.owner.user, access.owner.group);
                    let socket = Socket::open(means.memory.path(), &format!("ssh-{index}"), agent.clone(), access)?;
                    let source = socket.path().to_owned();
                    held._sockets.push(socket);
                    held.agent.get_or_insert_with(|| target.to_string());
                    Some(MountConfig::Bind { source, target: target.clone(), read_only: false, copy_up: false })
                }
            },
        };
        held.mounts.extend(mount);
    }
    Ok(held)
}

/// Claims each cache once, in the order of their ids: two commands that want the same two never wait for each other.
fn claims(mounts: &[Mount], sources: &[From<'_>], means: &Means<'_>) -> Result<BTreeMap<String, Claim>, StepError> {
    let mut wanted = BTreeMap::new();
    for (mount, from) in mounts.iter().zip(sources) {
        if let Mount::Cache { id, access, sharing, from: begins, source, .. } = mount {
            let base = begins.as_ref().map(|_| (source, from));
            wanted.entry(id.clone()).or_insert((*access, *sharing, base));
        }
    }
    let mut claims = BTreeMap::new();
    for (id, (access, sharing, base)) in wanted {
        let variant = base.map(|(source, from)| variant(source, from));
        let wish = Wish { id: &id, variant: variant.as_ref(), sharing, is_wanted: means.is_wanted };
        let claim = means.caches.claim(wish, &mut |directory| {
            if let Some((source, from)) = base {
                copy_into(directory, source, from, means.empty)?;
            }
            give(directory, access).map_err(StepError::from)
        })?;
        claims.insert(id, claim);
    }
    Ok(claims)
}

/// What a cache that begins with something begins with: another content is another cache.
fn variant(source: &str, from: &From<'_>) -> Digest {
    let mut text = source.to_owned();
    match from {
        From::Context(_) => {}
        From::Layers { diff_ids, .. } => diff_ids.iter().for_each(|id| text.push_str(&format!("\n{id}"))),
    }
    Digest::of(text.as_bytes())
}

/// Writes a secret where only the container will see it.
fn secret_file(path: &Path, bytes: &[u8], access: Access) -> Result<PathBuf, FileError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(FileError::of("create", path))?;
    file.write_all(bytes).map_err(FileError::of("write", path))?;
    give(path, access)?;
    Ok(path.to_owned())
}

fn give(path: &Path, access: Access) -> Result<(), FileError> {
    let Access { mode, owner } = access;
    rustix::fs::chown(path, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group))).map_err(FileError::of("chown", path))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(FileError::of("chmod", path))
}

/// Copies what is to be bound; the path of the copy.
pub(super) fn copy(directory: &Path, found: Found, from: &From<'_>) -> Result<PathBuf, StepError> {
    let root = Root::open(directory)?;
    let mut draft = Draft::new(&root, EPOCH);
    let name = if matches!(found.entry.content, Content::Directory(_)) { "tree" } else { "file" };
    let target = if name == "tree" { "/tree/" } else { "/file" };
    draft.place(&found.directory, found.entry, name.as_bytes(), target.as_bytes(), &look(from))?;
    tree::write_tree(draft, root.descriptor())?;
    Ok(directory.join(name))
}

/// Copies a directory's content.
fn copy_into(directory: &Path, path: &str, from: &From<'_>, empty: &Path) -> Result<(), StepError> {
    let root = Root::open(directory)?;
    source::each_source(path, from, empty, &mut |found| {
        if !matches!(found.entry.content, Content::Directory(_)) {
            return Err(StepError::Invalid(format!("a cache cannot begin with {path}: it is no directory")));
        }
        let mut draft = Draft::new(&root, EPOCH);
        draft.place(&found.directory, found.entry, b"", b"/", &look(from))?;
        Ok(tree::write_tree(draft, root.descriptor())?)
    })
}

fn look(from: &From<'_>) -> Look {
    let ownership = match from {
        From::Context(_) => Ownership::Set(Owner::ROOT),
        From::Layers { .. } => Ownership::Keep,
    };
    Look { ownership, chmod: Chmod::Keep, times: CopyTimes::Keep { latest: None }, extended: true, existing: Existing::Overwrite }
}
