//! A visit to another namespace for the length of one clone: what is born there stays there, the visitor comes back.

use super::error::{During, StartError, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};
use std::path::Path;

/// Remembers the way home.
#[derive(Debug)]
#[must_use = "a visit that is not left never ends"]
pub(super) struct Visit {
    home: OwnedFd,
    kind: LinkNameSpaceType,
}

impl Visit {
    /// Enters the network namespace pinned at `path`, opened by the caller.
    pub(super) fn network(namespace: BorrowedFd<'_>, path: &Path) -> Result<Self, StartError> {
        let visit = Self { home: open("/proc/self/ns/net")?, kind: LinkNameSpaceType::Network };
        move_into_link_name_space(namespace, Some(visit.kind)).during(Step::EnterNamespace, path.display())?;
        Ok(visit)
    }

    /// Lets children be born in the pid namespace of another process; the caller's own pid does not change.
    pub(super) fn pids_of(process: BorrowedFd<'_>) -> Result<Self, StartError> {
        let visit = Self { home: open("/proc/self/ns/pid")?, kind: LinkNameSpaceType::ProcessID };
        move_into_thread_name_spaces(process, ThreadNameSpaceType::PROCESS_ID).during(Step::EnterNamespace, "pid")?;
        Ok(visit)
    }

    /// Comes back. If even that fails, the process is lost in the wrong namespace and should end.
    pub(super) fn leave(self) -> Result<(), StartError> {
        move_into_link_name_space(self.home.as_fd(), Some(self.kind)).during(Step::EnterNamespace, "back")
    }
}

fn open(path: &str) -> Result<OwnedFd, StartError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(Step::EnterNamespace, path)
}
