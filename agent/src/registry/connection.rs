//! One connection: requests in, answers out, until one side has had enough.

use super::Registry;
use super::pace::{HEAD_MAX, IDLE_MAX, Paced, REQUEST_MAX};
use super::request::{Head, Method, Request, Stream};
use super::response::After;
use rustls::{ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Requests of one connection: after so many it may as well come again.
const REQUESTS_MAX: usize = 10_000;
/// Bytes of a body nobody asked for that are read away, to answer the next request on the same connection.
const DRAIN_BYTES_MAX: u64 = 64 << 10;

/// Plain or encrypted.
pub(super) enum Wire {
    Plain(Paced),
    Tls(Box<StreamOwned<ServerConnection, Paced>>),
}

impl Wire {
    fn socket(&mut self) -> &mut Paced {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Stream for BufReader<Wire> {
    fn writer(&mut self) -> &mut dyn Write {
        self.get_mut()
    }

    fn is_encrypted(&self) -> bool {
        matches!(self.get_ref(), Wire::Tls(_))
    }

    fn begin_body(&mut self) {
        self.get_mut().socket().steadily_within(REQUEST_MAX);
    }
}

/// Answers requests until the client is done, is silent for too long, or `ending` is set. `idle` tells whether it waits for a request.
pub(super) fn serve(registry: &Registry, wire: Wire, ending: &AtomicBool, idle: &AtomicBool) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(64 << 10, wire);
    for _ in 0..REQUESTS_MAX {
        idle.store(true, Ordering::SeqCst);
        stream.get_mut().socket().within(IDLE_MAX);
        if ending.load(Ordering::SeqCst) || stream.fill_buf()?.is_empty() {
            break;
        }
        idle.store(false, Ordering::SeqCst);
        stream.get_mut().socket().within(HEAD_MAX);
        if answer(registry, &mut stream, ending)? == After::Close {
            break;
        }
    }
    if let Wire::Tls(stream) = stream.get_mut() {
        stream.conn.send_close_notify();
        stream.flush()?;
    }
    Ok(())
}

fn answer(registry: &Registry, stream: &mut BufReader<Wire>, ending: &AtomicBool) -> io::Result<After> {
    let begun = Instant::now();
    let mut request = match Request::read(stream) {
        Ok(Head::Closed) => return Ok(After::Close),
        Ok(Head::Request(request)) => request,
        Err(problem) => {
            problem.response().write(false, After::Close, stream.get_mut())?;
            return Ok(After::Close);
        }
    };
    let response = registry.answer(&mut request);
    let (method, path, closes) = (request.method, request.path.clone(), request.closes());
    // The rest of the body first: a client that still sends does not listen, and may never hear an answer to a connection closed on it.
    let drained = request.drain(DRAIN_BYTES_MAX);
    let after = if closes || !drained || ending.load(Ordering::SeqCst) { After::Close } else { After::KeepOpen };
    let (status, bytes) = (response.status, response.length());
    response.write(method == Method::Head, after, stream.get_mut())?;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(?method, path, status, bytes, took_ms, "request");
    Ok(after)
}
