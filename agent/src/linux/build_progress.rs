//! How a build is told to people: lines as BuildKit prints them, and a log of each build.

use runtime::builder::{BuildEvent, StepEvent, StepLabel};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Logs kept: more than anybody reads, less than matters to a disk.
const LOGS_MAX: usize = 32;
/// Most bytes of one log; what a build says after that is lost to it.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// Progress of a build as lines: `#4 [build 2/3] RUN make`, `#4 0.512 output`, `#4 DONE 1.2s`.
#[derive(Default)]
pub struct BuildLines(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    /// Steps in the order in which they began.
    begun: BTreeMap<StepLabel, Begun>,
    /// Whose output came last.
    last: usize,
}

#[derive(Clone, Copy)]
struct Begun {
    number: usize,
    since: Instant,
    cached: bool,
}

impl BuildLines {
    /// Hands over the lines for an event, if there are any.
    pub fn tell(&self, event: &BuildEvent<'_>, show: &dyn Fn(&str)) {
        // Held while showing: lines of two steps do not come between each other.
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Begun { number: lines.begun.len() + 1, since: Instant::now(), cached: false };
        let step = lines.begun.entry(event.step.clone()).or_insert(next);
        let Begun { number, since, cached } = *step;
        let line = match &event.what {
            StepEvent::Started => event.step.to_string(),
            StepEvent::Cached => {
                step.cached = true;
                "CACHED".to_owned()
            }
            StepEvent::Fetching { reference } => format!("looking for {reference}"),
            StepEvent::Output { line } => {
                if lines.last != number {
                    show(&format!("#{number} {}", event.step));
                }
                format!("{:.3} {line}", since.elapsed().as_secs_f64())
            }
            StepEvent::Finished { .. } if cached => return,
            StepEvent::Finished { took } => format!("DONE {:.1}s", took.as_secs_f64()),
            StepEvent::Failed { took } => format!("ERROR after {:.1}s", took.as_secs_f64()),
            StepEvent::Stopped => "CANCELED".to_owned(),
        };
        lines.last = number;
        show(&format!("#{number} {line}"));
    }
}

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
    use std::time::Duration;

    fn step(stage: &str, number: usize, instruction: &str) -> StepLabel {
        StepLabel { stage: 0, stage_name: stage.to_owned(), number, steps: 3, instruction: instruction.to_owned() }
    }

    #[test]
    fn lines_as_buildkit_has_them() {
        let (lines, shown) = (BuildLines::default(), Mutex::new(Vec::new()));
        let tell = |step: &StepLabel, what: StepEvent<'_>| {
            lines.tell(&BuildEvent { step, what }, &|line| shown.lock().unwrap().push(line.to_owned()));
        };
        let (from, run) = (step("", 1, "FROM a"), step("build", 2, "RUN make \\\n  all"));
        tell(&from, StepEvent::Started);
        tell(&run, StepEvent::Started);
        tell(&run, StepEvent::Output { line: "one" });
        tell(&from, StepEvent::Cached);
        tell(&from, StepEvent::Finished { took: Duration::ZERO });
        tell(&run, StepEvent::Output { line: "two" });
        tell(&run, StepEvent::Failed { took: Duration::from_millis(1230) });
        let shown = shown.into_inner().unwrap().into_iter().map(|line| line.replace("0.000 ", "")).collect::<Vec<_>>();
        let header = "#2 [build 2/3] RUN make \\";
        assert_eq!(shown, ["#1 [1/3] FROM a", header, "#2 one", "#1 CACHED", header, "#2 two", "#2 ERROR after 1.2s"]);
    }

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
