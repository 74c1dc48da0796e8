//! `logs`: reads what a container wrote, across rotated files, and follows it.

use super::error::ContainerError;
use super::list::{inspect, read_state};
use super::state::{Phase, Timestamp};
use super::transient::stay;
use crate::places::Places;
use crate::shim::log::file::path as log_path;
use crate::shim::log::record::Stream;
use crate::time;
use serde::Deserialize;
use spec::value::ContainerId;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest line of a log file: a record of 16 KiB where each byte needs six, and its frame.
const LINE_BYTES_MAX: u64 = 6 * 16 * 1024 + 256;
/// How often a followed file is looked at again.
const POLL: Duration = Duration::from_millis(50);
/// Most old files looked for: far above what a configuration asks for.
const FILES_MAX: u32 = 1000;

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Only so many of the last records; all if `None`.
    pub tail: Option<usize>,
    /// Only records from then on.
    pub since: Option<Timestamp>,
    /// Only records before then.
    pub until: Option<Timestamp>,
    /// Whether to go on until the container has exited.
    pub follow: Follow,
}

/// Whether a reader goes on at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Follow {
    /// It stops.
    #[default]
    Stop,
    /// It waits for more, until the container has exited for good.
    UntilExit,
}

/// One piece of output. `text` ends in a line end unless the line was longer than 16 KiB or never ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// What was written.
    pub text: String,
    /// Where to.
    pub stream: Stream,
    /// When it was read.
    pub time: Timestamp,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    stream: Stream,
    #[serde(borrow)]
    time: std::borrow::Cow<'a, str>,
}

/// Calls `show` with each record in order, until the end or until it breaks. Lines that are no records (torn by a power failure)
/// are skipped.
pub fn logs(
    places: &Places,
    id: &ContainerId,
    query: LogQuery,
    mut show: impl FnMut(LogRecord) -> ControlFlow<()>,
) -> Result<(), ContainerError> {
    let _stay = stay(places, id)?;
    inspect(places, id)?;
    let directory = places.container(id).join("logs");
    let mut reader = Reader::oldest(directory)?;
    let wanted =
        |record: &LogRecord| query.since.is_none_or(|since| record.time >= since) && query.until.is_none_or(|until| record.time < until);
    let mut last = VecDeque::new();
    while let Some(record) = reader.next()? {
        match query.tail {
            _ if !wanted(&record) => {}
            Some(tail) => {
                last.push_back(record);
                if last.len() > tail {
                    last.pop_front();
                }
            }
            None => {
                if show(record).is_break() {
                    return Ok(());
                }
            }
        }
    }
    for record in last {
        if show(record).is_break() {
            return Ok(());
        }
    }
    match query.follow {
        Follow::Stop => Ok(()),
        Follow::UntilExit => follow(places, id, &mut reader, wanted, show),
    }
}

fn follow(
    places: &Places,
    id: &ContainerId,
    reader: &mut Reader,
    wanted: impl Fn(&LogRecord) -> bool,
    mut show: impl FnMut(LogRecord) -> ControlFlow<()>,
) -> Result<(), ContainerError> {
    loop {
        // Asked before reading: what was logged before it exited is then read below.
        let over = matches!(read_state(places, id)?.phase, Phase::Created | Phase::Exited { .. });
        while let Some(record) = reader.next()? {
            if wanted(&record) && show(record).is_break() {
                return Ok(());
            }
        }
        if over {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// Reads on from file to file while they are renamed under it.
struct Reader {
    directory: PathBuf,
    file: Option<BufReader<File>>,
    line: Vec<u8>,
}

impl Reader {
    fn oldest(directory: PathBuf) -> Result<Self, ContainerError> {
        let file = open_oldest(&directory)?;
        Ok(Self { directory, file, line: Vec::new() })
    }

    /// The next record; `None` at the end of what there is now.
    fn next(&mut self) -> Result<Option<LogRecord>, ContainerError> {
        loop {
            if self.file.is_none() {
                self.file = open_oldest(&self.directory)?;
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            let left = LINE_BYTES_MAX.saturating_sub(self.line.len() as u64);
            let error = ContainerError::file("read log in", &self.directory);
            file.take(left).read_until(b'\n', &mut self.line).map_err(error)?;
            if self.line.ends_with(b"\n") || self.line.len() as u64 >= LINE_BYTES_MAX {
                let record = parse(&self.line);
                self.line.clear();
                match record {
                    Some(record) => return Ok(Some(record)),
                    None => continue,
                }
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// Goes on to the next younger file, if the one at hand is no longer the current one and is read to its end.
    fn advance(&mut self) -> Result<bool, ContainerError> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let at_hand = identity(file.get_ref()).map_err(ContainerError::file("stat log in", &self.directory))?;
        let age = (0..FILES_MAX)
            .map(|age| (age, std::fs::metadata(log_path(&self.directory, age)).ok().map(|found| (found.dev(), found.ino()))))
            .take_while(|(_, found)| found.is_some())
            .find(|(_, found)| *found == Some(at_hand))
            .map(|(age, _)| age);
        if age == Some(0) || std::fs::metadata(log_path(&self.directory, 0)).is_err() {
            return Ok(false);
        }
        // It was renamed after our last read: it may have grown before that.
        let mut rest = Vec::new();
        let error = ContainerError::file("read log in", &self.directory);
        file.take(LINE_BYTES_MAX).read_until(b'\n', &mut rest).map_err(error)?;
        if !rest.is_empty() {
            self.line.append(&mut rest);
            return Ok(true);
        }
        // Gone altogether: rotated out while we read; the oldest there is comes next.
        self.line.clear();
        self.file = match age {
            Some(age) => open(&log_path(&self.directory, age - 1))?,
            None => open_oldest(&self.directory)?,
        };
        Ok(true)
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn open(path: &Path) -> Result<Option<BufReader<File>>, ContainerError> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ContainerError::file("open", path)(error)),
    }
}

fn open_oldest(directory: &Path) -> Result<Option<BufReader<File>>, ContainerError> {
    let oldest = (1..FILES_MAX).take_while(|age| log_path(directory, *age).exists()).last().unwrap_or(0);
    open(&log_path(directory, oldest))
}

fn parse(line: &[u8]) -> Option<LogRecord> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(LogRecord { text: line.log.into_owned(), stream: line.stream, time: time::parse(&line.time)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::log::file::LogFile;
    use spec::desired::LogLimits;
    use spec::value::ByteSize;

    fn log(directory: &Path, max_files: u32) -> LogFile {
        LogFile::new(directory.to_owned(), LogLimits { max_size: ByteSize::from_bytes(1000), max_files })
    }

    fn append(log: &mut LogFile, numbers: std::ops::Range<u32>) {
        for number in numbers {
            log.append(format!("{number}\n").as_bytes(), Stream::Stdout, "2026-01-01T00:00:00.000000000Z");
        }
        log.flush();
    }

    fn read(reader: &mut Reader) -> Vec<u32> {
        std::iter::from_fn(|| reader.next().expect("read")).map(|record| record.text.trim().parse().expect("number")).collect()
    }

    #[test]
    fn rotated_files_are_read_in_order() {
        let directory = tempfile::tempdir().expect("directory");
        append(&mut log(directory.path(), 100), 0..200);
        let mut reader = Reader::oldest(directory.path().to_owned()).expect("reader");
        assert_eq!(read(&mut reader), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_follower_misses_nothing_across_rotations() {
        let directory = tempfile::tempdir().expect("directory");
        let mut log = log(directory.path(), 100);
        let mut reader = Reader::oldest(directory.path().to_owned()).expect("reader");
        let mut seen = Vec::new();
        for start in (0..1000).step_by(50) {
            append(&mut log, start..start + 50);
            seen.extend(read(&mut reader));
        }
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_follower_that_is_too_slow_goes_on_with_the_oldest() {
        let directory = tempfile::tempdir().expect("directory");
        let mut log = log(directory.path(), 2);
        append(&mut log, 0..5);
        let mut reader = Reader::oldest(directory.path().to_owned()).expect("reader");
        assert_eq!(read(&mut reader), [0, 1, 2, 3, 4]);
        append(&mut log, 5..500);
        let seen = read(&mut reader);
        assert_eq!(seen.last(), Some(&499));
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    }

    #[test]
    fn torn_lines_are_skipped() {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("current.log"), "{\"log\":\"to\n").expect("write");
        append(&mut log(directory.path(), 2), 7..8);
        let mut reader = Reader::oldest(directory.path().to_owned()).expect("reader");
        assert_eq!(read(&mut reader), [7]);
    }
}
