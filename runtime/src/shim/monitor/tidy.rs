//! After the last exit: what the kernel keeps for the container goes, its state stays.

use super::Monitor;
use crate::container::file::{self, Lasting};
use crate::container::list::LAST_EXIT;
use crate::container::state::Phase;
use crate::container::transient;
use crate::places::Places;
use crate::shim::protocol::Reply;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use spec::value::ContainerId;
use std::io;
use std::time::Instant;

impl Monitor {
    /// Tidies up, then publishes the exit and answers everybody: whoever learns of it finds nothing left. Has it removed, if it goes
    /// with its end.
    pub(super) fn finish(mut self) {
        self.drain();
        // Its sockets hold the namespace.
        self.dns = None;
        if let Err(error) = self.cgroup.kill_all().and_then(|()| self.cgroup.remove()) {
            self.note("remove control group", &error);
        }
        if let Err(error) = release_namespace(&self.ground.places, &self.ground.id) {
            self.note("release network namespace", &error);
        }
        self.remember_exit();
        self.publish();
        let now = Instant::now();
        for (asker, request) in self.control.turn(now) {
            self.serve(asker, request, now);
        }
        self.logs.bench.audience.dismiss(&Reply::State { state: self.state() });
        self.control.settle(&self.state(), self.starts, now);
        if let Err(error) = transient::send_remover(&self.ground.places, &self.ground.id) {
            self.note("have it removed", &error);
        }
    }
}

impl Monitor {
    /// What must be known after a boot too: a job that is done is not run again.
    fn remember_exit(&mut self) {
        let Phase::Exited { exit } = self.state().phase else { return };
        let path = self.ground.places.container(&self.ground.id).join(LAST_EXIT);
        if let Err(error) = file::write(&path, &exit, Lasting::Passing) {
            self.note("remember the exit", &error);
        }
    }
}

/// Unpins the container's network namespace, which ends with its last user. Fine if there is none.
pub(crate) fn release_namespace(places: &Places, id: &ContainerId) -> io::Result<()> {
    let path = places.container_run(id).join("netns");
    loop {
        match rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It may have been pinned twice by an interrupted start.
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
