//! What every command starts from: places, printer, logs.

use super::render::{Render, fit};
use super::{Failure, Global};
use crate::ledger::Ledger;
use crate::linux::needed;
use crate::settings::Settings;
use runtime::container::state::Timestamp;
use runtime::engine::{Engine, Needed};
use runtime::places::Places;
use runtime::store::Lock;
use std::path::Path;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// Columns of another process's command line that are shown.
const COMMAND_COLUMNS: usize = 80;

/// So long somebody who changes the host is waited for without a word, and how often it is asked for meanwhile.
const SILENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How much a command logs if it is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chatter {
    /// Warnings: what it does is printed by itself.
    Quiet,
    /// What it does: its log is all it prints.
    Informed,
}

/// Log lines on their way to the printer.
struct LogWriter(Render);

impl std::io::Write for LogWriter {
    /// A whole line: the logger hands over nothing less.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.say_text(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The surroundings of one command.
pub(super) struct Session {
    /// Where everything is kept.
    pub(super) places: Places,
    /// The printer.
    pub(super) render: Render,
}

impl Session {
    /// Sets up printing and logging for the whole process.
    pub(super) fn new(global: &Global, chatter: Chatter) -> Self {
        let render = Render::new(global.json, global.color);
        let level = match (global.verbose, chatter) {
            (0, Chatter::Quiet) => "warn",
            (0, Chatter::Informed) | (1, _) => "info",
            (2.., _) => "debug",
        };
        let filter = EnvFilter::try_from_env("AGENT_LOG").unwrap_or_else(|_| EnvFilter::new(format!("agent={level},runtime={level}")));
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            // The printer knows what is drawn on the terminal.
            .with_writer(move || LogWriter(render))
            .with_target(false)
            .with_ansi(render.colours_errors());
        if global.json {
            logs.json().init();
        } else {
            logs.init();
        }
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let places = Places { state: absolute(&global.state_dir), run: absolute(&global.run_dir), config: absolute(&global.config_dir) };
        Self { places, render }
    }

    /// The runtime at these places.
    pub(super) fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::open(&self.places)?.with_limits(self.settings()?.limits))
    }

    /// The runtime at these places, if there was ever anything: looking makes nothing.
    pub(super) fn look(&self) -> Result<Option<Engine>, Failure> {
        if Engine::exists(&self.places) { self.engine().map(Some) } else { Ok(None) }
    }

    /// Takes the host; says for whom it waits if somebody has it for longer than a start takes.
    pub(super) fn lock_host(&self, engine: &Engine) -> Result<Lock, Failure> {
        let silent = Instant::now() + SILENCE;
        loop {
            if let Some(lock) = engine.try_lock_host()? {
                return Ok(lock);
            }
            if Instant::now() >= silent {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        let who = holder(&self.places.lock()).map(|who| format!(": {who}"));
        self.render.say(format_args!("Waiting for another agent that is changing this host{} …", who.unwrap_or_default()));
        Ok(engine.lock_host()?)
    }

    /// What the operator of this host decided.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::read(&self.places.config)?)
    }

    /// What the sites and the registry of this host need.
    pub(super) fn needed(&self, engine: &Engine) -> Result<Needed, Failure> {
        Ok(needed(engine, self.read_ledger()?.as_ref(), self.settings()?.generations)?)
    }

    /// The ledger, made if there is none.
    pub(super) fn ledger(&self) -> Result<Ledger, Failure> {
        Ledger::open(&self.places.ledger()).map_err(with_remedy)
    }

    /// The ledger, if there is one.
    pub(super) fn read_ledger(&self) -> Result<Option<Ledger>, Failure> {
        Ledger::read(&self.places.ledger()).map_err(with_remedy)
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        crate::clock::now()
    }
}

/// Who holds a lock, for people: `process 12, agent apply ./site`.
pub(super) fn holder(lock: &Path) -> Option<String> {
    let pid = Lock::holder(lock)?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(format!("process {pid}, {}", fit(command.trim_end(), COMMAND_COLUMNS)))
}

fn with_remedy(error: crate::ledger::LedgerError) -> Failure {
    let hint = error.remedy().map(str::to_owned);
    Failure::Error { error: error.into(), hint }
}
