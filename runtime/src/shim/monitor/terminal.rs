//! The master side of a container's terminal. Its output takes the way of any other output, by the pipe `stdout` to log and clients;
//! what clients type goes straight in.

use crate::console;
use crate::process::TerminalSize;
use crate::shim::hold::Holder;
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Most that is read at once: the kernel hands out no more, and a pipe that is ready takes it whole (pipe(7), PIPE_BUF).
const CHUNK_BYTES: usize = 4096;
/// How long a terminal that nobody in the container has open is left alone: poll(2) would report it all the time.
const CLOSED_PAUSE: Duration = Duration::from_millis(100);

/// The terminal.
pub(super) struct Terminal {
    master: OwnedFd,
    /// On its way to the container: what it does not read is not read from the clients either.
    typed: Vec<u8>,
    /// Nobody has it open; it is looked at again then.
    closed_until: Option<Instant>,
    /// Who keeps it alive should we be killed; `None` if nobody could be found, or a predecessor's does.
    _holder: Option<Holder>,
}

impl Terminal {
    pub(super) fn new(master: OwnedFd, holder: Option<Holder>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master, typed: Vec::new(), closed_until: None, _holder: holder })
    }

    /// What to wait for. Output is of interest only while somebody can take it.
    pub(super) fn descriptor(&self, output: Output) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let read = if output == Output::Wanted { PollFlags::IN } else { PollFlags::empty() };
        let write = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let events = read | write;
        // Without events it is not polled at all: its hanging up would be reported for ever.
        (self.closed_until.is_none() && !events.is_empty()).then(|| (self.master.as_fd(), events))
    }

    /// When it is to be looked at without the descriptor.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.closed_until
    }

    /// Whether there is room for more to be typed.
    pub(super) fn is_idle(&self) -> bool {
        self.typed.is_empty()
    }

    /// Types something; it goes in as the container takes it.
    pub(super) fn type_in(&mut self, bytes: &[u8]) {
        self.typed.extend_from_slice(bytes);
        self.push();
    }

    /// As much of what was typed as goes in now.
    pub(super) fn push(&mut self) {
        while !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => self.typed.clear(),
            }
        }
        self.typed = Vec::new();
    }

    /// One piece of output; `None` at its end for now.
    pub(super) fn read(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut buffer = [0; CHUNK_BYTES];
        self.closed_until = None;
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(length) if length > 0 => Some(buffer[..length].to_vec()),
            Err(Errno::AGAIN | Errno::INTR) => None,
            // EIO: whoever had it open last has closed it. Another one may open it again.
            Ok(_) | Err(_) => {
                self.closed_until = Some(now + CLOSED_PAUSE);
                None
            }
        }
    }

    /// Gives it a size; the container is told by SIGWINCH.
    pub(super) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        console::set_size(&self.master, size)
    }
}

/// Whether output can be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Wanted,
    Held,
}
