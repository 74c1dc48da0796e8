//! `top`: the processes of a container, as the host sees them.

use super::error::ContainerError;
use super::list::{inspect, running_process};
use crate::cgroup::Cgroup;
use crate::places::Places;
use spec::value::ContainerId;
use std::io;
use std::time::Duration;

/// Of processor time as the kernel tells it: USER_HZ, which is 100 wherever this runs, time(7).
const TICKS_PER_SECOND: u64 = 100;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its number in the host's namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Whose it is, by the host's number.
    pub user: u32,
    /// Processor time that it has used.
    pub time: Duration,
    /// Program and arguments, or its name in brackets where it has none.
    pub command: String,
}

/// The processes of a running container, by number. Errors: [`ContainerError::NotRunning`].
pub fn top(places: &Places, id: &ContainerId) -> Result<Vec<Task>, ContainerError> {
    let snapshot = inspect(places, id)?;
    running_process(&snapshot.state).ok_or_else(|| ContainerError::NotRunning { id: id.clone() })?;
    let failed = |source| ContainerError::kernel("read control group", id)(io::Error::other(source));
    let mut pids = Cgroup::of_container(places, id).and_then(|group| group.processes()).map_err(failed)?;
    pids.sort_unstable();
    // One that is gone meanwhile is no process of it any more.
    Ok(pids.into_iter().filter_map(task).collect())
}

fn task(pid: i32) -> Option<Task> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    parse(pid, &read("stat")?, &read("status")?, &arguments)
}

/// Reads proc_pid_stat(5), proc_pid_status(5) and proc_pid_cmdline(5).
fn parse(pid: i32, stat: &str, status: &str, arguments: &[u8]) -> Option<Task> {
    let (name, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()?.saturating_add(fields.get(12)?.parse().ok()?);
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let words: Vec<_> = arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    let name = name.split_once('(').map_or("", |(_, name)| name);
    let command = if words.is_empty() { format!("[{name}]") } else { words.join(" ") };
    let time = Duration::from_millis(ticks.saturating_mul(1000) / TICKS_PER_SECOND);
    Some(Task { pid, parent: fields.get(1)?.parse().ok()?, user, time, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b (c) S 5 7 7 0 -1 4194560 0 0 0 0 150 50 0 0 20 0 1 0 100 0 0";
        let status = "Name:\ta\nUid:\t0\t33\t0\t0\n";
        let task = parse(7, stat, status, b"httpd\0-f\0").expect("whole");
        assert_eq!((task.parent, task.user, task.command.as_str()), (5, 33, "httpd -f"));
        assert_eq!(task.time, Duration::from_millis(200 * 1000 / TICKS_PER_SECOND));
        assert_eq!(parse(7, stat, status, b"").expect("whole").command, "[a) b (c]");
        assert_eq!(parse(7, "7 (a) S", status, b""), None);
    }
}
