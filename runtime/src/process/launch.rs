//! The last steps of a start and of an exec: from root inside the container to the asked program as the asked user.

use super::channel::{Channel, Packet};
use super::error::{During, StartError, Step};
use super::request::{Stdio, TerminalSize};
use super::{environment, limits, user};
use crate::container::config::Rlimit;
use crate::rootfs::{Root, Terminal};
use crate::{capability, console, seccomp, sys};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Gid, Mode, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{fchdir, getcwd, ioctl_tiocsctty, set_parent_process_death_signal};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use spec::value::{Capability, UserSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;

/// A program and all that it is given.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) args: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    /// Completes `HOSTNAME`, where the caller knows it.
    pub(super) hostname: Option<&'a str>,
    pub(super) working_dir: &'a str,
    pub(super) missing_directory: MissingDirectory,
    pub(super) user: Option<&'a UserSpec>,
    pub(super) capabilities: &'a BTreeSet<Capability>,
    pub(super) no_new_privileges: bool,
    pub(super) filter: Option<&'a seccomp::Program>,
    pub(super) rlimits: &'a BTreeMap<String, Rlimit>,
}

/// What becomes of a working directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingDirectory {
    /// It is made, as for a new container.
    Create,
    /// An error, as for an exec.
    Refuse,
}

/// Standard streams, ready to be put in place.
#[derive(Debug)]
pub(super) enum Streams<'a> {
    Files([BorrowedFd<'a>; 3]),
    Terminal { terminal: Terminal, size: TerminalSize },
}

impl<'a> Streams<'a> {
    /// From what was asked and the terminal that was opened for it.
    pub(super) fn new(stdio: &Stdio<'a>, terminal: Option<Terminal>) -> Result<Self, StartError> {
        match (stdio, terminal) {
            (Stdio::Files { stdin, stdout, stderr }, _) => Ok(Self::Files([*stdin, *stdout, *stderr])),
            (Stdio::Terminal(size), Some(terminal)) => Ok(Self::Terminal { terminal, size: *size }),
            (Stdio::Terminal(_), None) => Err(io::Error::from(io::ErrorKind::NotFound)).during(Step::Terminal, ""),
        }
    }
}

/// Becomes the program. The caller is root in the container's namespaces, in a session of its own.
pub(super) fn launch(asked: &Launch<'_>, root: &Root, streams: Streams<'_>, channel: &Channel) -> Result<Infallible, StartError> {
    let identity = user::read(root, asked.user)?;
    let has_terminal = matches!(streams, Streams::Terminal { .. });
    let env = environment::complete(asked.env, &identity.home, asked.hostname, has_terminal);
    let program = environment::Program::new(asked.args, &env).during(Step::Exec, asked.args.first().map_or("", String::as_str))?;
    limits::apply(asked.rlimits)?;
    place_streams(streams, identity.user, channel)?;
    enter_directory(root, asked)?;
    // Whatever was open in the starter, by mistake or not, ends here (CVE-2024-21626).
    sys::close_on_exec_from(3).during(Step::Stdio, "")?;

    capability::limit_bounding_set(asked.capabilities).during(Step::Capabilities, "bounding set")?;
    if asked.no_new_privileges {
        set_no_new_privs(true).during(Step::Capabilities, "no_new_privs")?;
    } else {
        // Without no_new_privs only CAP_SYS_ADMIN may load a filter, so it comes before that is given up; it allows the steps below.
        load(asked.filter)?;
    }
    become_user(&identity, asked.capabilities)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    set_parent_process_death_signal(None).during(Step::Clone, "")?;
    if asked.no_new_privileges {
        load(asked.filter)?;
    }
    channel.send(&Packet::Ready).during(Step::Handshake, "")?;
    execute(&program)
}

/// Becomes user and group 0 of a user namespace, whose ids have just been mapped.
pub(super) fn become_namespace_root() -> Result<(), StartError> {
    set_thread_groups(&[]).during(Step::BecomeUser, "0")?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during(Step::BecomeUser, "0")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during(Step::BecomeUser, "0")
}

fn load(filter: Option<&seccomp::Program>) -> Result<(), StartError> {
    filter.map_or(Ok(()), seccomp::load).during(Step::Seccomp, "")
}

fn become_user(identity: &user::Identity, capabilities: &BTreeSet<Capability>) -> Result<(), StartError> {
    let groups: Vec<Gid> = identity.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    let shown = format!("{}:{}", identity.user, identity.group);
    set_thread_groups(&groups).during(Step::BecomeUser, &shown)?;
    set_thread_res_gid(group, group, group).during(Step::BecomeUser, &shown)?;
    set_thread_res_uid(user, user, user).during(Step::BecomeUser, &shown)?;
    // As Docker: root holds the set, anybody else only its bounds.
    let held = if user.is_root() { capabilities } else { &BTreeSet::new() };
    capability::set_own(held).during(Step::Capabilities, "")
}

/// Enters the working directory and makes sure that it lies inside: the kernel names one that does not "(unreachable)".
fn enter_directory(root: &Root, asked: &Launch<'_>) -> Result<(), StartError> {
    let path = asked.working_dir;
    let enter = || {
        let directory = match (asked.missing_directory, root.open_directory(path)) {
            (MissingDirectory::Create, Err(error)) if error.kind() == io::ErrorKind::NotFound => root.ensure_directory(path)?,
            (MissingDirectory::Create | MissingDirectory::Refuse, opened) => opened?,
        };
        fchdir(directory)?;
        if getcwd(Vec::new())?.as_bytes().first() == Some(&b'/') { Ok(()) } else { Err(io::Error::from(Errno::NOENT)) }
    };
    enter().during(Step::WorkingDirectory, path)
}

fn place_streams(streams: Streams<'_>, user: u32, channel: &Channel) -> Result<(), StartError> {
    let place = |streams: [BorrowedFd<'_>; 3]| -> io::Result<()> {
        // One of them may stand where another goes.
        let [stdin, stdout, stderr] = streams;
        let copies = [above(stdin)?, above(stdout)?, above(stderr)?];
        dup2_stdin(&copies[0])?;
        dup2_stdout(&copies[1])?;
        dup2_stderr(&copies[2])?;
        copies.iter().try_for_each(|copy| give(copy.as_fd(), user))
    };
    match streams {
        Streams::Files(files) => place(files).during(Step::Stdio, ""),
        Streams::Terminal { terminal, size } => {
            let slave = terminal.slave.as_fd();
            console::set_size(slave, size).during(Step::Terminal, "")?;
            ioctl_tiocsctty(slave).during(Step::Terminal, "")?;
            place([slave, slave, slave]).during(Step::Terminal, "")?;
            channel.send(&Packet::Terminal(terminal.master)).during(Step::Terminal, "")
        }
    }
}

fn above(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(file, 3)?)
}

/// Pipes and the container's terminal belong to the user, so that he can open `/dev/stdout` again. Files and terminals of the host do not
/// change hands.
fn give(stream: BorrowedFd<'_>, user: u32) -> io::Result<()> {
    let stat = fstat(stream)?;
    let is_terminal = rustix::termios::isatty(stream) && rustix::fs::major(stat.st_rdev) == 136;
    let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo || is_terminal;
    if !is_ours || stat.st_uid == user {
        return Ok(());
    }
    match fchown(stream, Some(Uid::from_raw(user)), None) {
        // The owner is unknown in this user namespace, or does not want it.
        Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Tries each candidate as execvp(3) does: a missing one is passed over, one that may not be run is remembered.
fn execute(program: &environment::Program) -> Result<Infallible, StartError> {
    let mut reason = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in &program.candidates {
        let error = match sys::execve(candidate, &program.args, &program.env) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if program.candidates.len() > 1 => {}
            Some(libc::EACCES) => reason = error,
            Some(_) | None => {
                reason = error;
                break;
            }
        }
    }
    Err(reason).during(Step::Exec, &program.name)
}
