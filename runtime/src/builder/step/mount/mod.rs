//! `RUN --mount`: what a command finds besides its image, and what is not part of the layer.
//!
//! tmpfs: memory. cache: a directory that stays, shared by all builds of the store under its id (`builder::cache_mount`). bind: what the
//! context, a stage or an image has (`bind`); what is written there goes with the command. secret: a value given with the build, as a file
//! or a variable. ssh: a socket behind which an agent or keys given with the build answer (`builder::ssh`). Neither value nor key is part
//! of a layer, a history, a cache key or a log.

mod bind;
mod hold;
mod options;

pub(crate) use hold::{Means, hold};
pub(crate) use options::parse;

use super::source::{self, From, Identity};
use crate::builder::cache::KeyBuilder;
use crate::builder::cache_mount::Sharing;
use crate::builder::error::StepError;
use crate::builder::tree::Owner;
use spec::value::{ByteSize, MountTarget};
use std::fmt;

/// A mount as asked for, its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Memory.
    Tmpfs {
        /// Where.
        target: MountTarget,
        /// Most it holds.
        size: Option<ByteSize>,
        /// Whether the command may write.
        writable: bool,
    },
    /// A directory that stays.
    Cache {
        /// Where.
        target: MountTarget,
        /// Its name among all builds.
        id: String,
        /// Bits and owner it is made with.
        access: Access,
        /// Whether two commands may have it at once.
        sharing: Sharing,
        /// Stage or image that it begins as a copy of; empty if `None`.
        from: Option<String>,
        /// Path there.
        source: String,
        /// Whether the command may write.
        writable: bool,
    },
    /// Something that is there.
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
    /// A value given with the build.
    Secret {
        /// Which.
        id: String,
        /// The file that holds it, if any.
        target: Option<MountTarget>,
        /// The variable that holds it, if any.
        variable: Option<String>,
        /// Bits and owner of the file.
        access: Access,
        /// Whether it is an error that there is none.
        required: bool,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Which of those given with the build.
        id: String,
        /// Where.
        target: MountTarget,
        /// Bits and owner of the socket.
        access: Access,
        /// Whether it is an error that there is none.
        required: bool,
    },
}

/// Who may do what with a mount's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: Owner,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:o} {}:{}", self.mode, self.owner.user, self.owner.group)
    }
}

impl Mount {
    /// The stage or image it takes from.
    pub(crate) fn from(&self) -> Option<&str> {
        match self {
            Self::Bind { from, .. } | Self::Cache { from, .. } => from.as_deref(),
            Self::Tmpfs { .. } | Self::Secret { .. } | Self::Ssh { .. } => None,
        }
    }

    /// Whether it shows a part of layers: one that may be the same in others.
    pub(crate) fn shows_part_of_layers(&self, from: &From<'_>) -> bool {
        matches!((self, from), (Self::Bind { source, .. }, From::Layers { .. }) if !source::is_whole(source))
    }

    /// Whether it shows files that may change meanwhile.
    pub(crate) fn shows_context(&self, from: &From<'_>) -> bool {
        matches!((self, from), (Self::Bind { .. }, From::Context(_)))
    }

    /// Where it appears, if it is a file or directory.
    pub(crate) fn target(&self) -> Option<&MountTarget> {
        match self {
            Self::Tmpfs { target, .. } | Self::Cache { target, .. } | Self::Bind { target, .. } | Self::Ssh { target, .. } => Some(target),
            Self::Secret { target, .. } => target.as_ref(),
        }
    }
}

/// What of a mount decides the result: where it is, and of a bind what is there. Never which cache it is and what that holds, nor the
/// value of a secret.
pub(crate) fn key(key: &mut KeyBuilder, mount: &Mount, from: &From<'_>, identity: Identity<'_>) -> Result<(), StepError> {
    match mount {
        Mount::Tmpfs { target, .. } => key.text("tmpfs").text(target.as_str()),
        Mount::Cache { target, .. } => key.text("cache").text(target.as_str()),
        Mount::Secret { id, target, variable, access, required } => {
            key.text("secret").text(id).text(target.as_ref().map_or("", MountTarget::as_str)).text(variable.as_deref().unwrap_or_default());
            key.text(&access.to_string()).text(need(*required))
        }
        Mount::Ssh { id, target, access, required } => {
            key.text("ssh").text(id).text(target.as_str()).text(&access.to_string()).text(need(*required))
        }
        Mount::Bind { target, source: path, writable, .. } => {
            key.text("bind").text(target.as_str()).text(if *writable { "rw" } else { "ro" });
            source::key_of_path(key, path, from, identity)?;
            key
        }
    };
    Ok(())
}

/// What was done without a value is not what a command that needs it came to.
fn need(required: bool) -> &'static str {
    if required { "required" } else { "" }
}
