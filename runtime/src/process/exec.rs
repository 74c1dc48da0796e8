//! One more process in a running container: same namespaces, same group, same filter.
//!
//! The process that enters is a copy of ours until its exec, visible to whoever lives in there. It is undumpable before it enters, so that
//! its memory, descriptors and executable cannot be reached through /proc; and our executable is on a read-only mount
//! ([`super::protect_own_binary`]) should anybody get hold of it all the same (CVE-2019-5736).

use super::channel::Channel;
use super::error::{During, StartError, Step};
use super::launch::{Launch, MissingDirectory, Streams, become_namespace_root, launch};
use super::namespace::Visit;
use super::pidfd;
use super::request::{ExecRequest, Started, Stdio};
use super::spawn::spawn;
use crate::rootfs::{Root, open_terminal};
use crate::seccomp;
use crate::sys::{self, Namespaces};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal, setsid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::convert::Infallible;
use std::io;

/// Starts one more process in a running container and returns once its program runs.
///
/// Errors: [`Step::EnterNamespace`] if the container's process is gone. The caller must have one thread; it is undumpable from now on.
pub fn exec(request: &ExecRequest<'_>) -> Result<Started, StartError> {
    let pid = request.target.pid;
    let target = pidfd::open(request.target).during(Step::EnterNamespace, format_args!("of process {pid}"))?;
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    let target = target.ok_or_else(gone).during(Step::EnterNamespace, format_args!("of process {pid}"))?;
    let entrance = request.cgroup.entrance().map_err(io::Error::other).during(Step::Cgroup, "")?;
    let filter = seccomp::compile(request.seccomp, request.capabilities);
    // Before the clone: the child is seen in the container's /proc from its first moment. It is born undumpable; exec makes it ordinary.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Step::EnterNamespace, "")?;
    let visit = Visit::pids_of(target.as_fd())?;
    let embryo = spawn(Namespaces::NONE, &entrance, |channel| enter(request, target.as_fd(), filter.as_ref(), channel));
    visit.leave()?;
    embryo?.follow()
}

/// The child's side; ends in the program.
fn enter(
    request: &ExecRequest<'_>,
    target: BorrowedFd<'_>,
    filter: Option<&seccomp::Program>,
    channel: &Channel,
) -> Result<Infallible, StartError> {
    sys::reset_signals();
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    if request.user_namespace.is_some() {
        namespaces |= ThreadNameSpaceType::USER;
    }
    move_into_thread_name_spaces(target, namespaces).during(Step::EnterNamespace, format_args!("of process {}", request.target.pid))?;
    if request.user_namespace.is_some() {
        become_namespace_root()?;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).during(Step::Clone, "")?;
    setsid().during(Step::Clone, "session")?;
    // As at the start of a container: nothing to leave, or nothing to fear behind the filter.
    let _ = sys::join_new_session_keyring();
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = Root::new(root.during(Step::EnterNamespace, "/")?);
    let terminal = match request.stdio {
        Stdio::Terminal(_) => Some(open_terminal(&root).during(Step::Terminal, "/dev/pts/ptmx")?),
        Stdio::Files { .. } => None,
    };
    let program = Launch {
        args: request.args,
        env: request.env,
        hostname: None,
        working_dir: request.working_dir,
        missing_directory: MissingDirectory::Refuse,
        user: request.user,
        capabilities: request.capabilities,
        no_new_privileges: request.no_new_privileges,
        filter,
        rlimits: request.rlimits,
    };
    launch(&program, &root, Streams::new(&request.stdio, terminal)?, channel)
}
