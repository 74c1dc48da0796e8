//! The clients that have attached to a container: what it writes is shown to all of them, what they type is taken from each.
//!
//! A client that does not read holds the container back, as a full pipe would, and nothing is kept for it but what was already
//! taken out; after [`STALLED_MAX`] it is let go, and the container and its log go on without it.

use super::frame::{self, Kind};
use super::protocol::Reply;
use crate::process::TerminalSize;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Most clients at once: each one holds a copy of what it has not read.
pub const CLIENTS_MAX: usize = 16;
/// How long a client may keep the container waiting.
pub const STALLED_MAX: Duration = Duration::from_secs(60);
/// What is left for a client at the end is put into its socket at once, however much its buffer was meant to hold: the largest pipe
/// that a container can make itself (pipe(7)), twice, and frames around it.
const LAST_BYTES_MAX: usize = 4 << 20;
/// How long that may take where the kernel does not allow it (socket(7), SO_SNDBUFFORCE).
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Typed bytes taken from a client at a time: a pasted page.
const CHUNK_BYTES: usize = 4096;

/// The clients.
#[derive(Default)]
pub struct Audience {
    clients: Vec<Client>,
}

struct Client {
    stream: UnixStream,
    /// Frames, or what is left of them, that its socket did not take.
    unsent: Vec<u8>,
    /// Since when it has taken nothing, while there is something.
    stalled: Option<Instant>,
    /// The start of a frame.
    heard: Vec<u8>,
}

/// What a client did at the container's terminal.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Typed something.
    Typed(Vec<u8>),
    /// Its own terminal has this size now.
    Resized(TerminalSize),
}

/// Whether what clients type can be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ear {
    /// Yes.
    Open,
    /// No: there is no room for it yet.
    Busy,
}

impl Audience {
    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.clients.len() < CLIENTS_MAX
    }

    /// Whether somebody has not taken yet what was shown last: the container waits.
    pub fn is_behind(&self) -> bool {
        self.clients.iter().any(|client| !client.unsent.is_empty())
    }

    /// Takes in a client, which is told so first. One that is gone already is not missed.
    pub fn admit(&mut self, stream: UnixStream, reply: &Reply) {
        let Ok(mut line) = serde_json::to_vec(reply) else { return };
        line.push(b'\n');
        if stream.set_nonblocking(true).is_ok() {
            self.clients.push(Client { stream, unsent: line, stalled: None, heard: Vec::new() });
        }
    }

    /// Shows everybody what the container wrote.
    pub fn show(&mut self, kind: Kind, bytes: &[u8], now: Instant) {
        for client in &mut self.clients {
            frame::append(&mut client.unsent, kind, bytes);
        }
        self.clients.retain_mut(|client| client.send(now) == Presence::Here);
    }

    /// Descriptors to wait for, and for what.
    pub fn descriptors(&self, ear: Ear) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.clients.iter().map(move |client| {
            let read = if ear == Ear::Open { PollFlags::IN } else { PollFlags::empty() };
            let write = if client.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            (client.stream.as_fd(), read | write)
        })
    }

    /// When [`Audience::turn`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|client| client.stalled).min().map(|since| since + STALLED_MAX)
    }

    /// Sends on, hears what clients do, and lets go of those that are gone or read nothing for too long.
    pub fn turn(&mut self, ear: Ear, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        for mut client in std::mem::take(&mut self.clients) {
            match client.turn(ear, now, &mut acts) {
                Presence::Here if client.has_stalled(now) => {
                    let problem = format!("its output was not read for {} s, and it goes on without a reader", STALLED_MAX.as_secs());
                    client.dismiss(&Reply::Error { problem });
                }
                Presence::Here => self.clients.push(client),
                Presence::Gone => {}
            }
        }
        acts
    }

    /// Tells everybody how it ended, after all that was shown, and lets them go. Waits for nobody.
    pub fn dismiss(&mut self, reply: &Reply) {
        for client in std::mem::take(&mut self.clients) {
            client.dismiss(reply);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Here,
    Gone,
}

impl Client {
    fn turn(&mut self, ear: Ear, now: Instant, acts: &mut Vec<Act>) -> Presence {
        let heard = match ear {
            Ear::Open => self.hear(acts),
            Ear::Busy if hung_up(&self.stream) => Presence::Gone,
            Ear::Busy => Presence::Here,
        };
        if heard == Presence::Gone { heard } else { self.send(now) }
    }

    /// As much as the socket takes now.
    fn send(&mut self, now: Instant) -> Presence {
        if self.unsent.is_empty() {
            return Presence::Here;
        }
        match self.stream.write(&self.unsent) {
            Ok(length) if length == self.unsent.len() => {
                // Not kept for the next time: most clients wait, and so does the memory.
                self.unsent = Vec::new();
                self.stalled = None;
            }
            Ok(length) => {
                self.unsent.drain(..length);
                self.stalled = Some(now);
            }
            Err(error) if is_for_later(&error) => self.stalled = self.stalled.or(Some(now)),
            Err(_) => return Presence::Gone,
        }
        Presence::Here
    }

    /// Takes what it did, frame by frame. One that says anything else is no client of ours.
    fn hear(&mut self, acts: &mut Vec<Act>) -> Presence {
        let mut buffer = [0; CHUNK_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Presence::Gone,
            Ok(length) => self.heard.extend_from_slice(&buffer[..length]),
            Err(error) if is_for_later(&error) => return Presence::Here,
            Err(_) => return Presence::Gone,
        }
        let mut done = 0;
        loop {
            let frame = match frame::first(&self.heard[done..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(frame::NoFrame) => return Presence::Gone,
            };
            match (frame.kind, frame::size_in(frame.payload)) {
                (Kind::Stdin, _) => acts.push(Act::Typed(frame.payload.to_owned())),
                (Kind::Resize, Some(size)) => acts.push(Act::Resized(size)),
                (Kind::Resize | Kind::Stdout | Kind::Stderr | Kind::End, _) => return Presence::Gone,
            }
            done += frame.length();
        }
        self.heard.drain(..done);
        Presence::Here
    }

    fn has_stalled(&self, now: Instant) -> bool {
        self.stalled.is_some_and(|since| now.duration_since(since) >= STALLED_MAX)
    }

    /// Says the last word. What its socket takes stays readable after us.
    fn dismiss(mut self, reply: &Reply) {
        let Ok(last) = serde_json::to_vec(reply) else { return };
        frame::append(&mut self.unsent, Kind::End, &last);
        // Where it is not allowed, what does not fit is waited for a little.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.stream, LAST_BYTES_MAX);
        let patience = self.stream.set_nonblocking(false).and_then(|()| self.stream.set_write_timeout(Some(LAST_PATIENCE)));
        // One that is gone, or does not read, loses its own.
        let _ = patience.and_then(|()| self.stream.write_all(&self.unsent));
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether the client at the other end is gone.
pub(super) fn hung_up(stream: &UnixStream) -> bool {
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut descriptors, Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(audience: &mut Audience) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        audience.admit(theirs, &Reply::Error { problem: "hello".to_owned() });
        ours
    }

    fn rest(mut stream: UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read");
        bytes
    }

    /// Shows more than a socket takes; how many bytes.
    fn overfill(audience: &mut Audience, now: Instant) -> usize {
        let mut shown = 0;
        // The greeting goes first.
        audience.turn(Ear::Open, now);
        while !audience.is_behind() {
            audience.show(Kind::Stdout, &[b'x'; 10_000], now);
            shown += 10_000;
        }
        shown
    }

    #[test]
    fn all_see_the_same_and_the_last_word() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let clients = [attached(&mut audience), attached(&mut audience)];
        audience.show(Kind::Stdout, b"one", now);
        audience.show(Kind::Stderr, b"two", now);
        audience.dismiss(&Reply::Error { problem: "over".to_owned() });
        let [first, second] = clients.map(rest);
        assert_eq!(first, second);
        let text = String::from_utf8_lossy(&first).into_owned();
        assert!(text.starts_with("{\"reply\":\"error\",\"problem\":\"hello\"}\n\u{1}\0\0\0\0\0\0\u{3}one\u{2}"), "{text:?}");
        assert!(text.ends_with("\"problem\":\"over\"}"), "{text:?}");
    }

    #[test]
    fn one_that_does_not_read_is_let_go_after_a_while_with_all_that_was_shown() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let (idle, _busy) = (attached(&mut audience), attached(&mut audience));
        let shown = overfill(&mut audience, now);
        assert_eq!(audience.deadline(), Some(now + STALLED_MAX));
        assert_eq!(audience.turn(Ear::Open, now + STALLED_MAX - Duration::from_millis(1)), []);
        assert!(audience.is_behind());
        audience.turn(Ear::Open, now + STALLED_MAX);
        assert!(audience.is_empty(), "both read nothing");
        let bytes = rest(idle);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'x').count(), shown);
        assert!(String::from_utf8_lossy(&bytes).contains("was not read for 60 s"));
    }

    #[test]
    fn one_that_reads_slowly_stays() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let mut slow = attached(&mut audience);
        let shown = overfill(&mut audience, now);
        slow.read_exact(&mut vec![0; shown / 2]).expect("read");
        audience.turn(Ear::Open, now + STALLED_MAX - Duration::from_secs(1));
        audience.turn(Ear::Open, now + STALLED_MAX);
        assert!(!audience.is_empty());
    }

    #[test]
    fn acts_are_heard_whole_and_only_when_there_is_room() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let mut client = attached(&mut audience);
        let mut bytes = Vec::new();
        frame::append(&mut bytes, Kind::Stdin, b"ls\n");
        frame::append_size(&mut bytes, TerminalSize { rows: 5, columns: 7 });
        client.write_all(&bytes[..6]).expect("write");
        assert_eq!(audience.turn(Ear::Open, now), []);
        client.write_all(&bytes[6..]).expect("write");
        assert_eq!(audience.turn(Ear::Busy, now), []);
        let size = TerminalSize { rows: 5, columns: 7 };
        assert_eq!(audience.turn(Ear::Open, now), [Act::Typed(b"ls\n".to_vec()), Act::Resized(size)]);
    }

    #[test]
    fn the_gone_and_the_nonsensical_are_forgotten() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        drop(attached(&mut audience));
        audience.turn(Ear::Busy, now);
        assert!(audience.is_empty());
        let mut client = attached(&mut audience);
        client.write_all(b"GET / HTTP/1.1\r\n").expect("write");
        audience.turn(Ear::Open, now);
        assert!(audience.is_empty());
    }
}
