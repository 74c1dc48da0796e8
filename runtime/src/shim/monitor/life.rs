//! The transitions: starting, taking over, ending.

use super::health::Prober;
use super::streams::{Files, Input};
use super::watched::{Outcome, Watched};
use super::{Ending, Life, Monitor, Running, Then};
use crate::container::config::NetworkConfig;
use crate::container::list::STOPPED;
use crate::container::liveness::{self, Liveness};
use crate::container::state::{Exit, ExitCause, Health, Phase, Timestamp};
use crate::process::{self, StartError, StartRequest, Stdio};
use crate::shim::policy::{Backoff, Verdict};
use crate::time;
use spec::value::Signal;
use std::io;
use std::time::{Duration, Instant};

/// The exit code of a process whose end nobody saw.
const CODE_UNKNOWN: i32 = 255;

impl Monitor {
    /// Starts the process. The configuration is the one on disk now.
    pub(super) fn start(&mut self, input: Input) -> Result<(), StartError> {
        let mut started = self.start_process(input)?;
        self.use_terminal(&mut started);
        let (began, oom_kills_before) = (Instant::now(), self.cgroup.oom_kills().unwrap_or(0));
        let prober = Prober::new(self.config.health.as_ref(), began, began, None).map(Box::new);
        let process = Watched::child(started.process, started.pidfd);
        self.starts += 1;
        self.life = Life::Running(Running { process, since: time::now(), began, oom_kills_before, prober, ending: None });
        self.publish();
        Ok(())
    }

    fn start_process(&mut self, input: Input) -> Result<process::Started, StartError> {
        let files = if self.config.tty { None } else { Some(self.open_files(input)?) };
        let namespace = self.ground.run.join("netns");
        let request = StartRequest {
            config: &self.config,
            directory: &self.ground.directory,
            cgroup: &self.cgroup,
            network_namespace: match self.config.network {
                NetworkConfig::Bridged { .. } => Some(&namespace),
                NetworkConfig::Host | NetworkConfig::None => None,
            },
            stdio: files.as_ref().map_or(Stdio::Terminal(self.size), Files::stdio),
        };
        process::start(&request)
    }

    /// Goes on where a predecessor was.
    pub(super) fn take_over(&mut self, phase: Phase) -> io::Result<()> {
        self.backoff = Backoff::resumed(self.restarts);
        let now = Instant::now();
        match phase {
            Phase::Running { process, since, health } => {
                let began = now.checked_sub(since_then(since)).unwrap_or(now);
                let known = Some(health).filter(|health| *health != Health::Unchecked);
                self.life = Life::Running(Running {
                    process: Watched::stranger(process)?,
                    since,
                    began,
                    oom_kills_before: self.cgroup.oom_kills().unwrap_or(0),
                    prober: Prober::new(self.config.health.as_ref(), began, now, known).map(Box::new),
                    // A stop that the predecessor did not finish: its end is then no reason to start it again.
                    ending: self.is_stopped_by_user().then_some(Ending { kill_at: None, then: Then::Stay }),
                });
                self.resume_terminal();
                if liveness::of(process) == Liveness::Gone {
                    self.end(Outcome::Unknown, now);
                }
            }
            Phase::Restarting { exit, due } => {
                let left = Duration::from_nanos(u64::try_from(due.0.saturating_sub(time::now().0)).unwrap_or(0));
                // The wall clock may have jumped: never later than the longest delay.
                self.life = Life::Restarting { exit, due, at: now + left.min(crate::shim::policy::DELAY_MAX) };
            }
            Phase::Created => self.life = Life::Exited { exit: never_started() },
            Phase::Exited { exit } => self.life = Life::Exited { exit },
        }
        // An exit for good is published when everything is tidied up.
        if !matches!(self.life, Life::Exited { .. }) {
            self.publish();
        }
        Ok(())
    }

    /// The process has ended: its last output, why, and what comes next.
    pub(super) fn end(&mut self, outcome: Outcome, now: Instant) {
        let Life::Running(running) = &self.life else { return };
        let lived = now.duration_since(running.began);
        let then = running.ending.as_ref().map(|ending| ending.then);
        let oom_kills = self.cgroup.oom_kills().unwrap_or(0).saturating_sub(running.oom_kills_before);
        let requested = then.is_some() || self.is_stopped_by_user();
        let exit = exit(outcome, requested, oom_kills, running.since);
        // What it left behind: processes that joined from outside. Its own died with it.
        if let Err(error) = self.cgroup.kill_all() {
            self.note("end what is left", &error);
        }
        self.drain();
        self.terminal = None;
        if then == Some(Then::StartAgain) {
            self.dismiss(&exit);
            self.backoff = Backoff::default();
            self.start_again(exit);
        } else {
            self.follow_policy(exit, lived, now);
        }
    }

    /// Starts again because it was asked for, or is due.
    pub(super) fn start_again(&mut self, last: Exit) {
        if let Err(error) = self.reload() {
            self.note("read configuration", &error);
        }
        if let Err(error) = self.start(Input::Endless) {
            self.life = Life::Exited { exit: last };
            self.start_failed(&error);
        }
    }

    /// A start that failed is an exit, and the policy's business like any other.
    fn start_failed(&mut self, error: &StartError) {
        let now = time::now();
        let cause = ExitCause::StartFailed { reason: crate::shim::chain(error) };
        let exit = Exit { code: error.exit_code(), cause, started: now, finished: now };
        self.follow_policy(exit, Duration::ZERO, Instant::now());
    }

    /// The first start of all failed: its policy is not asked, its starter is told.
    pub(super) fn never_ran(mut self, error: &StartError) {
        let now = time::now();
        let cause = ExitCause::StartFailed { reason: crate::shim::chain(error) };
        self.life = Life::Exited { exit: Exit { code: error.exit_code(), cause, started: now, finished: now } };
        self.finish();
    }

    fn follow_policy(&mut self, exit: Exit, lived: Duration, now: Instant) {
        self.life = match self.backoff.decide(self.config.updatable.restart, &exit, lived) {
            Verdict::Again { after } => {
                self.dismiss(&exit);
                Life::Restarting { exit, due: time::now().after(after), at: now + after }
            }
            Verdict::Stay => Life::Exited { exit },
        };
        // An exit for good is published when everything is tidied up.
        if let Life::Restarting { .. } = self.life {
            self.publish();
        }
    }

    /// A restart that is due.
    pub(super) fn restart_if_due(&mut self, now: Instant) {
        if let Life::Restarting { exit, at, .. } = &self.life
            && now >= *at
        {
            let last = exit.clone();
            self.restarts = self.restarts.saturating_add(1);
            self.start_again(last);
        }
    }

    /// Kills what did not stop in its grace. Its whole process namespace dies with it.
    pub(super) fn kill_if_due(&mut self, now: Instant) {
        if let Life::Running(running) = &mut self.life
            && let Some(ending) = &mut running.ending
            && ending.kill_at.is_some_and(|kill_at| now >= kill_at)
        {
            ending.kill_at = None;
            if let Err(error) = running.process.signal(Signal::KILL) {
                self.note("kill", &error);
            }
        }
    }

    pub(super) fn is_stopped_by_user(&self) -> bool {
        self.ground.directory.join(STOPPED).exists()
    }
}

fn exit(outcome: Outcome, requested: bool, oom_kills: u64, started: Timestamp) -> Exit {
    let (code, cause) = match outcome {
        Outcome::Unknown if requested => (CODE_UNKNOWN, ExitCause::Requested),
        Outcome::Unknown => (CODE_UNKNOWN, ExitCause::Unknown),
        Outcome::Known(status) if requested => (status.code(), ExitCause::Requested),
        // A shell whose child was killed ends with an error too, and the cause is the same.
        Outcome::Known(status) if oom_kills > 0 && status.code() != 0 => (status.code(), ExitCause::OutOfMemory),
        Outcome::Known(status) => (status.code(), ExitCause::Own),
    };
    Exit { code, cause, started, finished: time::now() }
}

/// What a monitor holds until its first start.
pub(super) fn never_started() -> Exit {
    Exit { code: CODE_UNKNOWN, cause: ExitCause::Unknown, started: Timestamp(0), finished: Timestamp(0) }
}

fn since_then(then: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(time::now().0.saturating_sub(then.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::pidfd::ExitStatus;

    #[test]
    fn causes_are_told_apart() {
        let cause = |outcome, requested, oom_kills| {
            let exit = exit(outcome, requested, oom_kills, Timestamp(0));
            (exit.code, exit.cause)
        };
        let killed = Outcome::Known(ExitStatus::Signal(9));
        assert_eq!(cause(Outcome::Known(ExitStatus::Code(3)), false, 0), (3, ExitCause::Own));
        assert_eq!(cause(killed, false, 1), (137, ExitCause::OutOfMemory));
        assert_eq!(cause(killed, true, 1), (137, ExitCause::Requested));
        assert_eq!(cause(Outcome::Known(ExitStatus::Code(0)), false, 1), (0, ExitCause::Own));
        assert_eq!(cause(Outcome::Unknown, false, 0), (255, ExitCause::Unknown));
    }
}
