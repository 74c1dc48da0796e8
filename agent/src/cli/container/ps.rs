//! `agent container ps`.

use crate::cli::render::{paint, style};
use crate::cli::template::Format;
use crate::cli::{Outcome, Session, exit};
use crate::human::age;
use clap::Args;
use runtime::container::state::{ContainerState, ExitCause, Health, Phase, Timestamp};
use runtime::container::{ContainerError, Snapshot};
use runtime::engine::Keep;
use serde::Serialize;
use spec::value::ContainerId;
use std::collections::{BTreeMap, BTreeSet};

/// List containers: running ones, or all.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Those that do not run too
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Only those for which this is so: name=TEXT, status=running, health=healthy, label=KEY or label=KEY=VALUE, network=NAME,
    /// ancestor=IMAGE
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    filter: Vec<(Trait, String)>,
    /// json, table, or a template such as '{{.Names}}: {{.Status}}'
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
    /// Nothing is cut here; taken for Docker's sake
    #[arg(long, hide = true)]
    no_trunc: bool,
}

/// What containers are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trait {
    Name,
    Status,
    Health,
    Label,
    Network,
    Ancestor,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    image: String,
    status: String,
    running: bool,
    /// `created`, `running`, `restarting` or `exited`.
    state: &'static str,
    /// `none`, `starting`, `healthy` or `unhealthy`.
    health: &'static str,
    restarts: u32,
    labels: BTreeMap<String, String>,
    ports: Vec<String>,
    networks: Vec<String>,
}

pub(super) fn run(args: &PsArgs, session: &Session) -> Outcome {
    let now = session.now();
    // As in Docker: who asks for those that have exited means them.
    let all = args.all || args.filter.iter().any(|(by, _)| *by == Trait::Status);
    let mut rows = Vec::new();
    if let Some(engine) = session.look()? {
        let images: BTreeMap<_, _> = engine.images().names_of_images()?.into_iter().map(|(name, id)| (id, name)).collect();
        let name_of = |digest: spec::value::Digest| images.get(&digest).cloned().unwrap_or_else(|| digest.short());
        let found = engine.containers()?;
        let found = found.iter().map(|(id, snapshot)| row(id, snapshot, name_of, now));
        rows.extend(found.filter(|row| (all || row.running) && matches(row, &args.filter)));
    }
    if args.quiet {
        rows.iter().for_each(|row| session.render.line(&row.id));
        return Ok(exit::DONE);
    }
    let cells = |row: &Row| {
        let colour = if row.running && !row.status.contains("unhealthy") { style::GOOD } else { style::BAD };
        let status = paint(colour, &row.status);
        vec![row.name.clone(), row.id.clone(), row.image.clone(), status, row.restarts.to_string(), row.ports.join(", ")]
    };
    let headings = ["name", "id", "image", "status", "restarts", "ports"];
    Format::print(args.format.as_ref(), session.render, &rows, |render| render.rows(&headings, &rows, cells))?;
    Ok(exit::DONE)
}

/// As in Docker: one value of each kind has to fit.
fn matches(row: &Row, filters: &[(Trait, String)]) -> bool {
    let fits = |by: Trait, value: &str| match by {
        Trait::Name => row.name.contains(value) || row.id == value,
        Trait::Status => row.state == value,
        Trait::Health => row.health == value,
        Trait::Label => match value.split_once('=') {
            Some((key, value)) => row.labels.get(key).is_some_and(|it| it == value),
            None => row.labels.contains_key(value),
        },
        Trait::Network => row.networks.iter().any(|network| network.split('=').next() == Some(value)),
        Trait::Ancestor => is_named(&row.image, value),
    };
    let kinds: BTreeSet<Trait> = filters.iter().map(|(by, _)| *by).collect();
    kinds.into_iter().all(|kind| filters.iter().any(|(by, value)| *by == kind && fits(kind, value)))
}

/// Whether an image that is stored under a name is meant by a shorter one.
fn is_named(stored: &str, name: &str) -> bool {
    stored == name || crate::linux::image_key(name).is_ok_and(|key| key == stored)
}

fn filter(text: &str) -> Result<(Trait, String), String> {
    let traits = [
        ("name", Trait::Name),
        ("status", Trait::Status),
        ("health", Trait::Health),
        ("label", Trait::Label),
        ("network", Trait::Network),
        ("ancestor", Trait::Ancestor),
    ];
    let found = text.split_once('=').and_then(|(key, value)| traits.iter().find(|(name, _)| *name == key).map(|(_, by)| (*by, value)));
    found.map(|(by, value)| (by, value.to_owned())).ok_or_else(|| {
        let forms: Vec<String> = traits.iter().map(|(name, _)| format!("{name}=…")).collect();
        format!("write {}", forms.join(", "))
    })
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
            return Row {
                id,
                name,
                image: "?".to_owned(),
                status,
                running: true,
                state: "unreadable",
                health: "none",
                restarts: 0,
                labels: BTreeMap::new(),
                ports: Vec::new(),
                networks: Vec::new(),
            };
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
    if snapshot.stopped_by_user && !is_running(&snapshot.state) {
        status.push_str(", stopped by hand");
    }
    if !Keep::of(&snapshot.annotations).serving && is_running(&snapshot.state) {
        status.push_str(", not serving");
    }
    let (state, health) = words(&snapshot.state);
    Row {
        id,
        name,
        image: image(snapshot.config.image),
        status,
        running: is_running(&snapshot.state),
        state,
        health,
        restarts: snapshot.state.restarts,
        labels: snapshot.config.updatable.labels.clone(),
        ports,
        networks,
    }
}

/// Docker's words for a state and for health.
pub(super) fn words(state: &ContainerState) -> (&'static str, &'static str) {
    match &state.phase {
        Phase::Created => ("created", "none"),
        Phase::Restarting { .. } => ("restarting", "none"),
        Phase::Exited { .. } => ("exited", "none"),
        Phase::Running { health, .. } => match health {
            Health::Unchecked => ("running", "none"),
            Health::Starting => ("running", "starting"),
            Health::Healthy => ("running", "healthy"),
            Health::Unhealthy { .. } => ("running", "unhealthy"),
        },
    }
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
            format!("Restarting ({}) in {}{}", exit.code, crate::human::age((due.0 - now.0) / 1_000_000_000 + 1), cause(&exit.cause))
        }
        Phase::Exited { exit } => format!("Exited ({}) {} ago{}", exit.code, since(exit.finished), cause(&exit.cause)),
    }
}
