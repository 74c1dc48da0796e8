//! The whole watch in a process of its own, with real sources, real inotify and real signals.

use super::{CycleOutcome, CycleResult, Reason, Status, WatchOptions, is_watched, watch};
use crate::source::{Source, SourceOptions, SourceSpec};
use runtime::places::Places;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Long enough for anything on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Not a test by itself: the watch of the others. Its cycle says aloud what it was given, and does what the site's `web.yaml` says.
#[test]
fn child_that_watches() {
    let Some(place) = std::env::var_os("PLACE_OF_A_CHILD").map(PathBuf::from) else { return };
    let places = Places { state: place.join("state"), run: place.join("run"), config: place.join("config") };
    let spec = SourceSpec::parse(&std::env::var("SOURCE_OF_A_CHILD").unwrap(), SourceOptions::default()).unwrap();
    let source = Arc::new(Source::open(spec, &places.state).unwrap());
    let drift_interval = Duration::from_millis(std::env::var("DRIFT_OF_A_CHILD").unwrap().parse().unwrap());
    // A directory is followed by hints alone here: its poll never comes.
    let poll_interval = if source.watched().is_some() { NEVER } else { Duration::from_millis(500) };
    let options = WatchOptions { places, poll_interval, drift_interval };
    let ended = watch(source, options, |wake| {
        let text = fs::read_to_string(wake.checkout.root.join("web.yaml")).unwrap_or_default();
        println!("\ncycle {text} {:?} {}", wake.reasons, wake.fetch_problem.is_some());
        if text == "panic" {
            panic!("as told");
        }
        let begun = Instant::now();
        while text == "stuck" && wake.call_off.reason().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        if text == "stuck" {
            println!("\nheard and goes on");
            std::thread::sleep(SOON);
        }
        while text == "slow" && wake.call_off.reason().is_none() && begun.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (result, summary) = match (wake.call_off.reason(), text.as_str()) {
            (Some(reason), _) => {
                println!("\ncalled off {reason:?}");
                (CycleResult::CalledOff, String::new())
            }
            (None, "fail") => (CycleResult::Failed(vec!["as told".into()]), String::new()),
            (None, _) => (CycleResult::Settled, if wake.reasons.contains(&Reason::SourceMoved) { "1 created" } else { "" }.into()),
        };
        CycleOutcome { result, summary, commits: BTreeMap::new(), again: None }
    });
    println!("\nended {:?}", ended.map_err(|error| error.to_string()));
}

/// A watch in a process of its own; killed when dropped.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(place: &Path, source: &str, drift: Duration) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "daemon::tests::child_that_watches", "--nocapture"])
            .envs([("PLACE_OF_A_CHILD", place.to_str().unwrap()), ("SOURCE_OF_A_CHILD", source)])
            .env("DRIFT_OF_A_CHILD", drift.as_millis().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Waits for a line with this in it.
    fn says(&self, text: &str) -> String {
        let end = Instant::now() + SOON;
        let mut heard = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            heard.push(line);
        }
        panic!("{text:?} was not said, only {heard:?}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place_with(text: &str) -> (tempfile::TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("web.yaml"), text).unwrap();
    let source = site.to_str().unwrap().to_owned();
    (directory, site, source)
}

const NEVER: Duration = Duration::from_secs(1000);

#[test]
fn every_change_of_a_directory_and_of_a_container_is_followed() {
    let (directory, site, source) = place_with("one");
    let watching = Watching::start(directory.path(), &source, NEVER);
    assert_eq!(watching.says("cycle"), "cycle one {SourceMoved} false");
    fs::write(site.join("new"), "two").unwrap();
    fs::rename(site.join("new"), site.join("web.yaml")).unwrap();
    assert_eq!(watching.says("cycle two"), "cycle two {SourceMoved} false");

    let container = directory.path().join("run/containers/web@1");
    fs::create_dir_all(&container).unwrap();
    watching.says("cycle two {ContainerChanged}");
    // Nothing changes, nothing happens: every further cycle is one that was asked for.
    for _ in 0..3 {
        watching.signal(Signal::HUP);
        assert_eq!(watching.says("cycle"), "cycle two {Asked} false");
    }
    watching.signal(Signal::TERM);
    watching.says("ended Ok(())");
}

#[test]
fn a_directory_that_was_renamed_away_and_made_anew_is_followed() {
    let (directory, site, source) = place_with("one");
    let watching = Watching::start(directory.path(), &source, NEVER);
    watching.says("cycle one");
    fs::rename(&site, directory.path().join("old")).unwrap();
    fs::create_dir_all(&site).unwrap();
    fs::write(site.join("web.yaml"), "two").unwrap();
    watching.says("cycle two");
    fs::create_dir_all(site.join("n/e/w")).unwrap();
    fs::write(site.join("n/e/w/db.yaml"), "db").unwrap();
    watching.says("cycle two {SourceMoved}");
    fs::write(site.join("web.yaml"), "three").unwrap();
    watching.says("cycle three");
}

#[test]
fn the_host_is_looked_at_without_a_hint() {
    let (directory, _site, source) = place_with("one");
    let watching = Watching::start(directory.path(), &source, Duration::from_millis(100));
    for _ in 0..5 {
        watching.says("cycle one {Due}");
    }
}

#[test]
fn a_newer_revision_calls_a_running_cycle_off() {
    let (directory, site, source) = place_with("slow");
    let watching = Watching::start(directory.path(), &source, NEVER);
    watching.says("cycle slow");
    fs::write(site.join("web.yaml"), "two").unwrap();
    watching.says("called off NewerRevision");
    watching.says("cycle two");
}

#[test]
fn an_end_waits_for_the_step_that_runs_and_a_second_one_does_not() {
    let (directory, _site, source) = place_with("slow");
    let watching = Watching::start(directory.path(), &source, NEVER);
    watching.says("cycle slow");
    assert!(is_watched(&directory.path().join("run")).unwrap());
    watching.signal(Signal::TERM);
    watching.says("called off End");
    watching.says("ended Ok(())");
    drop(watching);
    assert!(!is_watched(&directory.path().join("run")).unwrap());

    let (directory, _site, source) = place_with("stuck");
    let watching = Watching::start(directory.path(), &source, NEVER);
    watching.says("cycle stuck");
    watching.signal(Signal::TERM);
    watching.says("heard and goes on");
    assert!(is_watched(&directory.path().join("run")).unwrap());
    watching.signal(Signal::TERM);
    watching.says("ended Ok(())");
}

#[test]
fn failures_are_told_and_tried_again_and_a_new_revision_is_not_kept_waiting() {
    let (directory, site, source) = place_with("fail");
    let watching = Watching::start(directory.path(), &source, Duration::from_millis(100));
    watching.says("cycle fail {SourceMoved}");
    // At which pace, the tests of the queue say. When it is tried again, what came of it before is known.
    watching.says("cycle fail {Due}");
    let status = Status::read(&directory.path().join("run")).unwrap().unwrap();
    let cycle = status.cycle.unwrap();
    assert_eq!((cycle.result.as_str(), cycle.errors), ("failed", vec!["as told".to_owned()]));
    fs::write(site.join("web.yaml"), "two").unwrap();
    // Not because it was time to try again.
    assert_eq!(watching.says("cycle two"), "cycle two {SourceMoved} false");
}

#[test]
fn a_push_is_followed_and_a_lost_remote_changes_nothing() {
    let (directory, site, _) = place_with("one");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Test", "-c", "user.email=test@localhost"]).args(arguments).current_dir(&site);
        assert!(command.env("GIT_CONFIG_GLOBAL", "/dev/null").stdout(Stdio::null()).status().unwrap().success());
    };
    let bare = directory.path().join("site.git");
    git(&["init", "-q", "-b", "main", "."]);
    git(&["init", "-q", "--bare", "-b", "main", "../site.git"]);
    let push = || {
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "change"]);
        git(&["push", "-q", "../site.git", "HEAD:main"]);
    };
    push();
    let url = format!("file://{}", bare.display());
    let watching = Watching::start(directory.path(), &url, Duration::from_millis(200));
    watching.says("cycle one {SourceMoved} false");
    fs::write(site.join("web.yaml"), "two").unwrap();
    push();
    watching.says("cycle two {SourceMoved} false");

    fs::rename(&bare, directory.path().join("away.git")).unwrap();
    watching.says("cycle two {Due} true");
    let status = Status::read(&directory.path().join("run")).unwrap().unwrap();
    assert!(status.fetch.problem.unwrap().contains("is not a Git repository"));
    drop(watching);
    let again = Watching::start(directory.path(), &url, Duration::from_millis(200));
    // Whether the remote was found lost by then is a matter of who is faster.
    again.says("cycle two {SourceMoved}");
    again.says("cycle two {Due} true");
    fs::rename(directory.path().join("away.git"), &bare).unwrap();
    again.signal(Signal::HUP);
    again.says("cycle two {Due} false");
}

#[test]
fn two_watches_do_not_run_over_the_same_directories() {
    let (directory, _site, source) = place_with("one");
    let first = Watching::start(directory.path(), &source, NEVER);
    first.says("cycle one");
    let second = Watching::start(directory.path(), &source, NEVER);
    assert!(second.says("ended").contains("another watch runs"));
}

#[test]
fn a_cycle_that_breaks_off_ends_the_watch() {
    let (directory, _site, source) = place_with("panic");
    let watching = Watching::start(directory.path(), &source, NEVER);
    assert!(watching.says("ended").contains("a cycle broke off"));
}
