//! Instructions that only say something: no layer, no cache, no time.

use crate::builder::error::StepError;
use crate::builder::file::{CommandLine, HealthCheck};
use crate::builder::scope::Globals;
use crate::builder::state::State;
use crate::builder::words::Lexer;
use crate::image::config::{Empty, Healthcheck};
use spec::value::Signal;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
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

/// EXPOSE: `80`, `80/udp`, `80-85/tcp`; what stands before a colon is checked and dropped, as Docker does.
pub(crate) fn expose(state: &mut State, ports: &[String], lexer: &Lexer) -> Result<()> {
    for text in ports {
        for port in lexer.words(text, &|name| state.scope.get(name))? {
            let bad = || StepError::Invalid(format!("{port:?} is not a port: write 80, 80/udp or 80-85/tcp"));
            let (numbers, protocol) = exposed(&port).ok_or_else(bad)?;
            for number in numbers {
                state.config.config.exposed_ports.insert(format!("{number}/{protocol}"), Empty {});
            }
        }
    }
    Ok(())
}

/// `[[address:]host port:]port[-port][/protocol]`: the container's ports and their protocol.
fn exposed(text: &str) -> Option<(RangeInclusive<u16>, String)> {
    let (before, container) = text.rsplit_once(':').map_or((None, text), |(before, container)| (Some(before), container));
    let (numbers, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    let ports = port_range(numbers)?;
    if let Some(before) = before {
        let (address, host) = before.rsplit_once(':').unwrap_or(("", before));
        let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let is_address = address.is_empty() || address.parse::<IpAddr>().is_ok();
        // Of several ports of the host one is free for the container's one.
        let fits = host.is_empty() || port_range(host).is_some_and(|host| ports.len() == 1 || host.len() == ports.len());
        if !is_address || !fits {
            return None;
        }
    }
    matches!(protocol.as_str(), "tcp" | "udp" | "sctp").then_some((ports, protocol))
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| if text.starts_with('+') { None } else { text.parse::<u16>().ok() };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
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

#[cfg(test)]
mod tests {
    use super::exposed;

    #[test]
    fn ports() {
        let cases = [
            ("80", "80-80/tcp"),
            ("0", "0-0/tcp"),
            ("80/", "80-80/tcp"),
            ("81/UDP", "81-81/udp"),
            ("90-92/sctp", "90-92/sctp"),
            ("8080:80", "80-80/tcp"),
            (":80", "80-80/tcp"),
            ("8080-8090:80/udp", "80-80/udp"),
            ("127.0.0.1:1:2", "2-2/tcp"),
            ("[::1]::2", "2-2/tcp"),
        ];
        for (text, expected) in cases {
            let ports = exposed(text).map(|(ports, protocol)| format!("{}-{}/{protocol}", ports.start(), ports.end()));
            assert_eq!(ports.as_deref(), Some(expected), "{text}");
        }
        for text in ["", "a", "+80", "-80", "80-", "5-3", "70000", "/tcp", "80/foo", "x:80", "80-82:90-93", "1:2:3:4", "h:1:2"] {
            assert!(exposed(text).is_none(), "{text}");
        }
    }
}
