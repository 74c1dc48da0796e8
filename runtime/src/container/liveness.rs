//! Whether a process is still the one it was: by its number and its start time.

use super::state::ProcessRef;
use crate::store::small;
use rustix::fs::CWD;

/// Longest `stat` read: 52 numbers and a name.
const STAT_BYTES_MAX: usize = 4 * 1024;

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
        Some(stat) if stat.start_time != process.start_time => Liveness::Gone,
        Some(Stat { letter: b'Z' | b'X' | b'x', .. }) => Liveness::Zombie,
        Some(_) => Liveness::Alive,
        None => Liveness::Gone,
    }
}

/// The status word of wait(2) of a process that has ended and that nobody has reaped; `None` if it runs or is gone.
pub(crate) fn wait_status_of_zombie(process: ProcessRef) -> Option<i32> {
    match of(process) {
        Liveness::Zombie => stat(process.pid).map(|stat| stat.wait_status),
        Liveness::Alive | Liveness::Gone => None,
    }
}

/// The process with this number as it is now; `None` if there is none.
pub fn reference(pid: i32) -> Option<ProcessRef> {
    stat(pid).map(|stat| ProcessRef { pid, start_time: stat.start_time })
}

/// Fields 3, 22 and 52 of proc_pid_stat(5).
struct Stat {
    letter: u8,
    start_time: u64,
    wait_status: i32,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = small::read_at(CWD, format!("/proc/{pid}/stat"), STAT_BYTES_MAX).ok()?;
    // The command (field 2) is in parentheses and may hold anything, parentheses too: fields count from the last one.
    let after = text.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(text.get(after + 2..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let letter = *fields.next()?.as_bytes().first()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    let wait_status = fields.nth(29)?.parse().ok()?;
    Some(Stat { letter, start_time, wait_status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_tells_how_it_ended() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().expect("spawn");
        let process = reference(i32::try_from(child.id()).expect("pid")).expect("not reaped");
        let status = std::iter::repeat_with(|| wait_status_of_zombie(process)).flatten().next();
        assert_eq!(status, Some(7 << 8));
        child.wait().expect("wait");
        assert_eq!(wait_status_of_zombie(process), None);
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let me = reference(i32::try_from(std::process::id()).expect("pid")).expect("we run");
        assert_eq!(of(me), Liveness::Alive);
        assert_eq!(of(ProcessRef { start_time: me.start_time + 1, ..me }), Liveness::Gone);
        assert_eq!(of(ProcessRef { pid: i32::MAX, start_time: 0 }), Liveness::Gone);
    }
}
