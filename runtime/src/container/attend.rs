//! `attend`: stays with a container that one is attached to, with the caller's own standard files or terminal.
//!
//! ```text
//!  standard input ──► keys to leave? ──► typed ──► shim or pipe ──► container
//!  standard output, error ◄── shown ◄── frames ◄── shim ◄────────── container
//! ```
//!
//! Nothing here waits for one of them alone: while nobody reads what is shown, the keys to leave and signals are heard all the same.

use super::attach::{Attachment, Input};
use super::state::ContainerState;
use super::stop::kill;
use crate::console::keys::{DetachKeys, Typed, Watch};
use crate::console::{self, Raw, Signals};
use crate::shim::frame::{self, Kind};
use crate::shim::protocol::Reply;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use spec::value::Signal;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Read at once: as much as a pipe holds, for what is no terminal.
const CHUNK_BYTES: usize = 64 * 1024;
/// Written at once: a pipe that is ready takes as much without waiting (pipe(7), PIPE_BUF).
const WRITE_BYTES: usize = 4096;

/// Signals that end the caller, or that it passes on.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
/// Further ones that are passed on.
const PASSED_ON: [i32; 4] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGCONT];

/// What becomes of the caller's signals. SIGWINCH stands for a new size of its terminal in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    /// Those that would end the caller end its stay, and nothing else.
    Leave,
    /// They are the container's.
    PassOn,
    /// They are heard elsewhere.
    Ignore,
}

/// How the caller attends.
pub struct Manner<'a> {
    /// The keys that let go of the container, where it has a terminal.
    pub detach_keys: &'a DetachKeys,
    on_signal: OnSignal,
    signals: Signals,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parting {
    /// With the container's process: its state then.
    Ended(ContainerState),
    /// With the keys for it. The container goes on.
    Detached,
    /// With this signal to the caller. The container goes on.
    Signal(i32),
    /// The shim let go of the caller, or is gone: why.
    Dropped(String),
}

impl<'a> Manner<'a> {
    /// From here on signals wait to be heard.
    pub fn new(detach_keys: &'a DetachKeys, on_signal: OnSignal) -> io::Result<Self> {
        let numbers: Vec<i32> = match on_signal {
            OnSignal::Leave => ENDING.to_vec(),
            OnSignal::PassOn => [ENDING, PASSED_ON].concat(),
            OnSignal::Ignore => Vec::new(),
        };
        let signals = Signals::catch(&[numbers, vec![libc::SIGWINCH]].concat())?;
        Ok(Self { detach_keys, on_signal, signals })
    }
}

impl Attachment {
    /// Stays until the container's process ends or the caller leaves. The caller's terminal is in raw mode meanwhile, if it is what is
    /// typed at the container's.
    ///
    /// Errors: what is shown cannot be written.
    pub fn attend(self, manner: &Manner<'_>) -> io::Result<Parting> {
        let raw = if let Input::Terminal = self.input { Raw::enter() } else { None };
        let mut stay = Stay {
            keys: manner.detach_keys.watch(),
            manner,
            stdin: if let Input::None = self.input { Flow::Ended } else { Flow::Open },
            typed: Vec::new(),
            shown: [Vec::new(), Vec::new()],
            parting: None,
            attachment: self,
        };
        let parting = stay.run();
        drop(raw);
        parting
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Shim,
    Signals,
    Stdin,
    Pipe,
    Stdout,
    Stderr,
}

struct Stay<'a> {
    manner: &'a Manner<'a>,
    attachment: Attachment,
    keys: Watch<'a>,
    stdin: Flow,
    /// On its way to the container: bytes for its pipe, or frames for its shim.
    typed: Vec<u8>,
    /// On its way to standard output and error.
    shown: [Vec<u8>; 2],
    /// How it ends, once all is shown.
    parting: Option<Parting>,
}

impl Stay<'_> {
    fn run(&mut self) -> io::Result<Parting> {
        self.take_frames();
        loop {
            if self.is_all_shown()
                && let Some(parting) = self.parting.take()
            {
                return Ok(parting);
            }
            let ready = self.wait()?;
            if ready.contains(&Part::Signals)
                && let Some(parting) = self.hear()
            {
                return Ok(parting);
            }
            if ready.contains(&Part::Stdin)
                && let Some(parting) = self.read_stdin()
            {
                return Ok(parting);
            }
            if ready.contains(&Part::Pipe) || ready.contains(&Part::Shim) {
                self.send();
            }
            if ready.contains(&Part::Shim) && self.is_all_shown() {
                self.receive();
            }
            self.show(ready.contains(&Part::Stdout), ready.contains(&Part::Stderr))?;
        }
    }

    fn is_all_shown(&self) -> bool {
        self.shown.iter().all(Vec::is_empty)
    }

    fn wait(&self) -> io::Result<Vec<Part>> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let mut parts = vec![(Part::Signals, self.manner.signals.as_fd(), PollFlags::IN)];
        let mut add = |part, descriptor, events: PollFlags| {
            // Without events it is not polled at all: a hang-up would be reported for ever.
            if !events.is_empty() {
                parts.push((part, descriptor, events));
            }
        };
        let when = |wanted: bool, events| if wanted { events } else { PollFlags::empty() };
        let is_typed = !self.typed.is_empty();
        let is_framed = matches!(self.attachment.input, Input::Terminal);
        let receives = when(self.is_all_shown() && self.parting.is_none(), PollFlags::IN);
        add(Part::Shim, self.attachment.socket.as_fd(), receives | when(is_framed && is_typed, PollFlags::OUT));
        add(Part::Stdin, stdin.as_fd(), when(self.stdin == Flow::Open && !is_typed, PollFlags::IN));
        add(Part::Stdout, stdout.as_fd(), when(!self.shown[0].is_empty(), PollFlags::OUT));
        add(Part::Stderr, stderr.as_fd(), when(!self.shown[1].is_empty(), PollFlags::OUT));
        if let Input::Pipe(pipe) = &self.attachment.input {
            // Also without anything for it: that its reader is gone is always reported.
            parts.push((Part::Pipe, pipe.as_fd(), when(is_typed, PollFlags::OUT)));
        }
        poll(&parts)
    }

    /// Signals of the caller; how it ends, if one ends it.
    fn hear(&mut self) -> Option<Parting> {
        while let Some(number) = self.manner.signals.next() {
            match (number, self.manner.on_signal) {
                (libc::SIGWINCH, _) => self.resize(),
                (number, OnSignal::Leave) => return Some(Parting::Signal(number)),
                (number, OnSignal::PassOn) => {
                    // Refused where it has just ended: that is seen elsewhere.
                    let signal = number.to_string().parse::<Signal>();
                    let _ = signal.map(|signal| kill(&self.attachment.places, &self.attachment.id, signal));
                }
                (_, OnSignal::Ignore) => {}
            }
        }
        None
    }

    fn resize(&mut self) {
        if self.attachment.tty {
            let mut frames = Vec::new();
            frame::append_size(&mut frames, console::size());
            // Between frames only: what is on its way goes first.
            match (&self.attachment.input, self.typed.is_empty()) {
                (Input::Terminal, false) => self.typed.append(&mut frames),
                (Input::Terminal | Input::None | Input::Pipe(_), _) => drop(rustix::io::write(&self.attachment.socket, &frames)),
            }
        }
    }

    /// What was typed; how it ends, if those were the keys for that.
    fn read_stdin(&mut self) -> Option<Parting> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let bytes = match rustix::io::read(io::stdin(), &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return None,
            Ok(length) if length > 0 => &buffer[..length],
            Ok(_) | Err(_) => {
                self.end_input();
                return None;
            }
        };
        match &self.attachment.input {
            Input::None => {}
            Input::Pipe(_) => self.typed.extend_from_slice(bytes),
            Input::Terminal => match self.keys.take(bytes) {
                Typed::On(bytes) => frame::append(&mut self.typed, Kind::Stdin, &bytes),
                Typed::Away(_) => return Some(Parting::Detached),
            },
        }
        self.send();
        None
    }

    /// The caller has no more. A pipe is closed, which whoever reads it sees as its end; a terminal has no end.
    fn end_input(&mut self) {
        self.stdin = Flow::Ended;
        if let Input::Pipe(_) = self.attachment.input {
            self.attachment.input = Input::None;
        }
    }

    /// As much of what was typed as is taken now.
    fn send(&mut self) {
        let written = match &self.attachment.input {
            Input::None => return,
            // Also of nothing: a reader that is gone shows only so.
            Input::Pipe(pipe) if self.typed.is_empty() => Err(if is_broken(pipe.as_fd()) { Errno::PIPE } else { Errno::AGAIN }),
            Input::Pipe(pipe) => rustix::io::write(pipe, &self.typed),
            Input::Terminal => rustix::io::write(&self.attachment.socket, &self.typed),
        };
        match written {
            Ok(length) => drop(self.typed.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The container reads no more, or the shim is gone: the latter is seen where it is read.
            Err(_) => {
                self.typed.clear();
                self.end_input();
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = vec![0; CHUNK_BYTES];
        match rustix::io::read(&self.attachment.socket, &mut buffer) {
            Ok(length) if length > 0 => {
                self.attachment.received.extend_from_slice(&buffer[..length]);
                self.take_frames();
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => self.parting = Some(Parting::Dropped("its shim is gone".to_owned())),
        }
    }

    /// Sorts what came by what it is.
    fn take_frames(&mut self) {
        let received = std::mem::take(&mut self.attachment.received);
        let mut rest = &received[..];
        while self.parting.is_none() {
            match frame::first(rest) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    rest = &rest[frame.length()..];
                    match frame.kind {
                        Kind::Stdout => self.shown[0].extend_from_slice(frame.payload),
                        Kind::Stderr => self.shown[1].extend_from_slice(frame.payload),
                        Kind::End => self.parting = Some(last_word(frame.payload)),
                        Kind::Stdin | Kind::Resize => {}
                    }
                }
                Err(frame::NoFrame) => self.parting = Some(Parting::Dropped("its shim speaks another language".to_owned())),
            }
        }
        self.attachment.received = rest.to_vec();
    }

    fn show(&mut self, stdout: bool, stderr: bool) -> io::Result<()> {
        let [output, errors] = &mut self.shown;
        if stdout {
            write_some(io::stdout().as_fd(), output)?;
        }
        if stderr {
            write_some(io::stderr().as_fd(), errors)?;
        }
        Ok(())
    }
}

fn last_word(payload: &[u8]) -> Parting {
    match serde_json::from_slice(payload) {
        Ok(Reply::State { state }) => Parting::Ended(state),
        Ok(Reply::Error { problem }) => Parting::Dropped(problem),
        Err(error) => Parting::Dropped(error.to_string()),
    }
}

fn write_some(file: BorrowedFd<'_>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        // What is no pipe may wait for a moment; what is one takes this much, once.
        let piece = &bytes[done..bytes.len().min(done + WRITE_BYTES)];
        match rustix::io::write(file, piece) {
            Ok(length) => done += length,
            Err(Errno::AGAIN | Errno::INTR) => break,
            Err(error) => return Err(error.into()),
        }
        if !is_ready(file) {
            break;
        }
    }
    bytes.drain(..done);
    Ok(())
}

fn is_ready(file: BorrowedFd<'_>) -> bool {
    look(file, PollFlags::OUT).contains(PollFlags::OUT)
}

/// Whether nobody reads a pipe any more.
fn is_broken(pipe: BorrowedFd<'_>) -> bool {
    look(pipe, PollFlags::empty()).contains(PollFlags::ERR)
}

fn look(file: BorrowedFd<'_>, events: PollFlags) -> PollFlags {
    let mut descriptors = [PollFd::from_borrowed_fd(file, events)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut descriptors, Some(&now)) {
        Ok(_) => descriptors[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

fn poll(parts: &[(Part, BorrowedFd<'_>, PollFlags)]) -> io::Result<Vec<Part>> {
    let mut descriptors: Vec<PollFd<'_>> =
        parts.iter().map(|(_, descriptor, events)| PollFd::from_borrowed_fd(*descriptor, *events)).collect();
    match rustix::event::poll(&mut descriptors, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = parts.iter().zip(&descriptors).filter(|(_, descriptor)| !descriptor.revents().is_empty());
    Ok(ready.map(|((part, ..), _)| *part).collect())
}
