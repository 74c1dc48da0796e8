//! Stays with one process until it ends: passes signals on, joins terminals, answers its questions for names, and hands its exit status
//! through.

use super::dns::responder::Responder;
use crate::cgroup::Cgroup;
use crate::console::{self, Raw, Signals};
use crate::process::Started;
use crate::process::pidfd::{self, ExitStatus};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use spec::value::Signal;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Signals that are the process's business and not ours. SIGWINCH stands for a new size of the terminal.
pub(super) const FORWARDED: [i32; 9] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGCONT, libc::SIGWINCH];

/// Keystrokes on their way: a pasted page.
const CHUNK_BYTES: usize = 4096;

/// What becomes of a signal that reaches us.
#[derive(Clone, Copy)]
pub(super) enum OnSignal<'a> {
    /// It is the process's.
    Forward,
    /// Those that ask for an end end everything in the control group, by force: a first process of its namespace would not hear them.
    End(&'a Cgroup),
}

/// Waits for its end; meanwhile `names` is its name server, if it has one.
pub(super) fn attend(
    started: &Started,
    signals: &Signals,
    on_signal: OnSignal<'_>,
    mut names: Option<&mut Responder>,
) -> io::Result<ExitStatus> {
    let _raw = started.terminal.as_ref().and_then(|_| Raw::enter());
    let mut relay = started.terminal.as_ref().map(Relay::new).transpose()?;
    loop {
        let ready = wait(started, signals, relay.as_ref(), names.as_deref())?;
        if let Some(names) = &mut names {
            names.turn(Instant::now());
        }
        if ready.contains(&Part::Signals) {
            while let Some(number) = signals.next() {
                match (on_signal, number) {
                    (OnSignal::End(cgroup), libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM) => {
                        cgroup.kill_all().map_err(io::Error::other)?;
                    }
                    (OnSignal::End(_) | OnSignal::Forward, number) => forward(started, number)?,
                }
            }
        }
        if let Some(relay) = &mut relay {
            relay.turn(ready.contains(&Part::Input), ready.contains(&Part::Terminal))?;
        }
        if ready.contains(&Part::Process)
            && let Some(status) = pidfd::reap(started.pidfd.as_fd())?
        {
            if let Some(relay) = &mut relay {
                relay.drain()?;
            }
            return Ok(status);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Process,
    Signals,
    Terminal,
    Input,
    Names,
}

fn wait(started: &Started, signals: &Signals, relay: Option<&Relay<'_>>, names: Option<&Responder>) -> io::Result<Vec<Part>> {
    let stdin = io::stdin();
    let mut parts = vec![Part::Process, Part::Signals];
    let mut descriptors = vec![PollFd::new(&started.pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
    if let Some(relay) = relay {
        let events = relay.terminal_events();
        // Without events it is not polled at all: once its other side is closed poll(2) would report that for ever.
        if !events.is_empty() {
            parts.push(Part::Terminal);
            descriptors.push(PollFd::from_borrowed_fd(relay.terminal, events));
        }
        if relay.wants_input() {
            parts.push(Part::Input);
            descriptors.push(PollFd::new(&stdin, PollFlags::IN));
        }
    }
    for (descriptor, events) in names.into_iter().flat_map(Responder::descriptors) {
        parts.push(Part::Names);
        descriptors.push(PollFd::from_borrowed_fd(descriptor, events));
    }
    let timeout = names.and_then(Responder::deadline).map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = parts.into_iter().zip(&descriptors).filter(|(_, descriptor)| !descriptor.revents().is_empty());
    Ok(ready.map(|(part, _)| part).collect())
}

fn forward(started: &Started, number: i32) -> io::Result<()> {
    match (&started.terminal, number) {
        (Some(terminal), libc::SIGWINCH) => {
            // The terminal is gone when the process is; its end is seen elsewhere.
            let _ = console::set_size(terminal, console::size());
            Ok(())
        }
        (None, libc::SIGWINCH) => Ok(()),
        (Some(_) | None, number) => match number.to_string().parse::<Signal>() {
            Ok(signal) => pidfd::send_signal(started.pidfd.as_fd(), signal),
            Err(_) => Ok(()),
        },
    }
}

/// Between the caller's files and the container's terminal.
struct Relay<'a> {
    terminal: BorrowedFd<'a>,
    typed: Vec<u8>,
    input: Input,
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Open,
    Ended,
}

impl<'a> Relay<'a> {
    fn new(terminal: &'a OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(terminal, true)?;
        Ok(Self { terminal: terminal.as_fd(), typed: Vec::new(), input: Input::Open, output: Output::Open })
    }

    fn wants_input(&self) -> bool {
        self.input == Input::Open && self.typed.is_empty()
    }

    fn terminal_events(&self) -> PollFlags {
        let read = if self.output == Output::Open { PollFlags::IN } else { PollFlags::empty() };
        if self.typed.is_empty() { read } else { read | PollFlags::OUT }
    }

    fn turn(&mut self, input: bool, terminal: bool) -> io::Result<()> {
        if input {
            let mut buffer = [0; CHUNK_BYTES];
            match rustix::io::read(io::stdin(), &mut buffer) {
                Ok(0) => {
                    // End of file, typed: what a terminal calls it.
                    self.input = Input::Ended;
                    self.typed.push(4);
                }
                Ok(length) => self.typed.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input = Input::Ended,
            }
        }
        if !self.typed.is_empty() {
            match rustix::io::write(self.terminal, &self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.typed.clear(),
            }
        }
        if terminal && self.output == Output::Open {
            self.copy_output()?;
        }
        Ok(())
    }

    /// One piece of output; false at its end for now.
    fn copy_output(&mut self) -> io::Result<bool> {
        let mut buffer = [0; CHUNK_BYTES];
        match rustix::io::read(self.terminal, &mut buffer) {
            Ok(length) if length > 0 => {
                write_whole(&buffer[..length])?;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            // EIO: the last holder of the other side has closed it.
            Ok(_) | Err(_) => {
                self.output = Output::Ended;
                Ok(false)
            }
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.copy_output()? {}
        Ok(())
    }
}

/// Standard output is another's file and may not block where ours does.
fn write_whole(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(&stdout, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                rustix::event::poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
