//! Holding still all processes of a group: what they have written can be copied whole.

use super::{Cgroup, CgroupError, POLL_INTERVAL, read, write};
use std::path::PathBuf;
use std::time::Duration;

/// How long processes are given to stand still; only one in the middle of a long system call needs more than a moment.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Stops every process in it from running until [`Self::thaw`]. On failure they run.
    ///
    /// Errors: [`CgroupError::StillBusy`] after ten seconds, and where the host has no freezer.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let Some(freezer) = self.freezer() else { return Err(CgroupError::StillBusy { path: self.path.clone() }) };
        write(&freezer.switch, freezer.on)?;
        let mut waited = Duration::ZERO;
        while !read(&freezer.state)?.lines().any(|line| line.trim() == freezer.frozen) {
            if waited >= FREEZE_PATIENCE {
                self.thaw()?;
                return Err(CgroupError::StillBusy { path: freezer.switch });
            }
            std::thread::sleep(POLL_INTERVAL);
            waited += POLL_INTERVAL;
        }
        Ok(())
    }

    /// Lets them run again. Fine if they do, or if the group is gone.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match self.freezer() {
            Some(freezer) if freezer.switch.exists() => write(&freezer.switch, freezer.off),
            Some(_) | None => Ok(()),
        }
    }

    fn freezer(&self) -> Option<Freezer> {
        // cgroup v1, freezer-subsystem.rst.
        if let Some(directory) = self.directory("freezer") {
            let switch = directory.join("freezer.state");
            if switch.exists() {
                return Some(Freezer { state: switch.clone(), switch, on: "FROZEN", off: "THAWED", frozen: "FROZEN" });
            }
        }
        // cgroup v2, "cgroup.freeze".
        let directory = self.layout.unified()?.mount.join(&self.path);
        Some(Freezer {
            switch: directory.join("cgroup.freeze"),
            state: directory.join("cgroup.events"),
            on: "1",
            off: "0",
            frozen: "frozen 1",
        })
    }
}

/// The files by which a group is held still.
struct Freezer {
    switch: PathBuf,
    state: PathBuf,
    on: &'static str,
    off: &'static str,
    /// The line of `state` that says so.
    frozen: &'static str,
}
