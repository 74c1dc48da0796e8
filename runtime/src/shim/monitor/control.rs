//! The control socket: reads requests, keeps those that are answered later, never waits for a client.

use crate::container::state::{ContainerState, Phase};
use crate::container::wait::judge;
use crate::shim::audience::hung_up;
use crate::shim::protocol::{LINE_BYTES_MAX, Reply, Request, WaitCondition};
use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a client may take to say what it wants.
const READING_MAX: Duration = Duration::from_secs(5);
/// Clients that are reading or being read at once; more wait in the kernel's queue.
const CLIENTS_MAX: usize = 64;
/// Of these, clients whose answer comes later: so that there is always room for a stop.
const PENDING_MAX: usize = 48;

/// The socket and its clients.
pub(super) struct Control {
    listener: UnixListener,
    reading: Vec<Reading>,
    pending: Vec<(UnixStream, Pending)>,
}

struct Reading {
    stream: UnixStream,
    line: Vec<u8>,
    deadline: Instant,
}

/// An answer that comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// When it is down.
    Down,
    /// When a process runs that was started after this many, or none will.
    StartedAfter(u64),
    /// When the condition holds or cannot hold any more, or the time is over.
    Until(WaitCondition, Option<Instant>),
}

/// A client that has asked and waits.
pub(super) struct Asker(UnixStream);

impl Control {
    /// Makes `<run>/control.sock`, open to us alone. A socket of a predecessor is replaced: the lock says it is dead.
    pub(super) fn open(run: &Path) -> io::Result<Self> {
        let path = run.join("control.sock");
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // By way of a descriptor: a path of more than 107 bytes does not fit into an address (unix(7)).
        let directory = rustix::fs::openat(CWD, run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/control.sock", directory.as_raw_fd()))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &address)?;
        rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
        rustix::net::listen(&socket, 128)?;
        Ok(Self { listener: UnixListener::from(socket), reading: Vec::new(), pending: Vec::new() })
    }

    /// Descriptors to wait for, and for what. Of a client that waits for its answer only its hanging up is of interest, which
    /// poll(2) always reports.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let room = self.reading.len() + self.pending.len() < CLIENTS_MAX;
        let listener = room.then(|| (self.listener.as_fd(), PollFlags::IN));
        let reading = self.reading.iter().map(|client| (client.stream.as_fd(), PollFlags::IN));
        let pending = self.pending.iter().map(|(stream, _)| (stream.as_fd(), PollFlags::empty()));
        listener.into_iter().chain(reading).chain(pending)
    }

    /// When [`Control::turn`] or [`Control::settle`] is due at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = self.pending.iter().filter_map(|(_, pending)| match pending {
            Pending::Until(_, deadline) => *deadline,
            Pending::Down | Pending::StartedAfter(_) => None,
        });
        self.reading.iter().map(|client| client.deadline).chain(waits).min()
    }

    /// Takes new clients and what they say; gives the requests that are whole. Drops the slow, the hung-up and the nonsensical.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<(Asker, Request)> {
        self.accept(now);
        self.pending.retain(|(stream, _)| !hung_up(stream));
        let mut requests = Vec::new();
        for mut client in std::mem::take(&mut self.reading) {
            match client.read() {
                Heard::Line => match serde_json::from_slice(&client.line) {
                    Ok(request) => requests.push((Asker(client.stream), request)),
                    Err(error) => Asker(client.stream).reply(&Reply::Error { problem: format!("not a request: {error}") }),
                },
                Heard::Part if now < client.deadline => self.reading.push(client),
                Heard::Part | Heard::Nothing => {}
                Heard::TooMuch => {
                    Asker(client.stream).reply(&Reply::Error { problem: format!("a request has at most {LINE_BYTES_MAX} bytes") });
                }
            }
        }
        requests
    }

    /// Keeps a client whose answer comes later.
    pub(super) fn keep(&mut self, asker: Asker, pending: Pending) {
        if self.pending.len() >= PENDING_MAX {
            asker.reply(&Reply::Error { problem: format!("{PENDING_MAX} clients are waiting already") });
        } else {
            self.pending.push((asker.0, pending));
        }
    }

    /// Answers those whose time has come.
    pub(super) fn settle(&mut self, state: &ContainerState, starts: u64, now: Instant) {
        let mut left = Vec::new();
        for (stream, pending) in std::mem::take(&mut self.pending) {
            if pending.is_due(state, starts, now) {
                Asker(stream).reply(&Reply::State { state: state.clone() });
            } else {
                left.push((stream, pending));
            }
        }
        self.pending = left;
    }

    fn accept(&mut self, now: Instant) {
        while self.reading.len() + self.pending.len() < CLIENTS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { return };
            if stream.set_nonblocking(true).is_ok() && is_ours(&stream) {
                self.reading.push(Reading { stream, line: Vec::new(), deadline: now + READING_MAX });
            }
        }
    }
}

impl Pending {
    fn is_due(self, state: &ContainerState, starts: u64, now: Instant) -> bool {
        let exited = matches!(state.phase, Phase::Exited { .. });
        match self {
            Self::Down => exited,
            Self::StartedAfter(before) => exited || (starts > before && matches!(state.phase, Phase::Running { .. })),
            Self::Until(condition, deadline) => judge(state, condition).is_some() || deadline.is_some_and(|deadline| now >= deadline),
        }
    }
}

impl Asker {
    /// The client at the other end of standard input, and what it has asked there.
    pub(super) fn on_stdin() -> io::Result<(Self, Request)> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_read_timeout(Some(READING_MAX))?;
        let mut client = Reading { stream, line: Vec::new(), deadline: Instant::now() + READING_MAX };
        match client.read() {
            Heard::Line => Ok((Self(client.stream), serde_json::from_slice(&client.line)?)),
            Heard::Part | Heard::TooMuch | Heard::Nothing => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Its connection, for a conversation that is not over with an answer.
    pub(super) fn into_stream(self) -> UnixStream {
        self.0
    }

    /// Answers and hangs up. The socket's buffer takes any reply whole; a client that is not there any more loses its own.
    pub(super) fn reply(mut self, reply: &Reply) {
        if let Ok(mut line) = serde_json::to_vec(reply) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }
}

enum Heard {
    Line,
    Part,
    TooMuch,
    Nothing,
}

impl Reading {
    fn read(&mut self) -> Heard {
        let mut buffer = [0; 1024];
        loop {
            if self.line.contains(&b'\n') {
                return Heard::Line;
            }
            if self.line.len() > LINE_BYTES_MAX {
                return Heard::TooMuch;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Nothing,
                Ok(length) => self.line.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Heard::Nothing,
            }
        }
    }
}

/// Root, or whoever we are. The mode of the socket says so too, but not for a socket that was handed over.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own)
}
