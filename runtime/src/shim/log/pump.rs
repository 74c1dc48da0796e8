//! Moves output from a pipe to the log files, one batch at a time.

use super::cut::{self, RECORD_BYTES_MAX, Tail};
use super::file::LogFile;
use super::journal::Journal;
use super::record::Stream;
use crate::shim::audience::Audience;
use crate::time;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// One batch: the longest record. Every container's shim keeps as much.
const BATCH_BYTES_MAX: usize = RECORD_BYTES_MAX;
/// How long an unfinished line stays in the pipe before it is a record of its own, so that a prompt is seen too.
const UNFINISHED_MAX: Duration = Duration::from_secs(1);
/// When an unfinished line is looked at again: first and last pause. It cannot be polled for, the pipe is readable all the time.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// One pipe.
pub struct Pump {
    stream: Stream,
    pipe: OwnedFd,
    unfinished: Option<Unfinished>,
    /// How many bytes at its head the audience has seen: an unfinished line is shown at once, and logged when it is finished.
    shown: usize,
}

/// A line whose end has not come.
struct Unfinished {
    since: Instant,
    pause: Duration,
    look_again: Instant,
}

/// What the pumps of one container share.
pub struct Bench {
    copy_read: OwnedFd,
    copy_write: OwnedFd,
    nowhere: OwnedFd,
    buffer: Box<[u8]>,
    journal: Journal,
    /// Who sees it besides the log.
    pub audience: Audience,
}

/// What a batch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Something was written.
    Some,
    /// The pipe is empty, or holds only an unfinished line.
    Nothing,
}

impl Bench {
    /// Opens what is shared; the journal lies in the run directory.
    pub fn open(run: &Path) -> io::Result<Self> {
        let (copy_read, copy_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let nowhere = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        let buffer = vec![0; BATCH_BYTES_MAX].into_boxed_slice();
        Ok(Self { copy_read, copy_write, nowhere, buffer, journal: Journal::open(run)?, audience: Audience::default() })
    }

    /// Finishes or undoes the batch a killed predecessor was in the middle of. Before the first pump only.
    pub fn recover(&mut self, pumps: [&Pump; 2], log: &mut LogFile) -> io::Result<()> {
        let Some(entry) = self.journal.read() else { return Ok(()) };
        let pipe = pumps.into_iter().find(|pump| pump.stream == entry.stream).map(Pump::fd);
        if let Some(pipe) = pipe {
            let length = self.peek(pipe)?;
            if length >= entry.length && entry.is_of(&self.buffer[..entry.length]) {
                log.return_to(entry.mark);
            }
        }
        self.journal.clear()
    }

    /// Copies the head of a pipe into the buffer without taking it out; how many bytes.
    fn peek(&mut self, pipe: BorrowedFd<'_>) -> io::Result<usize> {
        let length = match rustix::pipe::tee(pipe, &self.copy_write, self.buffer.len(), SpliceFlags::NONBLOCK) {
            Ok(length) => length,
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut have = 0;
        while have < length {
            match rustix::io::read(&self.copy_read, &mut self.buffer[have..length])? {
                0 => return Err(io::Error::other("copy of the pipe is shorter than the kernel said")),
                more => have += more,
            }
        }
        Ok(length)
    }

    fn take_out(&self, pipe: BorrowedFd<'_>, mut length: usize) -> io::Result<()> {
        while length > 0 {
            match rustix::pipe::splice(pipe, None, &self.nowhere, None, length, SpliceFlags::NONBLOCK) {
                // A container can read its own pipe: what it took is gone already.
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(taken) => length -= taken,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Pump {
    /// A pump for this named pipe, opened for reading and writing so that it never ends.
    pub fn open(path: &Path, stream: Stream) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let pipe = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { stream, pipe, unfinished: None, shown: 0 })
    }

    /// The pipe.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// When to call [`Pump::pump`] without waiting for the pipe; `None`: when it is readable.
    pub fn look_again(&self) -> Option<Instant> {
        self.unfinished.as_ref().map(|unfinished| unfinished.look_again)
    }

    /// Moves one batch. With [`Tail::Cut`] an unfinished line goes too.
    pub fn pump(&mut self, bench: &mut Bench, log: &mut LogFile, tail: Tail, now: Instant) -> io::Result<Moved> {
        let length = bench.peek(self.pipe.as_fd())?;
        self.show(bench, length, now);
        if length == 0 {
            self.unfinished = None;
            return Ok(Moved::Nothing);
        }
        let overdue = self.unfinished.as_ref().is_some_and(|unfinished| now.duration_since(unfinished.since) >= UNFINISHED_MAX);
        let tail = if overdue { Tail::Cut } else { tail };
        let mut whole = 0;
        while let Some(record) = cut::next(&bench.buffer[whole..length], tail) {
            whole += record.len();
        }
        if whole == 0 {
            self.wait_for_more(now);
            return Ok(Moved::Nothing);
        }
        self.unfinished = None;
        self.write(bench, log, whole)?;
        self.shown = length - whole;
        Ok(Moved::Some)
    }

    /// Shows what has come since the last time. A container that reads its own pipe makes it shorter.
    fn show(&mut self, bench: &mut Bench, length: usize, now: Instant) {
        let fresh = &bench.buffer[self.shown.min(length)..length];
        bench.audience.show(self.stream.kind(), fresh, now);
        self.shown = length;
    }

    fn write(&self, bench: &mut Bench, log: &mut LogFile, whole: usize) -> io::Result<()> {
        if let Some(mark) = log.mark() {
            bench.journal.begin(self.stream, &bench.buffer[..whole], mark)?;
        }
        let time = time::format(time::now());
        let mut rest = &bench.buffer[..whole];
        while let Some(record) = cut::next(rest, Tail::Cut) {
            log.append(record, self.stream, &time);
            rest = &rest[record.len()..];
        }
        log.flush();
        bench.take_out(self.pipe.as_fd(), whole)?;
        bench.journal.clear()
    }

    fn wait_for_more(&mut self, now: Instant) {
        let pause = self.unfinished.as_ref().map_or(PAUSE_FIRST, |unfinished| (unfinished.pause * 2).min(PAUSE_MAX));
        let since = self.unfinished.as_ref().map_or(now, |unfinished| unfinished.since);
        self.unfinished = Some(Unfinished { since, pause, look_again: now + pause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::desired::LogLimits;
    use spec::value::ByteSize;
    use std::fs::File;
    use std::io::Write as _;

    struct Rig {
        directory: tempfile::TempDir,
        pump: Pump,
        bench: Bench,
        log: LogFile,
        writer: File,
    }

    fn rig() -> Rig {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("stdout");
        crate::shim::fifo::ensure(&path).expect("fifo");
        let pump = Pump::open(&path, Stream::Stdout).expect("pump");
        let writer = File::options().write(true).open(&path).expect("writer");
        let limits = LogLimits { max_size: ByteSize::from_bytes(1 << 20), max_files: 2 };
        let log = LogFile::new(directory.path().join("logs"), limits);
        let bench = Bench::open(directory.path()).expect("bench");
        Rig { directory, pump, bench, log, writer }
    }

    impl Rig {
        fn pump(&mut self, now: Instant) -> Moved {
            self.pump.pump(&mut self.bench, &mut self.log, Tail::Keep, now).expect("pump")
        }

        fn logged(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.directory.path().join("logs/current.log")).unwrap_or_default();
            let text_of = |line| serde_json::from_str::<serde_json::Value>(line).expect("record")["log"].as_str().map(str::to_owned);
            text.lines().map(|line| text_of(line).expect("text")).collect()
        }
    }

    #[test]
    fn whole_lines_move_and_an_unfinished_one_waits() {
        let mut rig = rig();
        let start = Instant::now();
        rig.writer.write_all(b"one\ntwo\nthr").expect("write");
        assert_eq!(rig.pump(start), Moved::Some);
        assert_eq!(rig.pump(start), Moved::Nothing);
        assert_eq!(rig.pump.look_again(), Some(start + PAUSE_FIRST));
        rig.writer.write_all(b"ee\n").expect("write");
        assert_eq!(rig.pump(start), Moved::Some);
        assert_eq!(rig.logged(), ["one\n", "two\n", "three\n"]);
        assert_eq!(rig.pump(start), Moved::Nothing);
        assert_eq!(rig.pump.look_again(), None);
    }

    #[test]
    fn a_prompt_is_seen_after_a_second() {
        let mut rig = rig();
        let start = Instant::now();
        rig.writer.write_all(b"login: ").expect("write");
        assert_eq!(rig.pump(start), Moved::Nothing);
        assert_eq!(rig.pump(start + UNFINISHED_MAX), Moved::Some);
        assert_eq!(rig.logged(), ["login: "]);
    }

    #[test]
    fn clients_see_every_byte_once_and_before_its_line_ends() {
        use std::io::Read as _;
        let mut rig = rig();
        let (start, later) = (Instant::now(), Instant::now() + UNFINISHED_MAX);
        let (mut client, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
        rig.bench.audience.admit(theirs, &crate::shim::protocol::Reply::Error { problem: String::new() });
        for (written, now) in [("one\nlog", start), ("in: ", start), ("", later), ("two", later), ("\n", later)] {
            rig.writer.write_all(written.as_bytes()).expect("write");
            while rig.pump(now) == Moved::Some {}
        }
        drop(rig.bench);
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).expect("read");
        let greeting = seen.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        let mut rest = &seen[greeting..];
        let mut shown = Vec::new();
        while let Ok(Some(frame)) = crate::shim::frame::first(rest) {
            shown.push(String::from_utf8_lossy(frame.payload).into_owned());
            rest = &rest[frame.length()..];
        }
        assert_eq!(shown, ["one\nlog", "in: ", "two", "\n"]);
    }

    #[test]
    fn long_lines_are_split_and_whole() {
        let mut rig = rig();
        let start = Instant::now();
        let line = "x".repeat(50_000) + "\n";
        rig.writer.write_all(line.as_bytes()).expect("write");
        while rig.pump(start) == Moved::Some {}
        assert_eq!(rig.logged().iter().map(String::len).collect::<Vec<_>>(), [16_384, 16_384, 16_384, 849]);
    }

    #[test]
    fn a_batch_written_but_not_taken_out_is_written_once() {
        let mut rig = rig();
        rig.writer.write_all(b"one\ntwo\n").expect("write");
        // A shim killed between the write and the taking out.
        let mark = rig.log.mark().expect("mark");
        rig.bench.journal.begin(Stream::Stdout, b"one\ntwo\n", mark).expect("journal");
        rig.log.append(b"one\n", Stream::Stdout, "T");
        rig.log.flush();
        let other = Pump::open(&rig.directory.path().join("stdout"), Stream::Stderr).expect("pump");
        rig.bench.recover([&rig.pump, &other], &mut rig.log).expect("recover");
        rig.pump(Instant::now());
        assert_eq!(rig.logged(), ["one\n", "two\n"]);
    }

    #[test]
    fn a_batch_taken_out_is_not_undone() {
        let mut rig = rig();
        let mark = rig.log.mark().expect("mark");
        rig.bench.journal.begin(Stream::Stdout, b"one\n", mark).expect("journal");
        rig.log.append(b"one\n", Stream::Stdout, "T");
        rig.log.flush();
        rig.writer.write_all(b"two\n").expect("write");
        let other = Pump::open(&rig.directory.path().join("stdout"), Stream::Stderr).expect("pump");
        rig.bench.recover([&rig.pump, &other], &mut rig.log).expect("recover");
        rig.pump(Instant::now());
        assert_eq!(rig.logged(), ["one\n", "two\n"]);
    }
}
