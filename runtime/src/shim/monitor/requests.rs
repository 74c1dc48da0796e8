//! What is done for each request.

use super::control::{Asker, Pending};
use super::{Ending, Life, Monitor, Then};
use crate::container::ContainerError;
use crate::container::config::{ContainerConfig, NetworkConfig, Updatable};
use crate::container::document;
use crate::container::list::STOPPED;
use crate::shim::protocol::{Reply, Request};
use spec::value::Signal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

impl Monitor {
    /// Carries out one request; the answer may come later.
    pub(super) fn serve(&mut self, asker: Asker, request: Request, now: Instant) {
        match request {
            Request::State => self.reply(asker, Ok(())),
            Request::Stop { grace_ms } => {
                self.begin_end(grace_ms, Then::Stay, now);
                self.control.keep(asker, Pending::Down);
            }
            Request::Restart { grace_ms } => {
                // It is wanted again, whatever was wanted before. Absent is what it should be.
                let _ = std::fs::remove_file(self.ground.directory.join(STOPPED));
                let before = self.starts;
                self.begin_end(grace_ms, Then::StartAgain, now);
                self.control.keep(asker, Pending::StartedAfter(before));
            }
            Request::Kill { signal } => {
                let result = self.kill(signal);
                self.reply(asker, result);
            }
            Request::Update { updatable } => {
                let result = self.update(updatable);
                self.reply(asker, result);
            }
            Request::Reload => {
                let result = self.reload().map_err(|error| crate::shim::chain(&error));
                self.reply(asker, result);
            }
            Request::Attach { size, stdin: _ } => self.attach(asker, size),
            Request::Wait { until, timeout_ms } => {
                // A deadline too far away to be represented is none.
                let deadline = timeout_ms.and_then(|timeout| now.checked_add(Duration::from_millis(timeout)));
                self.control.keep(asker, Pending::Until(until, deadline));
            }
        }
    }

    fn reply(&self, asker: Asker, result: Result<(), String>) {
        asker.reply(&match result {
            Ok(()) => Reply::State { state: self.state() },
            Err(problem) => Reply::Error { problem },
        });
    }

    /// Asks the process to end, and remembers what comes then. Asked twice, the nearer deadline and the later wish hold.
    pub(super) fn begin_end(&mut self, grace_ms: Option<u64>, then: Then, now: Instant) {
        let grace = grace_ms.map_or(self.config.stop_grace, Duration::from_millis);
        match &mut self.life {
            Life::Running(running) => {
                let kill_at = now.checked_add(grace);
                let nearer = running.ending.as_ref().and_then(|ending| ending.kill_at).into_iter().chain(kill_at).min();
                running.ending = Some(Ending { kill_at: nearer, then });
                if let Err(error) = running.process.signal(self.config.stop_signal) {
                    self.note("stop", &error);
                }
            }
            Life::Restarting { exit, .. } => {
                let last = exit.clone();
                match then {
                    Then::Stay => self.life = Life::Exited { exit: last },
                    Then::StartAgain => self.start_again(last),
                }
            }
            Life::Exited { .. } => {}
        }
    }

    /// Sends a signal. One that is meant to end it counts as a stop by the user.
    fn kill(&mut self, signal: Signal) -> Result<(), String> {
        let ends = signal == Signal::KILL || signal == self.config.stop_signal;
        let Life::Running(running) = &mut self.life else { return Err("it is not running".to_owned()) };
        if ends {
            let path = self.ground.directory.join(STOPPED);
            std::fs::File::create(&path).and_then(|file| file.sync_all()).map_err(|error| format!("write {}: {error}", path.display()))?;
            running.ending.get_or_insert(Ending { kill_at: None, then: Then::Stay }).then = Then::Stay;
        }
        running.process.signal(signal).map_err(|error| format!("send {signal}: {error}"))
    }

    /// The kernel first: nothing is recorded that it refuses.
    fn update(&mut self, updatable: Updatable) -> Result<(), String> {
        self.cgroup.apply(&updatable.resources).map_err(|error| crate::shim::chain(&error))?;
        let changed = document::change(&self.ground.places, &self.ground.id, |document| document.config.updatable = updatable);
        self.use_config(changed.map_err(|error| crate::shim::chain(&error))?);
        Ok(())
    }

    /// Takes the configuration as it is on disk.
    pub(super) fn reload(&mut self) -> Result<(), ContainerError> {
        let config = document::read_config(&self.ground.places, &self.ground.id)?;
        self.use_config(config);
        Ok(())
    }

    fn use_config(&mut self, config: ContainerConfig) {
        self.config = config;
        let records = self.records();
        if let Some(dns) = &mut self.dns {
            dns.serve(records);
        }
    }

    /// The records files of the container's networks.
    pub(super) fn records(&self) -> Vec<PathBuf> {
        match &self.config.network {
            NetworkConfig::Bridged { endpoints, .. } => {
                endpoints.iter().map(|endpoint| self.ground.places.records(&endpoint.network)).collect()
            }
            NetworkConfig::Host | NetworkConfig::None => Vec::new(),
        }
    }
}
