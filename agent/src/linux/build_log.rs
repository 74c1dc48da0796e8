//! The log of each build: all that it said, for a while.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Logs kept: more than anybody reads, less than matters to a disk.
const LOGS_MAX: usize = 32;
/// Most bytes of one log; what a build says after that is lost to it.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// The log of a build: `<state>/builds/<time>-<process>.log`, made with its first line.
pub struct BuildLog {
    directory: PathBuf,
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
}

impl BuildLog {
    /// A log for a build that begins now.
    pub fn new(state: &Path) -> Self {
        let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
        let directory = state.join("builds");
        let path = directory.join(format!("{milliseconds}-{}.log", std::process::id()));
        Self { directory, path, file: Mutex::new(None) }
    }

    /// Adds a line. A log that cannot be written fails no build.
    pub fn line(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = self.open().ok().map(|file| (file, 0));
        }
        if let Some((file, written)) = file.as_mut()
            && *written < LOG_BYTES_MAX
        {
            *written += line.len() as u64 + 1;
            let end = if *written < LOG_BYTES_MAX { "" } else { "... the rest is not kept\n" };
            let _ = file.write_all(format!("{line}\n{end}").as_bytes());
        }
    }

    /// Where it is, if a line was written.
    pub fn path(&self) -> Option<&Path> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).is_some().then_some(&self.path)
    }

    fn open(&self) -> std::io::Result<File> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut logs: Vec<PathBuf> = fs::read_dir(&self.directory)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        // Their names begin with the time.
        logs.sort_unstable();
        for old in logs.iter().take((logs.len() + 1).saturating_sub(LOGS_MAX)) {
            fs::remove_file(old)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_few_and_bounded() {
        let state = tempfile::tempdir().unwrap();
        let builds = state.path().join("builds");
        let unused = BuildLog::new(state.path());
        assert!(unused.path().is_none() && !builds.exists());
        fs::create_dir(&builds).unwrap();
        for number in 0..LOGS_MAX + 5 {
            fs::write(builds.join(format!("{number:013}-1.log")), "").unwrap();
        }
        let log = BuildLog::new(state.path());
        let line = "x".repeat(1 << 20);
        (0..20).for_each(|_| log.line(&line));
        let path = log.path().unwrap();
        assert!(fs::metadata(path).unwrap().len() <= LOG_BYTES_MAX + (2 << 20));
        assert_eq!(fs::read_dir(&builds).unwrap().count(), LOGS_MAX);
    }
}
