//! Whether a process is still the one it was: by its number and its start time.

use super::state::ProcessRef;
use std::fs;

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs.
    Alive,
    /// It ended; its parent has not asked for its exit status yet.
    Zombie,
    /// It is gone, and its number may be another's.
    Gone,
}

/// Looks at a process.
pub fn of(process: ProcessRef) -> Liveness {
    match stat(process.pid) {
        Some((_, start_time)) if start_time != process.start_time => Liveness::Gone,
        Some((b'Z' | b'X' | b'x', _)) => Liveness::Zombie,
        Some(_) => Liveness::Alive,
        None => Liveness::Gone,
    }
}

/// The process with this number as it is now; `None` if there is none.
pub fn reference(pid: i32) -> Option<ProcessRef> {
    stat(pid).map(|(_, start_time)| ProcessRef { pid, start_time })
}

/// State letter and start time: fields 3 and 22 of proc_pid_stat(5).
fn stat(pid: i32) -> Option<(u8, u64)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The command (field 2) is in parentheses and may hold anything, parentheses too: fields count from the last one.
    let after = text.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(text.get(after + 2..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_used_again_is_another_process() {
        let me = reference(i32::try_from(std::process::id()).expect("pid")).expect("we run");
        assert_eq!(of(me), Liveness::Alive);
        assert_eq!(of(ProcessRef { start_time: me.start_time + 1, ..me }), Liveness::Gone);
        assert_eq!(of(ProcessRef { pid: i32::MAX, start_time: 0 }), Liveness::Gone);
    }
}
