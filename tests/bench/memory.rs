//! Memory of what stays while containers run: the process beside each container, and an idle watch. PSS: shared pages are
//! counted in parts, so that sums are true.

use crate::ground::Ground;
use crate::measure::Series;
use crate::options::Options;
use crate::peers::{Network, Peer, agent};
use crate::table::{self, Unit};
use anyhow::{Context as _, Result};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// By then a monitor has given back what it needs only for a start.
const SETTLING: Duration = Duration::from_secs(2);

/// Each peer alone: with one container, then with many.
pub fn measure(ground: &Ground, options: &Options, peers: &mut [Box<dyn Peer>]) -> Result<()> {
    let crowd = options.crowd();
    for count in [1, crowd] {
        let mut lines = Vec::new();
        for peer in peers.iter_mut() {
            let Some(monitor) = peer.monitor() else { continue };
            match of_monitors(peer.as_mut(), monitor, count) {
                Ok(line) => lines.push(line),
                Err(error) => eprintln!("{} is out: {error:#}", peer.name()),
            }
        }
        table::print(&format!("memory (PSS) of the process beside a container, one of {count}"), Unit::Kibibytes, &lines);
    }
    let watch = agent::watch(ground, crowd, || sleep(SETTLING))?;
    table::print(
        &format!("memory (PSS) of an idle watch over {crowd} containers"),
        Unit::Kibibytes,
        &[Series::single("agent watch", watch)],
    );
    Ok(())
}

fn of_monitors(peer: &mut dyn Peer, monitor: &str, count: usize) -> Result<Series> {
    peer.start(count, Network::None)?;
    sleep(SETTLING);
    let sizes = processes(monitor).and_then(|pids| pids.into_iter().map(pss_kib).collect::<Result<Vec<_>>>());
    peer.stop(count)?;
    let mut series = Series::new(format!("{} ({monitor})", peer.name()));
    sizes?.into_iter().for_each(|size| series.add_value(size));
    Ok(series)
}

/// Processes by name. Only those of our namespace are seen.
fn processes(name: &str) -> Result<Vec<u32>> {
    // The kernel keeps 15 bytes of a name.
    let name = &name[..name.len().min(15)];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else { continue };
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What a process takes, in KiB.
pub fn pss_kib(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("smaps_rollup has no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
