//! `agent container stats`.

use super::find::find;
use crate::cli::render::{Size, fit, table};
use crate::cli::{Outcome, Session, exit};
use crate::human::size;
use clap::Args;
use runtime::container::state::Phase;
use runtime::container::{self, Stats};
use runtime::engine::Engine;
use serde::Serialize;
use spec::value::ContainerId;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Between the two looks that a share of processor time needs.
const SAMPLE: Duration = Duration::from_millis(500);

/// Show processor time, memory and processes of running containers.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Names or ids; all running ones if none is given
    containers: Vec<String>,
    /// Go on, a table every second
    #[arg(short, long)]
    follow: bool,
    /// Once, as without --follow; taken for Docker's sake
    #[arg(long, hide = true, conflicts_with = "follow")]
    no_stream: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    /// Of one processor, in percent.
    cpu_percent: f64,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
    pids: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

pub(super) fn run(args: &StatsArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    loop {
        let ids = if args.containers.is_empty() { running(&engine)? } else { find(&engine, &args.containers)? };
        show(&sample(&engine, &ids), args.follow, session);
        if !args.follow {
            return Ok(exit::DONE);
        }
        std::thread::sleep(SAMPLE);
    }
}

fn running(engine: &Engine) -> Result<Vec<ContainerId>, crate::cli::Failure> {
    let containers = engine.containers()?.into_iter();
    let runs = |snapshot: &container::Snapshot| matches!(snapshot.state.phase, Phase::Running { .. });
    Ok(containers.filter(|(_, it)| it.as_ref().is_ok_and(runs)).map(|(id, _)| id).collect())
}

/// Two looks at all of them, half a second apart; those that stopped in between are left out.
fn sample(engine: &Engine, ids: &[ContainerId]) -> Vec<Row> {
    let look = || -> BTreeMap<&ContainerId, Stats> {
        ids.iter().filter_map(|id| Some((id, container::stats(engine.places(), id).ok()?))).collect()
    };
    let (first, began) = (look(), Instant::now());
    std::thread::sleep(SAMPLE);
    let (second, took) = (look(), began.elapsed());
    let row = |(id, stats): (&ContainerId, Stats)| {
        let used_ns = stats.cgroup.cpu_ns.saturating_sub(first.get(id)?.cgroup.cpu_ns);
        Some(Row {
            id: id.to_string(),
            cpu_percent: 100.0 * used_ns as f64 / took.as_nanos() as f64,
            memory_bytes: stats.cgroup.memory_bytes,
            memory_limit_bytes: stats.cgroup.memory_limit_bytes,
            pids: stats.cgroup.pids,
            received_bytes: stats.network.received_bytes,
            sent_bytes: stats.network.sent_bytes,
        })
    };
    second.into_iter().filter_map(row).collect()
}

/// A table of its own each time, or the same one anew where a person watches.
fn show(rows: &[Row], follow: bool, session: &Session) {
    let headings = ["container", "cpu", "memory", "limit", "pids", "received", "sent"];
    let cells = |row: &Row| {
        vec![
            row.id.clone(),
            format!("{:.1}%", row.cpu_percent),
            size(row.memory_bytes),
            row.memory_limit_bytes.map_or_else(|| "-".to_owned(), size),
            row.pids.to_string(),
            size(row.received_bytes),
            size(row.sent_bytes),
        ]
    };
    if follow && session.render.is_watched() && std::io::stdout().is_terminal() {
        let Size { columns, rows: lines } = session.render.size();
        let table = table(&headings, rows, cells);
        session.render.draw(&table.iter().take(lines).map(|line| fit(line, columns)).collect::<Vec<_>>());
    } else {
        session.render.rows(&headings, rows, cells);
    }
}
