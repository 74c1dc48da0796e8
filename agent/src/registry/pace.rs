//! A socket that is waited for only so long: whoever drips bytes holds a thread, and there are so many of them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest silence, of the client or towards it.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a request on a connection that is open, its TLS handshake included.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// A request's head is sent in one go: a second on any link.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(20);
/// Longest a request may take with its body and its answer: a layer of 64 GiB at 25 Mbit/s.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(6 * 3600);
/// Within each such span of waiting at least [`PROGRESS_BYTES`] must pass: a fortieth of what the slowest mobile link carries.
const PROGRESS: Duration = Duration::from_secs(60);
const PROGRESS_BYTES: u64 = 16 << 10;

/// A socket and how long it is waited for.
pub(super) struct Paced {
    stream: TcpStream,
    until: Instant,
    steady: Option<Steady>,
}

/// What has passed since the last time that enough had.
#[derive(Default)]
struct Steady {
    waited: Duration,
    bytes: u64,
}

impl Paced {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, until: Instant::now() + IDLE_MAX, steady: None }
    }

    /// From now on all that comes and goes must do so within this time.
    pub(super) fn within(&mut self, limit: Duration) {
        (self.until, self.steady) = (Instant::now() + limit, None);
    }

    /// The same, and with some progress all along.
    pub(super) fn steadily_within(&mut self, limit: Duration) {
        (self.until, self.steady) = (Instant::now() + limit, Some(Steady::default()));
    }

    /// How long the next call may wait.
    fn patience(&self, now: Instant) -> io::Result<Duration> {
        match self.until.saturating_duration_since(now) {
            Duration::ZERO => Err(slow("it took too long")),
            left => Ok(left.min(SILENCE_MAX)),
        }
    }

    /// Notes what passed; the time the server itself took is not the client's.
    fn moved(&mut self, since: Instant, count: usize) -> io::Result<usize> {
        let Some(steady) = &mut self.steady else { return Ok(count) };
        steady.waited += since.elapsed();
        steady.bytes += count as u64;
        if steady.bytes >= PROGRESS_BYTES {
            *steady = Steady::default();
        }
        if steady.waited > PROGRESS { Err(slow("too little came through")) } else { Ok(count) }
    }
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let now = Instant::now();
        self.stream.set_read_timeout(Some(self.patience(now)?))?;
        let count = self.stream.read(buffer).map_err(in_time)?;
        self.moved(now, count)
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = Instant::now();
        self.stream.set_write_timeout(Some(self.patience(now)?))?;
        let count = self.stream.write(bytes).map_err(in_time)?;
        self.moved(now, count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What a socket whose time is over says is `EAGAIN` (socket(7), `SO_RCVTIMEO`), which is no reason to try again.
fn in_time(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { slow("nothing came through") } else { error }
}

fn slow(how: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Paced, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Paced::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn what_drips_does_not_put_off_the_end() {
        let (mut server, mut client) = pair();
        server.within(Duration::from_millis(100));
        let dripping = std::thread::spawn(move || while client.write_all(b"x").is_ok() {});
        let error = io::copy(&mut server, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(server);
        dripping.join().unwrap();
    }

    #[test]
    fn silence_is_too_slow_too() {
        let (mut server, _client) = pair();
        server.within(Duration::from_millis(10));
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn little_is_not_enough_for_long() {
        let (mut server, _client) = pair();
        server.steadily_within(Duration::from_secs(3600));
        let before = Instant::now().checked_sub(PROGRESS * 2).unwrap();
        assert_eq!(server.moved(before, PROGRESS_BYTES as usize).unwrap(), PROGRESS_BYTES as usize);
        assert!(server.moved(before, 1).is_err());
    }
}
