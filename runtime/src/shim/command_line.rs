//! The command line of `container-shim`. Not for people: its callers are in [`crate::container`].

use super::monitor::{Arguments, Task};
use crate::places::Places;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What the program is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The monitor of a container.
    Monitor(Arguments),
    /// A one-shot from a bundle.
    Run(PathBuf),
    /// A process in a running container, from a bundle.
    Exec(PathBuf),
    /// The second holder of a container's terminal.
    Hold,
}

/// How it is called.
pub const USAGE: &str = "usage: container-shim monitor STATE-DIR RUN-DIR ID [--adopt | --attend] | run BUNDLE | exec BUNDLE | hold ID";

/// Reads the arguments after the program's name; `None` if they make no sense.
pub fn parse(arguments: &[OsString]) -> Option<Mode> {
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let is = |word: &OsStr, text: &str| word == OsStr::new(text);
    match words[..] {
        [mode, bundle] if is(mode, "run") => Some(Mode::Run(bundle.into())),
        [mode, bundle] if is(mode, "exec") => Some(Mode::Exec(bundle.into())),
        [mode, _id] if is(mode, "hold") => Some(Mode::Hold),
        [mode, state, run, id] if is(mode, "monitor") => monitor(state, run, id, Task::Start),
        [mode, state, run, id, attend] if is(mode, "monitor") && is(attend, "--attend") => monitor(state, run, id, Task::StartAttended),
        [mode, state, run, id, adopt] if is(mode, "monitor") && is(adopt, "--adopt") => monitor(state, run, id, Task::Adopt),
        _ => None,
    }
}

fn monitor(state: &OsStr, run: &OsStr, id: &OsStr, task: Task) -> Option<Mode> {
    let places = Places { state: state.into(), run: run.into(), ..Places::standard() };
    let id = id.to_str()?.parse().ok()?;
    Some(Mode::Monitor(Arguments { places, id, task }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Option<Mode> {
        parse(&text.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn modes_are_told_apart() {
        assert_eq!(parse_text("run /b"), Some(Mode::Run("/b".into())));
        assert_eq!(parse_text("hold web@1"), Some(Mode::Hold));
        assert!(matches!(parse_text("monitor /s /r web@1 --attend"), Some(Mode::Monitor(Arguments { task: Task::StartAttended, .. }))));
        assert!(matches!(parse_text("monitor /s /r web@1 --adopt"), Some(Mode::Monitor(Arguments { task: Task::Adopt, .. }))));
        assert!(matches!(parse_text("monitor /s /r web@1"), Some(Mode::Monitor(Arguments { task: Task::Start, .. }))));
        for nonsense in ["", "run", "monitor /s /r web", "monitor /s /r web@1 --other", "attach x"] {
            assert_eq!(parse_text(nonsense), None, "{nonsense}");
        }
    }
}
