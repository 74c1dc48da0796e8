//! Instructions that only say something: no layer, no cache, no time.

use crate::builder::error::StepError;
use crate::builder::file::{CommandLine, HealthCheck, Instruction};
use crate::builder::history;
use crate::builder::scope::Globals;
use crate::builder::state::State;
use crate::builder::words::Lexer;
use crate::image::config::{Empty, Healthcheck};
use spec::value::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

type Result<T> = std::result::Result<T, StepError>;

/// The shell of shell forms where none was set.
pub(crate) const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// What became of an instruction.
pub(crate) enum Said {
    /// It is said; this is its line of history.
    Line(String),
    /// It is said, and as in BuildKit no line tells of it.
    Unrecorded,
    /// It does more than say something.
    DoesMore,
}

/// Says what an instruction says of the image, if that is all it does. ARG depends on the build and is not among them: [`arg`].
pub(crate) fn say(state: &mut State, instruction: &Instruction, lexer: &Lexer) -> Result<Said> {
    let line = match instruction {
        Instruction::Env(pairs) => {
            let pairs = expanded(state, pairs, lexer)?;
            // All values were read before any is set.
            pairs.iter().for_each(|(name, value)| state.scope.set(name.clone(), value.clone()));
            history::pairs("ENV", &pairs)
        }
        Instruction::Label(pairs) => {
            let pairs = expanded(state, pairs, lexer)?;
            state.config.config.labels.extend(pairs.iter().cloned());
            history::pairs("LABEL", &pairs)
        }
        Instruction::Cmd(line) => history::command("CMD", &cmd(state, line)),
        Instruction::Entrypoint(line) => history::command("ENTRYPOINT", &entrypoint(state, line)),
        Instruction::Shell(words) => {
            state.config.config.shell = Some(words.clone());
            history::list("SHELL", words)
        }
        Instruction::User(user) => {
            state.config.config.user = state.word(lexer, user)?;
            format!("USER {}", state.config.config.user)
        }
        Instruction::Expose(ports) => history::list("EXPOSE", &expose(state, ports, lexer)?),
        Instruction::Volume(paths) => history::list("VOLUME", &volume(state, paths, lexer)?),
        Instruction::StopSignal(signal) => format!("STOPSIGNAL {}", stop_signal(state, signal, lexer)?),
        Instruction::HealthCheck(check) => history::health(state.config.config.healthcheck.insert(health(check))),
        Instruction::Maintainer(author) => {
            state.config.author = Some(author.clone());
            format!("MAINTAINER {author}")
        }
        Instruction::OnBuild(trigger) => {
            state.config.config.on_build.push(trigger.clone());
            return Ok(Said::Unrecorded);
        }
        Instruction::Arg(_)
        | Instruction::Run(_)
        | Instruction::Copy { .. }
        | Instruction::Add { .. }
        | Instruction::Workdir(_)
        | Instruction::From(_) => return Ok(Said::DoesMore),
    };
    Ok(Said::Line(line))
}

/// ARG. Returns its line of history.
pub(crate) fn arg(
    state: &mut State,
    declared: &[(String, Option<String>)],
    given: &BTreeMap<String, String>,
    globals: &Globals,
    lexer: &Lexer,
) -> Result<String> {
    let declare = |(name, default): &(String, Option<String>)| state.scope.declare(name, default.as_deref(), given, globals, lexer);
    let arguments = declared.iter().map(declare).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(history::arguments(&arguments))
}

fn expanded(state: &State, pairs: &[(String, String)], lexer: &Lexer) -> Result<Vec<(String, String)>> {
    let pair = |(name, value): &(String, String)| Ok((state.word(lexer, name)?, state.word(lexer, value)?));
    pairs.iter().map(pair).collect()
}

/// The words that a command line runs.
fn command(state: &State, command: &CommandLine) -> Vec<String> {
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
fn cmd(state: &mut State, line: &CommandLine) -> Vec<String> {
    let words = command(state, line);
    state.config.config.cmd = (!words.is_empty()).then(|| words.clone());
    state.command_is_own = true;
    words
}

/// ENTRYPOINT; it clears a command that came from the base.
fn entrypoint(state: &mut State, line: &CommandLine) -> Vec<String> {
    let words = command(state, line);
    state.config.config.entrypoint = (!words.is_empty()).then(|| words.clone());
    if !state.command_is_own {
        state.config.config.cmd = None;
    }
    words
}

/// EXPOSE: `80`, `80/udp`, `80-85/tcp`; what stands before a colon is checked and dropped, as Docker does.
fn expose(state: &mut State, ports: &[String], lexer: &Lexer) -> Result<Vec<String>> {
    let mut exposed_ports = BTreeSet::new();
    for text in ports {
        for port in lexer.words(text, &|name| state.scope.get(name))? {
            let bad = || StepError::Invalid(format!("{port:?} is not a port: write 80, 80/udp or 80-85/tcp"));
            let (numbers, protocol) = exposed(&port).ok_or_else(bad)?;
            for number in numbers {
                exposed_ports.insert(format!("{number}/{protocol}"));
            }
        }
    }
    state.config.config.exposed_ports.extend(exposed_ports.iter().map(|port| (port.clone(), Empty {})));
    // In the order of their text.
    Ok(exposed_ports.into_iter().collect())
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
fn volume(state: &mut State, paths: &[String], lexer: &Lexer) -> Result<Vec<String>> {
    let paths = paths.iter().map(|path| state.word(lexer, path)).collect::<std::result::Result<Vec<_>, _>>()?;
    if paths.iter().any(String::is_empty) {
        return Err(StepError::Invalid("a volume's path is empty".to_owned()));
    }
    state.config.config.volumes.extend(paths.iter().map(|path| (path.clone(), Empty {})));
    Ok(paths)
}

/// STOPSIGNAL.
fn stop_signal(state: &mut State, text: &str, lexer: &Lexer) -> Result<String> {
    let signal = state.word(lexer, text)?;
    signal.parse::<Signal>().map_err(|error| StepError::Invalid(error.to_string()))?;
    state.config.config.stop_signal = Some(signal.clone());
    Ok(signal)
}

/// HEALTHCHECK.
fn health(check: &HealthCheck) -> Healthcheck {
    let nanoseconds = |time: &Option<Duration>| time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    match check {
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
    }
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
