//! Instructions that only say something: no layer, no cache, no time.

use crate::builder::error::StepError;
use crate::builder::file::{CommandLine, HealthCheck};
use crate::builder::scope::Globals;
use crate::builder::state::State;
use crate::builder::words::Lexer;
use crate::image::config::{Empty, Healthcheck};
use spec::value::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

type Result<T> = std::result::Result<T, StepError>;

/// The shell of shell forms where none was set.
pub(crate) const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// ARG.
pub(crate) fn arg(
    state: &mut State,
    declared: &[(String, Option<String>)],
    given: &BTreeMap<String, String>,
    globals: &Globals,
    lexer: &Lexer,
) -> Result<()> {
    for (name, default) in declared {
        state.scope.declare(name, default.as_deref(), given, globals, lexer)?;
    }
    Ok(())
}

/// ENV: all values are read before any is set. Returns what was set.
pub(crate) fn env(state: &mut State, pairs: &[(String, String)], lexer: &Lexer) -> Result<Vec<(String, String)>> {
    let pairs = expanded(state, pairs, lexer)?;
    for (name, value) in &pairs {
        state.scope.set(name.clone(), value.clone());
    }
    Ok(pairs)
}

/// LABEL. Returns what was set.
pub(crate) fn label(state: &mut State, pairs: &[(String, String)], lexer: &Lexer) -> Result<Vec<(String, String)>> {
    let pairs = expanded(state, pairs, lexer)?;
    state.config.config.labels.extend(pairs.iter().cloned());
    Ok(pairs)
}

fn expanded(state: &State, pairs: &[(String, String)], lexer: &Lexer) -> Result<Vec<(String, String)>> {
    let pair = |(name, value): &(String, String)| Ok((state.word(lexer, name)?, state.word(lexer, value)?));
    pairs.iter().map(pair).collect()
}

/// The words that a command line runs.
pub(crate) fn command(state: &State, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(text) => shell(state).into_iter().chain([text.clone()]).collect(),
    }
}

/// The shell of shell forms.
pub(crate) fn shell(state: &State) -> Vec<String> {
    let default = || DEFAULT_SHELL.map(str::to_owned).to_vec();
    state.config.config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(default)
}

/// CMD; an empty array resets it.
pub(crate) fn cmd(state: &mut State, line: &CommandLine) {
    let words = command(state, line);
    state.config.config.cmd = (!words.is_empty()).then_some(words);
    state.command_is_own = true;
}

/// ENTRYPOINT; it clears a command that came from the base.
pub(crate) fn entrypoint(state: &mut State, line: &CommandLine) {
    let words = command(state, line);
    state.config.config.entrypoint = (!words.is_empty()).then_some(words);
    if !state.command_is_own {
        state.config.config.cmd = None;
    }
}

/// EXPOSE: `80`, `80/udp`, `80-85/tcp`; a host port before a colon is dropped, as Docker does.
pub(crate) fn expose(state: &mut State, ports: &[String], lexer: &Lexer) -> Result<()> {
    for text in ports {
        for port in lexer.words(text, &|name| state.scope.get(name))? {
            let bad = || StepError::Invalid(format!("{port:?} is not a port: write 80, 80/udp or 80-85/tcp"));
            let (numbers, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
            let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
            let numbers = numbers.rsplit(':').next().unwrap_or(numbers);
            let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
            let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
            if first == 0 || first > last || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
                return Err(bad());
            }
            for number in first..=last {
                state.config.config.exposed_ports.insert(format!("{number}/{protocol}"), Empty {});
            }
        }
    }
    Ok(())
}

/// VOLUME.
pub(crate) fn volume(state: &mut State, paths: &[String], lexer: &Lexer) -> Result<()> {
    for path in paths {
        let path = state.word(lexer, path)?;
        if path.is_empty() {
            return Err(StepError::Invalid("a volume's path is empty".to_owned()));
        }
        state.config.config.volumes.insert(path, Empty {});
    }
    Ok(())
}

/// USER.
pub(crate) fn user(state: &mut State, text: &str, lexer: &Lexer) -> Result<()> {
    state.config.config.user = state.word(lexer, text)?;
    Ok(())
}

/// STOPSIGNAL.
pub(crate) fn stop_signal(state: &mut State, text: &str, lexer: &Lexer) -> Result<()> {
    let signal = state.word(lexer, text)?;
    signal.parse::<Signal>().map_err(|error| StepError::Invalid(error.to_string()))?;
    state.config.config.stop_signal = Some(signal);
    Ok(())
}

/// HEALTHCHECK.
pub(crate) fn health(state: &mut State, check: &HealthCheck) {
    let nanoseconds = |time: &Option<Duration>| time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    state.config.config.healthcheck = Some(match check {
        HealthCheck::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
        HealthCheck::Probe { command, interval, timeout, start_period, start_interval, retries } => Healthcheck {
            test: match command {
                CommandLine::Exec(words) => ["CMD".to_owned()].into_iter().chain(words.iter().cloned()).collect(),
                CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
            },
            interval: nanoseconds(interval),
            timeout: nanoseconds(timeout),
            start_period: nanoseconds(start_period),
            start_interval: nanoseconds(start_interval),
            retries: i64::from(retries.unwrap_or(0)),
        },
    });
}
