//! Programs that keep passwords: `docker-credential-<name> get|store|erase`, what is asked on standard input, the answer on
//! standard output (the protocol of docker-credential-helpers).

use crate::process::pidfd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use spec::value::Secret;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest wait for a helper. Some ask a cloud over the network; none asks a person, since it has no terminal here.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Longest answer: a token of some kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Shown of what a helper says about an error.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// Why a helper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name would lead elsewhere.
    #[error("{0:?} is not the name of a credential helper: write what follows docker-credential- in the program's name")]
    Name(String),
    /// It could not be run.
    #[error("run {program}{hint}")]
    Run {
        /// The program.
        program: String,
        /// What to do, in parentheses, or nothing.
        hint: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("{program} did not answer within {} s", limit.as_secs())]
    Slow {
        /// The program.
        program: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It ended with an error.
    #[error("{program} {verb} ended with {status}{message}")]
    Failed {
        /// The program.
        program: String,
        /// What it was to do.
        verb: &'static str,
        /// How it ended.
        status: String,
        /// What it said, or nothing.
        message: String,
    },
    /// It answered something else than the protocol has.
    #[error("{program} get gave no user and password")]
    Answer {
        /// The program.
        program: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Secrets {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// User and password for a registry; `None` if the helper knows none.
pub(super) fn get(name: &str, server: &str) -> Result<Option<(String, Secret)>, HelperError> {
    let program = program(name)?;
    match run(&program, "get", server.as_bytes(), TIME_MAX) {
        Ok(answer) => match serde_json::from_slice::<Secrets>(&answer) {
            Ok(found) if found.user.is_empty() && found.secret.is_empty() => Ok(None),
            Ok(found) => Ok(Some((found.user, Secret::new(found.secret)))),
            Err(_) => Err(HelperError::Answer { program }),
        },
        // The one error that all helpers spell the same way.
        Err(HelperError::Failed { message, .. }) if message.contains("credentials not found in native keychain") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives it a password to keep.
pub(super) fn store(name: &str, server: &str, user: &str, password: &Secret) -> Result<(), HelperError> {
    let secrets = Secrets { server: server.to_owned(), user: user.to_owned(), secret: password.reveal().to_owned() };
    let input = serde_json::to_vec(&secrets).expect("three texts are JSON");
    run(&program(name)?, "store", &input, TIME_MAX).map(drop)
}

/// Lets it forget a password.
pub(super) fn erase(name: &str, server: &str) -> Result<(), HelperError> {
    run(&program(name)?, "erase", server.as_bytes(), TIME_MAX).map(drop)
}

fn program(name: &str) -> Result<String, HelperError> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name { Ok(format!("docker-credential-{name}")) } else { Err(HelperError::Name(name.to_owned())) }
}

/// Runs it to its end and returns what it printed. What it is told and what it answers goes through pipes only.
fn run(program: &str, verb: &'static str, input: &[u8], limit: Duration) -> Result<Vec<u8>, HelperError> {
    let failed = |source: io::Error| {
        let absent = source.kind() == io::ErrorKind::NotFound;
        let hint = if absent { " (it is named in Docker's config.json: install it, or remove it there)" } else { "" };
        HelperError::Run { program: program.to_owned(), hint, source }
    };
    let mut command = Command::new(program);
    let spawned = command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = spawned.map_err(failed)?;
    let answer = converse(&mut child, input, limit);
    if !matches!(answer, Ok(Some(_))) {
        // Fails only if it has ended by itself meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    let Some(answer) = answer.map_err(failed)? else {
        return Err(HelperError::Slow { program: program.to_owned(), limit });
    };
    if status.success() {
        return Ok(answer);
    }
    Err(HelperError::Failed { program: program.to_owned(), verb, status: status.to_string(), message: message(&answer) })
}

/// Tells it and listens until it has ended; `None` if that takes too long.
fn converse(child: &mut Child, input: &[u8], limit: Duration) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + limit;
    if let Some(mut stdin) = child.stdin.take() {
        // Far less than a pipe holds. Whoever does not read it may still answer.
        let _ = stdin.write_all(input);
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // Not waited for: a child of the helper may keep the pipe open for ever.
        std::thread::spawn(move || {
            let mut answer = Vec::new();
            let read = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
            let _ = sender.send(read.map(|_| answer));
        });
    }
    let Ok(answer) = receiver.recv_timeout(limit) else { return Ok(None) };
    let answer = answer?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let left = deadline.saturating_duration_since(Instant::now());
    Ok(pidfd::wait(process.as_fd(), Some(left))?.then_some(answer))
}

/// The first line of what it said. An answer with a password in it is not quoted.
fn message(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let line = text.trim().lines().next().unwrap_or_default();
    if line.is_empty() || text.contains(['{', '"']) {
        return String::new();
    }
    let clean: String = line.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARACTERS_MAX).collect();
    format!(": {clean}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_hangs_is_ended() {
        let error = run("sleep", "1000", b"", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, HelperError::Slow { .. }), "{error}");
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["", "../x", "a/b", "a b", "a\0"] {
            assert!(matches!(get(name, "r"), Err(HelperError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn an_answer_with_a_password_is_not_quoted() {
        assert_eq!(message(b"no such user\nmore"), ": no such user");
        assert_eq!(message(br#"{"Username":"me","Secret":"s3cret"}"#), "");
    }
}
