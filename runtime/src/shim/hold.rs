//! `container-shim hold`: holds the master side of a container's terminal beside its shim, and does nothing else. The kernel hangs up
//! on a terminal when the last holder of that side ends (pty(7)): with two, a killed shim is no killed container. The next shim
//! takes it from here by pidfd_getfd(2), without a word between them.

use crate::console;
use crate::container::ContainerError;
use crate::container::file::{self, Lasting};
use crate::container::liveness;
use crate::container::state::ProcessRef;
use crate::process::{TerminalSize, pidfd};
use crate::sys;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use spec::value::ContainerId;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The file in the run directory that says who holds it.
const RECORD: &str = "terminal.json";

/// What it holds: its standard input, where nothing else would be in its way.
const MASTER: i32 = 0;

/// Waits until the process whose pidfd is our standard output has ended.
pub fn hold() -> i32 {
    // There is nothing more to do: what that does not need is given back.
    let _ = sys::forget_program();
    sys::trim_heap();
    loop {
        match rustix::event::poll(&mut [PollFd::new(&io::stdout(), PollFlags::IN)], None) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return 0,
            Err(_) => return super::CODE_OURS,
        }
    }
}

/// The one who holds a terminal for a shim. Dropped with the terminal, which ends it.
#[derive(Debug)]
pub(super) struct Holder(Child);

impl Holder {
    /// Has the terminal of this process held, and notes who does. It goes by the container's name in lists of processes.
    pub(super) fn start(run: &Path, id: &ContainerId, master: BorrowedFd<'_>, process: BorrowedFd<'_>) -> Result<Self, ContainerError> {
        let path = Path::new("/proc/self/exe");
        let unusable = |source| ContainerError::ShimUnusable { path: path.to_owned(), source };
        let (master, process) = (master.try_clone_to_owned().map_err(unusable)?, process.try_clone_to_owned().map_err(unusable)?);
        let mut command = Command::new(path);
        command.args(["hold", &id.to_string()]).env_clear().stdin(master).stdout(process).stderr(Stdio::null());
        let holder = Self(command.spawn().map_err(unusable)?);
        let reference = i32::try_from(holder.0.id()).ok().and_then(liveness::reference);
        let reference = reference.ok_or_else(|| unusable(io::ErrorKind::NotFound.into()))?;
        file::write(&run.join(RECORD), &reference, Lasting::Passing)?;
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended with the container already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The terminal that is held for a container whose shim died, and its size; `None` if nobody holds one.
pub(super) fn take_over(run: &Path) -> Result<Option<(OwnedFd, TerminalSize)>, ContainerError> {
    let path = run.join(RECORD);
    let Some(holder) = file::read::<ProcessRef>(&path)? else { return Ok(None) };
    let taken = || -> io::Result<Option<(OwnedFd, TerminalSize)>> {
        let Some(holder) = pidfd::open(holder)? else { return Ok(None) };
        let master = pidfd_getfd(holder, MASTER, PidfdGetfdFlags::empty())?;
        let size = console::size_of(&master);
        Ok(Some((master, size)))
    };
    taken().map_err(ContainerError::file("take the terminal held by", path))
}
