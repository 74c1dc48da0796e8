//! What the container reads and writes: its files or its terminal at a start, and the clients that attach.

use super::control::Asker;
use super::terminal::{Output, Terminal};
use super::{Life, Monitor};
use crate::container::state::{ContainerState, Exit, Phase};
use crate::process::{self, StartError, Started, Stdio, TerminalSize};
use crate::shim::audience::{Act, CLIENTS_MAX, Ear};
use crate::shim::fifo;
use crate::shim::hold::{self, Holder};
use crate::shim::log::cut::Tail;
use crate::shim::log::pump::Moved;
use crate::shim::protocol::Reply;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

/// Whose the end of the container's input is, where it has no terminal and its input is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Nobody's: it never comes.
    Endless,
    /// That of the client that attended the start, which holds the other end of the pipe already.
    Attended,
}

/// A container's three files, open.
pub(super) struct Files([OwnedFd; 3]);

impl Files {
    pub(super) fn stdio(&self) -> Stdio<'_> {
        let [stdin, stdout, stderr] = &self.0;
        Stdio::Files { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() }
    }
}

impl Monitor {
    /// The container's ends of its pipes. Those for output are open for reading too: it never gets SIGPIPE, and keeps its output while
    /// no shim lives. Opened anew, because ours do not block and its must.
    pub(super) fn open_files(&self, input: Input) -> Result<Files, StartError> {
        let pipe = |name: &str| self.ground.run.join(name);
        let stdin = || match (self.config.stdin_open, input) {
            (false, _) => Ok(File::open("/dev/null")?.into()),
            (true, Input::Attended) => fifo::open_to_read(&pipe("stdin")),
            (true, Input::Endless) => fifo::renew(&pipe("stdin")).and_then(|()| fifo::open_both(&pipe("stdin"))),
        };
        let files = || Ok(Files([stdin()?, fifo::open_both(&pipe("stdout"))?, fifo::open_both(&pipe("stderr"))?]));
        files().map_err(|source| StartError { step: process::Step::Stdio, object: self.ground.run.display().to_string(), source })
    }

    /// Takes the terminal of a process that has just been started.
    pub(super) fn use_terminal(&mut self, started: &mut Started) {
        let Some(master) = started.terminal.take() else { return };
        let holder = Holder::start(&self.ground.run, &self.ground.id, master.as_fd(), started.pidfd.as_fd());
        // Without it there is a terminal all the same.
        let holder = holder.map_err(|error| self.note("have the terminal held", &error)).ok();
        let terminal = Terminal::new(master, holder).map_err(|error| self.note("prepare the terminal", &error));
        self.terminal = terminal.ok();
    }

    /// Takes over the terminal of a process that a predecessor started.
    pub(super) fn resume_terminal(&mut self) {
        if !self.config.tty {
            return;
        }
        match hold::take_over(&self.ground.run) {
            Ok(Some((master, size))) => {
                self.size = size;
                self.terminal = Terminal::new(master, None).map_err(|error| self.note("prepare the terminal", &error)).ok();
            }
            Ok(None) => {}
            Err(error) => self.note("take over the terminal", &error),
        }
    }

    /// Takes in a client that wants to attach.
    pub(super) fn attach(&mut self, asker: Asker, size: Option<TerminalSize>) {
        match self.refusal() {
            Some(problem) => asker.reply(&Reply::Error { problem }),
            None => {
                self.resize(size);
                let reply = Reply::State { state: self.state() };
                self.logs.bench.audience.admit(asker.into_stream(), &reply);
            }
        }
    }

    /// Why nobody can attach now.
    fn refusal(&self) -> Option<String> {
        let runs = matches!(self.life, Life::Running(_));
        match () {
            () if !runs => Some("it is not running".to_owned()),
            () if self.config.tty && self.terminal.is_none() => Some("its terminal is lost; restart it for a new one".to_owned()),
            () if !self.logs.bench.audience.has_room() => Some(format!("{CLIENTS_MAX} clients are attached already")),
            () => None,
        }
    }

    fn resize(&mut self, size: Option<TerminalSize>) {
        let Some(size) = size else { return };
        self.size = size;
        if let Some(Err(error)) = self.terminal.as_ref().map(|terminal| terminal.resize(size)) {
            self.note("resize the terminal", &error);
        }
    }

    /// Whether what clients type can be taken. Without a terminal there is nothing that they could type at.
    pub(super) fn ear(&self) -> Ear {
        if self.terminal.as_ref().is_none_or(Terminal::is_idle) { Ear::Open } else { Ear::Busy }
    }

    /// Whether output can be taken from the container.
    pub(super) fn wants(&self) -> Output {
        if self.logs.bench.audience.is_behind() { Output::Held } else { Output::Wanted }
    }

    /// Hears the clients out.
    pub(super) fn hear(&mut self, now: Instant) {
        for act in self.logs.bench.audience.turn(self.ear(), now) {
            match act {
                Act::Resized(size) => self.resize(Some(size)),
                Act::Typed(bytes) => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.type_in(&bytes);
                    }
                }
            }
        }
    }

    /// Moves what was typed into the terminal, and a piece of its output on to the pipe that all output comes by.
    pub(super) fn turn_terminal(&mut self, now: Instant) {
        if let Some(terminal) = &mut self.terminal {
            terminal.push();
        }
        if self.wants() == Output::Wanted {
            self.feed(now);
        }
    }

    /// One piece of the terminal's output; whether there was one.
    fn feed(&mut self, now: Instant) -> bool {
        let Some(bytes) = self.terminal.as_mut().and_then(|terminal| terminal.read(now)) else { return false };
        let logs = &mut self.logs;
        // The pipe holds a record and a piece at most, so there is room.
        let fed = rustix::io::write(logs.stdout.fd(), &bytes).map_err(io::Error::from);
        let moved = logs.stdout.pump(&mut logs.bench, &mut logs.file, Tail::Keep, now);
        if let Err(error) = fed.and(moved) {
            self.note("move output", &error);
        }
        true
    }

    /// Moves all that is left, whether or not clients read. The process has ended.
    pub(super) fn drain(&mut self) {
        let now = Instant::now();
        while self.feed(now) {}
        let logs = &mut self.logs;
        for pump in [&mut logs.stdout, &mut logs.stderr] {
            while let Ok(Moved::Some) = pump.pump(&mut logs.bench, &mut logs.file, Tail::Cut, now) {}
        }
    }

    /// Tells the clients of a process that will be started again how it ended: who attaches to a container attaches to one life of it.
    pub(super) fn dismiss(&mut self, exit: &Exit) {
        if !self.logs.bench.audience.is_empty() {
            let phase = Phase::Exited { exit: exit.clone() };
            let state = ContainerState { phase, ..self.state() };
            self.logs.bench.audience.dismiss(&Reply::State { state });
        }
    }
}
