//! Health probes: when the next one is due, and what its end means.
//!
//! Docker's rules: the first probe comes one interval after the start; failures count after the start period; so many in a row
//! make the container unhealthy; one success makes it healthy. Besides, while nothing is known yet, further probes are made
//! earlier and ever less often, whose success counts and whose failure does not: a container that is ready at once need not
//! wait for its interval.

use super::watched::{Outcome, Watched};
use crate::cgroup::Cgroup;
use crate::container::config::ContainerConfig;
use crate::container::state::{Health, ProcessRef};
use crate::process::pidfd::ExitStatus;
use crate::process::{self, ExecRequest, Stdio};
use rustix::pipe::PipeFlags;
use spec::desired::HealthCheck;
use spec::value::Signal;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Output of a probe that is kept, its last part.
const OUTPUT_BYTES_MAX: usize = 4096;
/// First early probe after a start; each next one twice as late.
const EARLY_FIRST: Duration = Duration::from_millis(200);
/// Shortest pause between two probes, whatever the configuration says.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Probes one run of a container.
#[derive(Debug)]
pub(super) struct Prober {
    schedule: Schedule,
    probe: Option<Probe>,
}

/// The pure part: counts, and decides when.
#[derive(Debug)]
struct Schedule {
    check: HealthCheck,
    began: Instant,
    next: Instant,
    early_pause: Duration,
    health: Health,
    failures: u32,
}

#[derive(Debug)]
struct Probe {
    process: Watched,
    output: OwnedFd,
    last: Vec<u8>,
    began: Instant,
    deadline: Instant,
    timed_out: bool,
}

/// What a probe runs in.
pub(super) struct ProbeContext<'a> {
    pub(super) config: &'a ContainerConfig,
    pub(super) cgroup: &'a Cgroup,
    pub(super) target: ProcessRef,
}

/// Whether the reported health has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Changed,
    Same,
}

impl Prober {
    /// For a container that began then; `None` if there is nothing to probe with. `known` is what a predecessor reported.
    pub(super) fn new(check: Option<&HealthCheck>, began: Instant, now: Instant, known: Option<Health>) -> Option<Self> {
        let check = check.filter(|check| !check.test.is_empty())?.clone();
        Some(Self { schedule: Schedule::new(check, began, now, known), probe: None })
    }

    pub(super) fn health(&self) -> Health {
        self.schedule.health.clone()
    }

    /// Descriptors to wait for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let probe = self.probe.iter();
        probe.flat_map(|probe| probe.process.descriptor().into_iter().chain(std::iter::once(probe.output.as_fd())))
    }

    /// When [`Prober::turn`] is due at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.probe {
            Some(probe) if probe.timed_out => None,
            Some(probe) => Some(probe.deadline),
            None => Some(self.schedule.next),
        }
    }

    /// Begins, reads, ends and judges a probe, whatever is at hand.
    pub(super) fn turn(&mut self, context: &ProbeContext<'_>, now: Instant) -> Change {
        let before = self.schedule.health.clone();
        match self.probe.take() {
            Some(mut probe) => match probe.turn(now) {
                Some(Ok(())) => self.schedule.passed(now),
                Some(Err(output)) => self.schedule.failed(probe.began, now, output),
                None => self.probe = Some(probe),
            },
            None if now >= self.schedule.next => match begin(&self.schedule.check, context, now) {
                Ok(probe) => self.probe = Some(probe),
                Err(problem) => self.schedule.failed(now, now, problem),
            },
            None => {}
        }
        if self.schedule.health == before { Change::Same } else { Change::Changed }
    }
}

impl Schedule {
    fn new(check: HealthCheck, began: Instant, now: Instant, known: Option<Health>) -> Self {
        let health = known.unwrap_or(Health::Starting);
        let failures = match &health {
            Health::Unhealthy { failures, .. } => *failures,
            Health::Unchecked | Health::Starting | Health::Healthy => 0,
        };
        let early_pause = EARLY_FIRST.min(check.interval).max(PAUSE_MIN);
        Self { next: now + early_pause, check, began, early_pause, health, failures }
    }

    fn passed(&mut self, now: Instant) {
        self.health = Health::Healthy;
        self.failures = 0;
        self.next = now + self.check.interval.max(PAUSE_MIN);
    }

    fn failed(&mut self, probed: Instant, now: Instant, output: String) {
        let counts_from = self.began + self.check.start_period.max(self.check.interval);
        if self.health == Health::Starting && probed < counts_from {
            self.early_pause = (self.early_pause * 2).min(self.check.interval).max(PAUSE_MIN);
            // The first probe that counts is not put off by early ones.
            self.next = (now + self.early_pause).min(counts_from.max(now + PAUSE_MIN));
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.check.retries.max(1) {
            self.health = Health::Unhealthy { failures: self.failures, output };
        }
        self.next = now + self.check.interval.max(PAUSE_MIN);
    }
}

fn begin(check: &HealthCheck, context: &ProbeContext<'_>, now: Instant) -> Result<Probe, String> {
    let said = |error: io::Error| error.to_string();
    let (output, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| said(error.into()))?;
    let nothing = std::fs::File::open("/dev/null").map_err(said)?;
    let config = &context.config.process;
    let request = ExecRequest {
        target: context.target,
        cgroup: context.cgroup,
        user_namespace: context.config.user_namespace,
        args: &check.test,
        env: &config.env,
        working_dir: &config.working_dir,
        user: config.user.as_ref(),
        capabilities: &config.capabilities,
        no_new_privileges: config.no_new_privileges,
        seccomp: config.seccomp,
        rlimits: &config.rlimits,
        stdio: Stdio::Files { stdin: nothing.as_fd(), stdout: write.as_fd(), stderr: write.as_fd() },
    };
    let started = process::exec(&request).map_err(|error| crate::shim::chain(&error))?;
    rustix::io::ioctl_fionbio(&output, true).map_err(|error| said(error.into()))?;
    let process = Watched::child(started.process, started.pidfd);
    Ok(Probe { process, output, last: Vec::new(), began: now, deadline: now + check.timeout, timed_out: false })
}

impl Probe {
    /// How it went, once it is over: the output of a failure.
    fn turn(&mut self, now: Instant) -> Option<Result<(), String>> {
        self.read();
        let outcome = match self.process.outcome(now) {
            Ok(None) => {
                if now >= self.deadline && !self.timed_out {
                    self.timed_out = true;
                    let _ = self.process.signal(Signal::KILL);
                }
                return None;
            }
            Ok(Some(outcome)) => outcome,
            Err(_) => Outcome::Unknown,
        };
        self.read();
        let mut output = String::from_utf8_lossy(&self.last).into_owned();
        if self.timed_out {
            output.push_str("\nthe probe did not end within its timeout");
            return Some(Err(output.trim_start().to_owned()));
        }
        match outcome {
            Outcome::Known(ExitStatus::Code(0)) => Some(Ok(())),
            Outcome::Known(_) | Outcome::Unknown => Some(Err(output)),
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 1024];
        // A probe that writes without end is cut off by its timeout, and must not hold up the loop until then.
        for _ in 0..64 {
            match rustix::io::read(&self.output, &mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) => self.last.extend_from_slice(&buffer[..length]),
            }
            let excess = self.last.len().saturating_sub(OUTPUT_BYTES_MAX);
            self.last.drain(..excess);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(interval_s: u64, start_period_s: u64, retries: u32) -> Schedule {
        let check = HealthCheck {
            test: vec!["true".to_owned()],
            interval: Duration::from_secs(interval_s),
            timeout: Duration::from_secs(1),
            retries,
            start_period: Duration::from_secs(start_period_s),
        };
        let began = Instant::now();
        Schedule::new(check, began, began, None)
    }

    /// Times in milliseconds at which probes happen when all fail at once, until it is unhealthy.
    fn failing(mut schedule: Schedule) -> Vec<u128> {
        let mut times = Vec::new();
        while !matches!(schedule.health, Health::Unhealthy { .. }) {
            let now = schedule.next;
            times.push(now.duration_since(schedule.began).as_millis());
            schedule.failed(now, now, String::new());
        }
        times
    }

    #[test]
    fn early_probes_do_not_count() {
        assert_eq!(failing(schedule(5, 0, 3)), [200, 600, 1400, 3000, 5000, 10_000, 15_000]);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        assert_eq!(failing(schedule(2, 6, 2)), [200, 600, 1400, 3000, 5000, 6000, 8000]);
    }

    #[test]
    fn one_success_heals() {
        let mut schedule = schedule(1, 0, 1);
        let later = schedule.began + Duration::from_secs(3);
        schedule.failed(later, later, "no".to_owned());
        assert_eq!(schedule.health, Health::Unhealthy { failures: 1, output: "no".to_owned() });
        schedule.passed(later);
        assert_eq!(schedule.health, Health::Healthy);
        schedule.failed(later, later, "again".to_owned());
        assert!(matches!(schedule.health, Health::Unhealthy { failures: 1, .. }));
    }

    #[test]
    fn no_interval_does_not_spin() {
        let mut schedule = schedule(0, 0, 3);
        let now = schedule.next;
        schedule.failed(now, now, String::new());
        assert!(schedule.next >= now + PAUSE_MIN);
    }
}
