//! What a group uses, and whether the kernel's out-of-memory killer struck in it.

use super::{Cgroup, CgroupError, read};

/// What the processes of a container use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Memory in bytes as Docker counts it: without file cache that could be dropped at once.
    pub memory_bytes: u64,
    /// Memory limit in bytes, if any.
    pub memory_limit_bytes: Option<u64>,
    /// Processor time used since the group was made, in nanoseconds.
    pub cpu_ns: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Cgroup {
    /// Reads them; a controller that the host lacks counts zero.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let v2 = self.layout.is_unified();
        let mut stats = Stats::default();
        if let Some(at) = self.directory("memory") {
            let usage = number(&read(&at.join(if v2 { "memory.current" } else { "memory.usage_in_bytes" }))?);
            let inactive = field(&read(&at.join("memory.stat"))?, if v2 { "inactive_file" } else { "total_inactive_file" });
            stats.memory_bytes = usage.saturating_sub(inactive);
            stats.memory_limit_bytes = self.read_limits()?.memory.map(|size| size.bytes());
        }
        if v2 {
            if let Some(at) = self.layout.unified() {
                stats.cpu_ns = field(&read(&at.mount.join(&self.path).join("cpu.stat"))?, "usage_usec").saturating_mul(1000);
            }
        } else if let Some(at) = self.directory("cpuacct") {
            stats.cpu_ns = number(&read(&at.join("cpuacct.usage"))?);
        }
        if let Some(at) = self.directory("pids") {
            stats.pids = number(&read(&at.join("pids.current"))?);
        }
        Ok(stats)
    }

    /// How many of its processes were killed for want of memory since it was made. It outlives the processes, not the group.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let Some(at) = self.directory("memory") else { return Ok(0) };
        let file = if self.layout.is_unified() { "memory.events" } else { "memory.oom_control" };
        Ok(field(&read(&at.join(file))?, "oom_kill"))
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// One value of a file of `name value` lines; zero if it is not there.
fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map_or(0, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), 3);
        assert_eq!(field(text, "oom"), 0);
    }
}
