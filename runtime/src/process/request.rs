//! What a start and an exec are asked for, and what comes back.

use crate::cgroup::Cgroup;
use crate::container::config::{ContainerConfig, IdMapping, Rlimit, SeccompProfile};
use crate::container::state::ProcessRef;
use rustix::fd::{BorrowedFd, OwnedFd};
use serde::{Deserialize, Serialize};
use spec::value::{Capability, UserSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Everything the first process of a container needs.
#[derive(Debug)]
pub struct StartRequest<'a> {
    /// What it is.
    pub config: &'a ContainerConfig,
    /// Its lasting directory: `upper/` and `work/` (made if absent) and the generated `hosts`, `hostname` and `resolv.conf`.
    pub directory: &'a Path,
    /// Its control group; made and limited by the start if that has not happened yet.
    pub cgroup: &'a Cgroup,
    /// The pinned namespace file to join; needed with `NetworkConfig::Bridged`, ignored with the others.
    pub network_namespace: Option<&'a Path>,
    /// What it reads and writes.
    pub stdio: Stdio<'a>,
}

/// Everything one more process in a running container needs.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The container's first process.
    pub target: ProcessRef,
    /// The container's control group.
    pub cgroup: &'a Cgroup,
    /// Whether the container has a user namespace of its own.
    pub user_namespace: Option<IdMapping>,
    /// Program and arguments; never empty. The program is looked up in `PATH` of `env`.
    pub args: &'a [String],
    /// The whole environment; `PATH` and `HOME` are completed where absent.
    pub env: &'a BTreeMap<String, String>,
    /// Working directory inside; it must exist.
    pub working_dir: &'a str,
    /// User and group, looked up in the container's own files.
    pub user: Option<&'a UserSpec>,
    /// Bounding set, and what root gets. Inheritable and ambient stay empty.
    pub capabilities: &'a BTreeSet<Capability>,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Whether the filter is on.
    pub seccomp: SeccompProfile,
    /// Limits of the process, by name as in `ulimit`'s manual: those of the container.
    pub rlimits: &'a BTreeMap<String, Rlimit>,
    /// What it reads and writes.
    pub stdio: Stdio<'a>,
}

/// Standard input, output and error of a new process.
#[derive(Debug)]
pub enum Stdio<'a> {
    /// Three open files; duplicated, so the caller keeps its own.
    Files {
        /// Standard input.
        stdin: BorrowedFd<'a>,
        /// Standard output.
        stdout: BorrowedFd<'a>,
        /// Standard error.
        stderr: BorrowedFd<'a>,
    },
    /// A new terminal of the container's own devpts, controlling; the other side is [`Started::terminal`].
    Terminal(TerminalSize),
}

/// Rows and columns of a terminal; zero is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// A process that runs the asked program: its exec has succeeded.
#[derive(Debug)]
pub struct Started {
    /// Who it is in the host's pid namespace. It is a child of the caller.
    pub process: ProcessRef,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
}
