//! `agent container ps`.

use crate::cli::render::{self, age, paint, style};
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use runtime::container::state::{ContainerState, ExitCause, Health, Phase, Timestamp};
use runtime::container::{ContainerError, Snapshot};
use runtime::engine::Keep;
use serde::Serialize;
use spec::value::ContainerId;

/// List containers: running ones, or all.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Those that do not run too
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    image: String,
    status: String,
    running: bool,
    restarts: u32,
    ports: Vec<String>,
    networks: Vec<String>,
}

pub(super) fn run(args: &PsArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let now = session.now();
    let images: std::collections::BTreeMap<_, _> = engine.images().names_of_images()?.into_iter().map(|(name, id)| (id, name)).collect();
    let mut rows = Vec::new();
    for (id, snapshot) in engine.containers()? {
        let name_of = |digest| images.get(&digest).cloned().unwrap_or_else(|| digest.short());
        let row = row(&id, &snapshot, name_of, now);
        if args.all || row.running {
            rows.push(row);
        }
    }
    if args.quiet {
        rows.iter().for_each(|row| session.render.line(&row.id));
        return Ok(exit::DONE);
    }
    session.render.rows(&["name", "id", "image", "status", "restarts", "ports"], &rows, |row| {
        let colour = if row.running && !row.status.contains("unhealthy") { style::GOOD } else { style::BAD };
        let status = paint(colour, &row.status);
        vec![row.name.clone(), row.id.clone(), row.image.clone(), status, row.restarts.to_string(), row.ports.join(", ")]
    });
    Ok(exit::DONE)
}

fn row(
    id: &ContainerId,
    snapshot: &Result<Snapshot, ContainerError>,
    image: impl Fn(spec::value::Digest) -> String,
    now: Timestamp,
) -> Row {
    let (name, id) = (id.name.to_string(), id.to_string());
    let snapshot = match snapshot {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let status = format!("unreadable: {}", crate::host::chain(error));
            return Row { id, name, image: "?".to_owned(), status, running: true, restarts: 0, ports: Vec::new(), networks: Vec::new() };
        }
    };
    let (ports, networks) = match &snapshot.config.network {
        runtime::container::config::NetworkConfig::Bridged { endpoints, ports } => (
            ports.iter().map(ToString::to_string).collect(),
            endpoints.iter().map(|endpoint| format!("{}={}", endpoint.network, endpoint.address)).collect(),
        ),
        runtime::container::config::NetworkConfig::Host => (Vec::new(), vec!["host".to_owned()]),
        runtime::container::config::NetworkConfig::None => (Vec::new(), Vec::new()),
    };
    let mut status = status(&snapshot.state, now);
    if snapshot.stopped_by_user {
        status.push_str(", stopped by hand");
    }
    if !Keep::of(&snapshot.annotations).serving && is_running(&snapshot.state) {
        status.push_str(", not serving");
    }
    let running = is_running(&snapshot.state);
    Row { id, name, image: image(snapshot.config.image), status, running, restarts: snapshot.state.restarts, ports, networks }
}

fn is_running(state: &ContainerState) -> bool {
    match state.phase {
        Phase::Running { .. } | Phase::Restarting { .. } => true,
        Phase::Created | Phase::Exited { .. } => false,
    }
}

/// `Up 3m (healthy)`, `Exited (137) 2h ago, out of memory`.
pub(super) fn status(state: &ContainerState, now: Timestamp) -> String {
    let since = |then: Timestamp| age((now.0 - then.0) / 1_000_000_000);
    let cause = |cause: &ExitCause| match cause {
        ExitCause::OutOfMemory => ", out of memory".to_owned(),
        ExitCause::StartFailed { reason } => format!(", could not be started: {reason}"),
        ExitCause::Unknown => ", nobody saw how".to_owned(),
        ExitCause::Own | ExitCause::Requested => String::new(),
    };
    match &state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running { since: start, health, .. } => {
            let health = match health {
                Health::Unchecked => "",
                Health::Starting => " (health: starting)",
                Health::Healthy => " (healthy)",
                Health::Unhealthy { .. } => " (unhealthy)",
            };
            format!("Up {}{health}", since(*start))
        }
        Phase::Restarting { exit, due } => {
            format!("Restarting ({}) in {}{}", exit.code, render::age((due.0 - now.0) / 1_000_000_000 + 1), cause(&exit.cause))
        }
        Phase::Exited { exit } => format!("Exited ({}) {} ago{}", exit.code, since(exit.finished), cause(&exit.cause)),
    }
}
