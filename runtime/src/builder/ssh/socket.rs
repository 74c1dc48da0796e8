//! The socket of one step: listened to as long as it is held.

use super::SshAgent;
use crate::store::FileError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::fs;
use std::io::{self, PipeWriter};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Most connections at once: a command that fetches has a few.
const CONNECTIONS_MAX: usize = 32;

/// A socket behind which an agent answers.
pub(crate) struct Socket {
    path: PathBuf,
    /// Closed, it ends the thread.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Socket {
    /// Makes it in a directory that nobody else looks into. Connections that are open when it is dropped end with their clients.
    pub(crate) fn open(directory: &Path, name: &str, agent: SshAgent, access: (u32, u32, u32)) -> Result<Self, FileError> {
        let path = directory.join(name);
        let failed = |operation| FileError::of::<io::Error>(operation, &path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty()).map_err(FileError::of("open", directory))?;
        // By descriptor: the path of a socket has 108 bytes at most, unix(7).
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd())).map_err(failed("listen at"))?;
        listener.set_nonblocking(true).map_err(failed("listen at"))?;
        let (mode, user, group) = access;
        rustix::fs::chown(&path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(FileError::of("chown", &path))?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).map_err(FileError::of("chmod", &path))?;
        let (ended, end) = io::pipe().map_err(failed("listen at"))?;
        let serve = move || {
            let agent = Arc::new(agent);
            let open = Arc::new(AtomicUsize::new(0));
            loop {
                let mut waiting = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
                let result = poll(&mut waiting, None);
                if !waiting[1].revents().is_empty() || result.is_err_and(|error| error != rustix::io::Errno::INTR) {
                    return;
                }
                let Ok((client, _)) = listener.accept() else { continue };
                if client.set_nonblocking(false).is_err() || open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
                    continue;
                }
                open.fetch_add(1, Ordering::Relaxed);
                let (agent, open) = (Arc::clone(&agent), Arc::clone(&open));
                std::thread::spawn(move || {
                    // What goes wrong is told to the client by the end of its connection.
                    let _ = agent.serve(client);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        };
        let thread = std::thread::Builder::new().name("ssh-agent".to_owned()).spawn(serve).map_err(failed("listen at"))?;
        Ok(Self { path, end: Some(end), thread: Some(thread) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}
