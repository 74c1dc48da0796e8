//! A new process and its first moments: cloned, heard until it executes its program or fails, reaped if it fails.

use super::channel::{Channel, Packet};
use super::error::{During, StartError, Step};
use super::pidfd;
use super::request::Started;
use crate::cgroup::Entrance;
use crate::container::state::ProcessRef;
use crate::sys::{self, Forked, Namespaces};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, Signal, pidfd_send_signal};
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A process between clone and exec.
#[derive(Debug)]
pub(super) struct Embryo {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: Channel,
}

/// Clones a process into `namespaces` and the group, and runs `child` in it, which ends in exec or an error.
pub(super) fn spawn(
    namespaces: Namespaces,
    entrance: &Entrance,
    child: impl FnOnce(&Channel) -> Result<Infallible, StartError>,
) -> Result<Embryo, StartError> {
    let (channel, theirs) = Channel::pair().during(Step::Handshake, "")?;
    match sys::clone3(namespaces, entrance.unified.as_ref().map(AsFd::as_fd)).during(Step::Clone, "")? {
        Forked::Parent { pid, pidfd } => Ok(Embryo { pid, pidfd, channel }),
        Forked::Child => {
            drop(channel);
            // A panic must not unwind into the parent's code, of which we are a copy.
            let outcome = catch_unwind(AssertUnwindSafe(|| entrance.enter_tasks().during(Step::Cgroup, "").and_then(|()| child(&theirs))));
            if let Ok(Err(error)) = outcome {
                // Nobody to tell it to if this fails; the silence itself is an error on the other side.
                let _ = theirs.send(&Packet::Failed(error));
            }
            sys::exit_now(1)
        }
    }
}

impl Embryo {
    /// Waits until the program runs.
    pub(super) fn follow(self) -> Result<Started, StartError> {
        let mut terminal = None;
        let mut is_ready = false;
        loop {
            match self.channel.receive().during(Step::Handshake, "") {
                Ok(Some(Packet::Terminal(master))) => terminal = Some(master),
                Ok(Some(Packet::Ready)) => is_ready = true,
                Ok(Some(Packet::Failed(error))) | Err(error) => return Err(self.abandon(error)),
                Ok(Some(Packet::Descriptors(_))) => return Err(self.abandon(silent("sent what nobody asked for"))),
                // Closed by the exec.
                Ok(None) if is_ready => break,
                Ok(None) => return Err(self.abandon(silent("ended without a word: it was killed"))),
            }
        }
        let pid = self.pid.as_raw_nonzero().get();
        // Not reaped by anybody but us, so the number is still its own.
        let start_time = pidfd::start_time(pid).during(Step::Handshake, pid)?.unwrap_or_default();
        Ok(Started { process: ProcessRef { pid, start_time }, pidfd: self.pidfd, terminal })
    }

    /// Ends and reaps it, and hands the reason on.
    pub(super) fn abandon(self, error: StartError) -> StartError {
        // Already ended is what we want; and there is nothing better to report than the first error.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = pidfd::wait(self.pidfd.as_fd(), None).and_then(|_| pidfd::reap(self.pidfd.as_fd()));
        error
    }
}

fn silent(what: &str) -> StartError {
    StartError { step: Step::Handshake, object: String::new(), source: io::Error::other(format!("it {what}")) }
}
