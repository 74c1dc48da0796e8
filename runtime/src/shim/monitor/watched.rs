//! A process whose end is waited for: a child of this shim, or one that a predecessor started.

use crate::container::liveness;
use crate::container::state::ProcessRef;
use crate::process::pidfd::{self, ExitStatus};
use spec::value::Signal;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the exit status of a stranger is asked for: its new parent, the host's init, reaps it at once.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// Between two askings.
const STATUS_PAUSE: Duration = Duration::from_millis(10);

/// The process.
#[derive(Debug)]
pub(super) struct Watched {
    process: ProcessRef,
    relation: Relation,
}

#[derive(Debug)]
enum Relation {
    Child {
        pidfd: OwnedFd,
    },
    Stranger {
        pidfd: OwnedFd,
        ended: Option<Ended>,
    },
    /// It was gone before anybody could open it.
    Gone,
}

/// A stranger that has ended and whose status is not known yet.
#[derive(Debug)]
struct Ended {
    give_up: Instant,
    ask_again: Instant,
}

/// How a process ended, as far as can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Known(ExitStatus),
    Unknown,
}

impl Watched {
    /// A process this shim has started.
    pub(super) fn child(process: ProcessRef, pidfd: OwnedFd) -> Self {
        Self { process, relation: Relation::Child { pidfd } }
    }

    /// A process that a predecessor started.
    pub(super) fn stranger(process: ProcessRef) -> io::Result<Self> {
        let relation = match pidfd::open(process)? {
            Some(pidfd) => Relation::Stranger { pidfd, ended: None },
            None => Relation::Gone,
        };
        Ok(Self { process, relation })
    }

    pub(super) fn reference(&self) -> ProcessRef {
        self.process
    }

    /// Readable when it has ended; `None` when there is nothing to poll.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.relation {
            Relation::Child { pidfd } | Relation::Stranger { pidfd, ended: None } => Some(pidfd.as_fd()),
            Relation::Stranger { ended: Some(_), .. } | Relation::Gone => None,
        }
    }

    /// When [`Watched::outcome`] is to be asked without the descriptor.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.relation {
            Relation::Child { .. } | Relation::Stranger { ended: None, .. } => None,
            Relation::Stranger { ended: Some(ended), .. } => Some(ended.ask_again),
            Relation::Gone => Some(now),
        }
    }

    /// How it ended; `None` while it runs, or while that may yet become known.
    pub(super) fn outcome(&mut self, now: Instant) -> io::Result<Option<Outcome>> {
        match &mut self.relation {
            Relation::Child { pidfd } => Ok(pidfd::reap(pidfd.as_fd())?.map(Outcome::Known)),
            Relation::Gone => Ok(Some(Outcome::Unknown)),
            Relation::Stranger { pidfd, ended } => {
                if ended.is_none() && !pidfd::wait(pidfd.as_fd(), Some(Duration::ZERO))? {
                    return Ok(None);
                }
                if let Some(status) = pidfd::exit_status_of_stranger(pidfd.as_fd())? {
                    return Ok(Some(Outcome::Known(status)));
                }
                // Not reaped yet: /proc still knows it.
                if let Some(status) = liveness::wait_status_of_zombie(self.process) {
                    return Ok(Some(Outcome::Known(ExitStatus::from_wait_status(status))));
                }
                let give_up = ended.as_ref().map_or(now + STATUS_PATIENCE, |ended| ended.give_up);
                *ended = Some(Ended { give_up, ask_again: now + STATUS_PAUSE });
                Ok((now >= give_up).then_some(Outcome::Unknown))
            }
        }
    }

    /// Sends a signal; fine if it has ended.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.relation {
            Relation::Child { pidfd } | Relation::Stranger { pidfd, .. } => pidfd::send_signal(pidfd.as_fd(), signal),
            Relation::Gone => Ok(()),
        }
    }
}
