//! Ending everything in a group at once, so that nothing can fork away.

use super::{Cgroup, CgroupError, POLL_INTERVAL, read, write};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::Duration;

/// How long processes are given to die of SIGKILL; only one that hangs in the kernel needs more.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Sends SIGKILL to every process in it and waits until none is left. Fine if it does not exist.
    ///
    /// Errors: [`CgroupError::StillBusy`] after ten seconds.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        let directories: Vec<_> = self.layout.hierarchies().map(|hierarchy| hierarchy.mount.join(&self.path)).collect();
        let Some(counted) = directories.iter().find(|directory| directory.is_dir()) else { return Ok(()) };
        let killer = self.layout.unified().map(|hierarchy| hierarchy.mount.join(&self.path).join("cgroup.kill"));
        let mut waited = Duration::ZERO;
        loop {
            let left = processes(counted)?;
            if left.is_empty() {
                return Ok(());
            }
            match &killer {
                Some(killer) if killer.exists() => write(killer, "1")?,
                Some(_) | None => self.kill_frozen(counted)?,
            }
            if waited >= KILL_PATIENCE {
                return Err(CgroupError::StillBusy { path: counted.clone() });
            }
            std::thread::sleep(POLL_INTERVAL);
            waited += POLL_INTERVAL;
        }
    }

    /// Without `cgroup.kill` (v1, or a kernel before 5.14): frozen processes cannot fork while they are signalled one by one.
    fn kill_frozen(&self, directory: &Path) -> Result<(), CgroupError> {
        let freezer = self.directory("freezer").map(|at| at.join("freezer.state"));
        if let Some(freezer) = &freezer {
            write(freezer, "FROZEN")?;
        }
        for pid in processes(directory)? {
            if let Some(pid) = Pid::from_raw(pid) {
                // Already dead is what we want; the loop above looks again.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        freezer.map_or(Ok(()), |freezer| write(&freezer, "THAWED"))
    }
}

/// The processes of a group and of groups that were made inside it.
pub(super) fn processes(directory: &Path) -> Result<Vec<i32>, CgroupError> {
    let text = match read(&directory.join("cgroup.procs")) {
        Ok(text) => text,
        Err(CgroupError::Read { source, .. }) if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let children = std::fs::read_dir(directory).map_err(|source| CgroupError::Read { path: directory.to_owned(), source })?;
    for child in children.flatten().filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
        pids.extend(processes(&child.path())?);
    }
    Ok(pids)
}
