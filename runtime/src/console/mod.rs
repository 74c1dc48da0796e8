//! The terminal that the caller of a program sits at: its size, its mode, what is typed there to leave, and the signals that come
//! from it. The other end, a container's own terminal, is the shim's.

pub mod keys;

use crate::process::TerminalSize;
use crate::sys;
use rustix::termios::{OptionalActions, Termios, Winsize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The caller's terminal in raw mode, until dropped: what is typed comes as it is typed, Ctrl-C is a byte like any other.
pub(crate) struct Raw {
    saved: Termios,
}

/// Some signals of this process, to be read from now on. Made before what they are for is started: none is lost.
///
/// For a process with one thread: another one that runs already would still have them delivered.
pub struct Signals(OwnedFd);

impl Signals {
    /// Keeps these from being delivered.
    pub fn catch(numbers: &[i32]) -> io::Result<Self> {
        sys::block_signals(numbers)?;
        Ok(Self(sys::signalfd(numbers)?))
    }

    /// The next one that has come; `None` if there is none.
    pub(crate) fn next(&self) -> Option<i32> {
        // struct signalfd_siginfo of signalfd(2): 128 bytes, the number first.
        let mut info = [0; 128];
        let length = rustix::io::read(&self.0, &mut info).ok()?;
        let number: [u8; 4] = info.get(..4).filter(|_| length == 128)?.try_into().ok()?;
        i32::try_from(u32::from_ne_bytes(number)).ok()
    }
}

impl AsFd for Signals {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The size of the caller's terminal; unknown if standard input and output are none.
pub fn size() -> TerminalSize {
    let stdin = size_of(io::stdin());
    if stdin == TerminalSize::default() { size_of(io::stdout()) } else { stdin }
}

/// The size of a terminal; unknown if it is none.
pub(crate) fn size_of(terminal: impl AsFd) -> TerminalSize {
    let size = rustix::termios::tcgetwinsize(terminal);
    size.map_or(TerminalSize::default(), |size| TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Gives a terminal a size: whoever runs in its foreground is told by SIGWINCH, if it is another one.
pub(crate) fn set_size(terminal: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

impl Raw {
    /// Switches the caller's terminal to raw; `None` if standard input is none.
    pub(crate) fn enter() -> Option<Self> {
        let stdin = io::stdin();
        let saved = rustix::termios::tcgetattr(&stdin).ok()?;
        let mut raw = saved.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, OptionalActions::Drain, &raw).ok()?;
        Some(Self { saved })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.saved);
    }
}
