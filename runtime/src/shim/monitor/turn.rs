//! The loop: wait for whatever comes first, then do all that can be done without waiting.

use super::health::{Change, ProbeContext};
use super::terminal::{Output, Terminal};
use super::{Life, Monitor, Then, Weight};
use crate::container::file::{self, Lasting};
use crate::shim::log::cut::Tail;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Pause after an error that would come again at once, so that a broken kernel object costs no processor.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// How long nothing must happen before memory is given back: it is worth some page faults when there is something to do again.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// Who wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Process,
    Stdout,
    Stderr,
    Terminal,
    Audience,
    Probe,
    Control,
    Shutdown,
    Dns,
}

impl Monitor {
    /// Until the container has exited for good.
    pub(super) fn run(mut self) {
        while !matches!(self.life, Life::Exited { .. }) {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    self.note("poll", &error);
                    std::thread::sleep(ERROR_PAUSE);
                    continue;
                }
            };
            self.turn(&ready, Instant::now());
        }
        self.finish();
    }

    fn turn(&mut self, ready: &[Part], now: Instant) {
        let is_ready = |part| ready.contains(&part);
        self.converse(is_ready(Part::Audience), is_ready(Part::Terminal), now);
        self.move_output(is_ready(Part::Stdout), is_ready(Part::Stderr), now);
        if is_ready(Part::Probe) || self.probe_deadline().is_some_and(|deadline| now >= deadline) {
            self.probe(now);
        }
        if is_ready(Part::Control) || self.control.deadline().is_some_and(|deadline| now >= deadline) {
            for (asker, request) in self.control.turn(now) {
                self.serve(asker, request, now);
            }
        }
        if is_ready(Part::Shutdown) && self.shutdown.take() {
            self.begin_end(None, Then::Stay, now);
        }
        if let Some(dns) = &mut self.dns
            && (is_ready(Part::Dns) || dns.deadline().is_some_and(|deadline| now >= deadline))
        {
            dns.turn(now);
        }
        self.watch(is_ready(Part::Process), now);
        self.kill_if_due(now);
        self.restart_if_due(now);
        // Those who wait for an exit are answered when everything is tidied up.
        if !matches!(self.life, Life::Exited { .. }) {
            self.control.settle(&self.state(), self.starts, now);
        }
    }

    /// Clients, and the terminal that they type at.
    fn converse(&mut self, audience: bool, terminal: bool, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        if audience || is_due(self.logs.bench.audience.deadline()) {
            self.hear(now);
        }
        if terminal || is_due(self.terminal.as_ref().and_then(Terminal::deadline)) {
            self.turn_terminal(now);
        }
    }

    fn move_output(&mut self, stdout: bool, stderr: bool, now: Instant) {
        if self.wants() == Output::Held {
            return;
        }
        let logs = &mut self.logs;
        for (pump, readable) in [(&mut logs.stdout, stdout), (&mut logs.stderr, stderr)] {
            let due = pump.look_again().map_or(readable, |at| now >= at);
            if due && let Err(error) = pump.pump(&mut logs.bench, &mut logs.file, Tail::Keep, now) {
                crate::shim::complain(&format!("move output: {error}"));
                std::thread::sleep(ERROR_PAUSE);
            }
        }
    }

    fn probe(&mut self, now: Instant) {
        let Life::Running(running) = &mut self.life else { return };
        let Some(prober) = &mut running.prober else { return };
        let context = ProbeContext { config: &self.config, cgroup: &self.cgroup, target: running.process.reference() };
        if prober.turn(&context, now) == Change::Changed {
            self.publish();
        }
    }

    fn watch(&mut self, readable: bool, now: Instant) {
        let Life::Running(running) = &mut self.life else { return };
        if !readable && running.process.deadline(now).is_none_or(|deadline| now < deadline) {
            return;
        }
        match running.process.outcome(now) {
            Ok(Some(outcome)) => self.end(outcome, now),
            Ok(None) => {}
            Err(error) => {
                self.note("ask for the exit status", &error);
                std::thread::sleep(ERROR_PAUSE);
            }
        }
    }

    /// Waits until a descriptor is ready or something is due.
    fn wait(&mut self) -> io::Result<Vec<Part>> {
        loop {
            let deadline = self.deadline();
            let nap = (self.weight == Weight::Working).then(|| Instant::now() + IDLE_MIN);
            let ready = self.poll(deadline.into_iter().chain(nap).min())?;
            let is_due = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if !ready.is_empty() || is_due {
                self.weight = Weight::Working;
                return Ok(ready);
            }
            if nap.is_some_and(|nap| Instant::now() >= nap) {
                self.slim();
            }
        }
    }

    fn slim(&mut self) {
        sys::trim_heap();
        // Without it we are only larger.
        let _ = sys::forget_program();
        self.weight = Weight::Slim;
    }

    fn poll(&self, until: Option<Instant>) -> io::Result<Vec<Part>> {
        let (parts, mut descriptors): (Vec<Part>, Vec<PollFd<'_>>) =
            self.interests().into_iter().map(|(part, descriptor, events)| (part, PollFd::from_borrowed_fd(descriptor, events))).unzip();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = parts.into_iter().zip(&descriptors).filter(|(_, descriptor)| !descriptor.revents().is_empty());
        Ok(ready.map(|(part, _)| part).collect())
    }

    fn interests(&self) -> Vec<(Part, BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::with_capacity(8);
        for (part, pump) in [(Part::Stdout, &self.logs.stdout), (Part::Stderr, &self.logs.stderr)] {
            // An unfinished line keeps its pipe readable all the time: it is looked at again by the clock.
            if pump.look_again().is_none() && self.wants() == Output::Wanted {
                interests.push((part, pump.fd(), PollFlags::IN));
            }
        }
        let terminal = self.terminal.as_ref().and_then(|terminal| terminal.descriptor(self.wants()));
        interests.extend(terminal.map(|(descriptor, events)| (Part::Terminal, descriptor, events)));
        let audience = self.logs.bench.audience.descriptors(self.ear());
        interests.extend(audience.map(|(descriptor, events)| (Part::Audience, descriptor, events)));
        if let Life::Running(running) = &self.life {
            interests.extend(running.process.descriptor().map(|descriptor| (Part::Process, descriptor, PollFlags::IN)));
            let probe = running.prober.iter().flat_map(|prober| prober.descriptors());
            interests.extend(probe.map(|descriptor| (Part::Probe, descriptor, PollFlags::IN)));
        }
        interests.extend(self.control.descriptors().map(|(descriptor, events)| (Part::Control, descriptor, events)));
        interests.push((Part::Shutdown, self.shutdown.descriptor(), PollFlags::IN));
        let dns = self.dns.iter().flat_map(|dns| dns.descriptors());
        interests.extend(dns.map(|(descriptor, events)| (Part::Dns, descriptor, events)));
        interests
    }

    /// When something is due by the clock.
    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let life = match &self.life {
            Life::Running(running) => {
                let kill_at = running.ending.as_ref().and_then(|ending| ending.kill_at);
                [running.process.deadline(now), kill_at, self.probe_deadline()].into_iter().flatten().min()
            }
            Life::Restarting { at, .. } => Some(*at),
            Life::Exited { .. } => Some(now),
        };
        let dns = self.dns.as_ref().and_then(|dns| dns.deadline());
        self.stream_deadlines().chain(life).chain(self.control.deadline()).chain(dns).min()
    }

    /// What is held back for a client is not looked at before that has read, or is let go.
    fn stream_deadlines(&self) -> impl Iterator<Item = Instant> {
        let output = [self.logs.stdout.look_again(), self.logs.stderr.look_again(), self.terminal.as_ref().and_then(Terminal::deadline)];
        let wanted = self.wants() == Output::Wanted;
        output.into_iter().filter(move |_| wanted).chain([self.logs.bench.audience.deadline()]).flatten()
    }

    fn probe_deadline(&self) -> Option<Instant> {
        let Life::Running(running) = &self.life else { return None };
        running.prober.as_ref().and_then(|prober| prober.deadline())
    }

    /// Tells everybody. A run directory that cannot be written is noted: the socket still tells.
    pub(super) fn publish(&self) {
        if let Err(error) = file::write(&self.ground.run.join("state.json"), &self.state(), Lasting::Passing) {
            self.note("publish", &error);
        }
    }

    /// A line in `<run>/shim.log`, where our standard error leads.
    pub(super) fn note(&self, action: &str, error: &dyn std::error::Error) {
        crate::shim::complain(&format!("{}: {action}: {}", self.ground.id, crate::shim::chain(error)));
    }
}
