//! The log files of one container: `current.log`, then `current.log.1` (newest of the old) and so on; rotated by size, kept by count.
//!
//! A disk that is full, or fails, loses records but never stops the container: what was lost is counted and said in the log
//! as soon as it can be written again.

use super::record::{self, Stream};
use crate::time;
use spec::desired::LogLimits;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Records gathered before they are written in one call. Every container's shim keeps as much.
const PENDING_BYTES_MAX: usize = 8 * 1024;

/// The name of the file that is written to.
pub const CURRENT: &str = "current.log";

/// The log files of one container, open for appending.
pub struct LogFile {
    directory: PathBuf,
    limits: LogLimits,
    /// Absent after an error; opened again at the next write.
    file: Option<File>,
    size_bytes: u64,
    pending: Vec<u8>,
    pending_records: u64,
    lost: Option<Lost>,
}

/// A place in the current log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which file.
    pub inode: u64,
    /// Its length.
    pub size_bytes: u64,
}

struct Lost {
    records: u64,
    why: io::Error,
}

/// The path of the n-th old file, from 1; 0 is the current one.
pub fn path(directory: &Path, age: u32) -> PathBuf {
    if age == 0 { directory.join(CURRENT) } else { directory.join(format!("{CURRENT}.{age}")) }
}

impl LogFile {
    /// The files in this directory, which is made if absent. Opens nothing yet.
    pub fn new(directory: PathBuf, limits: LogLimits) -> Self {
        Self { directory, limits, file: None, size_bytes: 0, pending: Vec::new(), pending_records: 0, lost: None }
    }

    /// Adds one record; it may reach the file only with [`LogFile::flush`].
    pub fn append(&mut self, text: &[u8], stream: Stream, time: &str) {
        if self.file.is_none() && self.pending.is_empty() {
            // Only to learn its size; a failure shows again, and is counted, when the record is written.
            let _ = self.open();
        }
        let before = self.pending.len();
        record::append(&mut self.pending, text, stream, time);
        let needed = self.size_bytes + self.pending.len() as u64;
        if needed > self.limits.max_size.bytes() && self.size_bytes + before as u64 > 0 {
            let last = self.pending.split_off(before);
            self.flush();
            self.rotate();
            self.pending = last;
        }
        self.pending_records += 1;
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes what was gathered. What cannot be written is dropped and counted.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let records = std::mem::take(&mut self.pending_records);
        let result = match self.open().and_then(|()| self.say_what_was_lost()) {
            Ok(()) => write_whole(self.file.as_mut(), &self.pending, &mut self.size_bytes),
            Err(why) => Err(why),
        };
        self.pending.clear();
        self.pending.shrink_to(2 * PENDING_BYTES_MAX);
        if let Err(why) = result {
            self.file = None;
            let lost = self.lost.get_or_insert(Lost { records: 0, why });
            lost.records += records;
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            std::fs::create_dir_all(&self.directory)?;
            let options = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(self.directory.join(CURRENT));
            let mut file = options?;
            self.size_bytes = file.metadata()?.len();
            self.size_bytes += end_torn_line(&mut file, self.size_bytes)?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// Inode and length of the file that the next record goes to, as a mark to return to.
    pub fn mark(&mut self) -> Option<Mark> {
        self.open().ok()?;
        let metadata = self.file.as_ref()?.metadata().ok()?;
        Some(Mark { inode: metadata.ino(), size_bytes: self.size_bytes })
    }

    /// Cuts off what was written since the mark, if it was made in the file that is current now.
    pub fn return_to(&mut self, mark: Mark) {
        if self.mark().is_some_and(|now| now.inode == mark.inode && now.size_bytes > mark.size_bytes) {
            if let Some(file) = &self.file {
                let _ = file.set_len(mark.size_bytes);
            }
            self.file = None;
        }
    }

    fn say_what_was_lost(&mut self) -> io::Result<()> {
        let Some(lost) = &self.lost else { return Ok(()) };
        let text = format!("[agent] {} lines of output are lost: {}\n", lost.records, lost.why);
        let mut notice = Vec::new();
        record::append(&mut notice, text.as_bytes(), Stream::Stderr, &time::format(time::now()));
        write_whole(self.file.as_mut(), &notice, &mut self.size_bytes)?;
        self.lost = None;
        Ok(())
    }

    /// Moves every file one further and drops the oldest. If that fails the current file grows on: better too long than lost.
    fn rotate(&mut self) {
        let last = self.limits.max_files.saturating_sub(1);
        if last == 0 {
            // Removed, not truncated: a reader that follows sees a new file and reads the old one to its end.
            let _ = std::fs::remove_file(path(&self.directory, 0));
        }
        for age in (0..last).rev() {
            let _ = std::fs::rename(path(&self.directory, age), path(&self.directory, age + 1));
        }
        self.file = None;
        self.size_bytes = 0;
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Ends the last line if a power failure has cut it off, so that it spoils no other. How many bytes that took.
fn end_torn_line(file: &mut File, size_bytes: u64) -> io::Result<u64> {
    let mut last = [b'\n'];
    if size_bytes > 0 {
        file.read_exact_at(&mut last, size_bytes - 1)?;
    }
    if last == [b'\n'] {
        return Ok(0);
    }
    file.write_all(b"\n")?;
    Ok(1)
}

/// Writes all or nothing: a record torn by a full disk is cut off again.
fn write_whole(file: Option<&mut File>, bytes: &[u8], size_bytes: &mut u64) -> io::Result<()> {
    let Some(file) = file else { return Err(io::Error::other("log file is not open")) };
    match file.write_all(bytes) {
        Ok(()) => {
            *size_bytes += bytes.len() as u64;
            Ok(())
        }
        Err(error) => {
            file.set_len(*size_bytes)?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::value::ByteSize;

    fn limits(max_size: u64, max_files: u32) -> LogLimits {
        LogLimits { max_size: ByteSize::from_bytes(max_size), max_files }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("directory").map(|entry| entry.expect("entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().expect("name")).collect();
        names.sort();
        names
    }

    #[test]
    fn files_rotate_by_size_and_are_kept_by_count() {
        let directory = tempfile::tempdir().expect("directory");
        let mut log = LogFile::new(directory.path().to_owned(), limits(200, 3));
        for line in 0..20 {
            log.append(format!("line {line}\n").as_bytes(), Stream::Stdout, "T");
        }
        log.flush();
        assert_eq!(names(directory.path()), ["current.log", "current.log.1", "current.log.2"]);
        let mut kept = String::new();
        for age in (0..3).rev() {
            let text = std::fs::read_to_string(path(directory.path(), age)).expect("log file");
            assert!(text.len() <= 200, "{} bytes", text.len());
            kept.push_str(&text);
        }
        let lines: Vec<_> = kept.lines().collect();
        assert!(lines.len() >= 8 && lines[lines.len() - 1].contains("line 19"));
        let first: usize = 20 - lines.len();
        assert!(lines[0].contains(&format!("line {first}\\n")), "no gap between files: {}", lines[0]);
    }

    #[test]
    fn one_file_is_started_anew() {
        let directory = tempfile::tempdir().expect("directory");
        let mut log = LogFile::new(directory.path().to_owned(), limits(100, 1));
        for line in 0..10 {
            log.append(format!("line {line}\n").as_bytes(), Stream::Stdout, "T");
        }
        log.flush();
        assert_eq!(names(directory.path()), ["current.log"]);
        assert!(std::fs::read_to_string(path(directory.path(), 0)).expect("log file").contains("line 9"));
    }

    #[test]
    fn a_record_larger_than_the_limit_has_a_file_of_its_own() {
        let directory = tempfile::tempdir().expect("directory");
        let mut log = LogFile::new(directory.path().to_owned(), limits(10, 5));
        for line in 0..3 {
            log.append(format!("line {line}\n").as_bytes(), Stream::Stdout, "T");
        }
        log.flush();
        assert_eq!(names(directory.path()), ["current.log", "current.log.1", "current.log.2"]);
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(path(directory.path(), 0), "{\"log\":\"to").expect("write");
        let mut log = LogFile::new(directory.path().to_owned(), limits(10_000, 3));
        log.append(b"whole\n", Stream::Stdout, "T");
        log.flush();
        let text = std::fs::read_to_string(path(directory.path(), 0)).expect("log file");
        assert_eq!(text, "{\"log\":\"to\n{\"log\":\"whole\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n");
    }

    #[test]
    fn what_is_lost_is_counted_and_said() {
        let directory = tempfile::tempdir().expect("directory");
        let blocked = directory.path().join("logs");
        std::fs::write(&blocked, "a file where the directory should be").expect("write");
        let mut log = LogFile::new(blocked.clone(), limits(10_000, 3));
        for _ in 0..3 {
            log.append(b"gone\n", Stream::Stdout, "T");
            log.flush();
        }
        std::fs::remove_file(&blocked).expect("remove");
        log.append(b"kept\n", Stream::Stdout, "T");
        log.flush();
        let text = std::fs::read_to_string(path(&blocked, 0)).expect("log file");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("3 lines of output are lost"), "{text}");
        assert!(lines[1].contains("kept"), "{text}");
    }
}
