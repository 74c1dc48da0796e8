//! `stats`: what a container uses now.

use super::error::ContainerError;
use super::list::{inspect, running_process};
use super::state::ProcessRef;
use crate::cgroup::{self, Cgroup};
use crate::places::Places;
use spec::value::ContainerId;
use std::io;

/// What a running container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Memory, processor time, processes.
    pub cgroup: cgroup::Stats,
    /// What went over its links, loopback left out; the host's own links with `NetworkConfig::Host`.
    pub network: Traffic,
}

/// Bytes since the links were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Into the container.
    pub received_bytes: u64,
    /// Out of it.
    pub sent_bytes: u64,
}

/// Reads them. Errors: [`ContainerError::NotRunning`].
pub fn stats(places: &Places, id: &ContainerId) -> Result<Stats, ContainerError> {
    let snapshot = inspect(places, id)?;
    let process = running_process(&snapshot.state).ok_or_else(|| ContainerError::NotRunning { id: id.clone() })?;
    let failed = |source: cgroup::CgroupError| ContainerError::Kernel {
        id: id.clone(),
        action: "read control group",
        source: io::Error::other(source),
    };
    let cgroup = Cgroup::of_container(places, id).map_err(failed)?.stats().map_err(failed)?;
    Ok(Stats { cgroup, network: traffic(process).map_err(ContainerError::kernel("read network counters", id))? })
}

fn traffic(process: ProcessRef) -> io::Result<Traffic> {
    Ok(parse(&std::fs::read_to_string(format!("/proc/{}/net/dev", process.pid))?))
}

/// Sums the columns "bytes received" and "bytes transmitted" of proc_pid_net(5), the 1st and the 9th after the link's name.
fn parse(text: &str) -> Traffic {
    let links = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    links.fold(Traffic::default(), |sum, (_, counters)| {
        let counter = |at: usize| counters.split_ascii_whitespace().nth(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Traffic { received_bytes: sum.received_bytes.saturating_add(counter(0)), sent_bytes: sum.sent_bytes.saturating_add(counter(8)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_summed_without_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n\
             \u{20}   lo:     999       9    0    0    0     0          0         0      999       9    0    0    0     0       0          0\n\
             \u{20} eth0:     100       1    0    0    0     0          0         0       20       1    0    0    0     0       0          0\n\
             \u{20} eth1:       1       1    0    0    0     0          0         0        2       1    0    0    0     0       0          0\n";
        assert_eq!(parse(text), Traffic { received_bytes: 101, sent_bytes: 22 });
    }
}
