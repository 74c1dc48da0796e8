//! `agent system …`: the host as a whole.

use super::render::{paint, size, style};
use super::{Failure, Outcome, Session, exit};
use crate::daemon::is_watched;
use crate::linux::collect_snapshots;
use anyhow::anyhow;
use clap::{Args, Subcommand};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum SystemCommand {
    /// Show what the kernel offers, and what is missing
    Info(InfoArgs),
    /// Show what uses disk space
    Df(DfArgs),
    /// Remove images and layers that nothing uses
    Prune(PruneArgs),
    /// Remove everything of this agent from the host: containers, networks, images, volumes
    Reset(ResetArgs),
}

/// Show what the kernel offers, and what is missing.
#[derive(Debug, Args)]
pub(super) struct InfoArgs {}

/// Show what uses disk space.
#[derive(Debug, Args)]
pub(super) struct DfArgs {}

/// Remove images and layers that nothing uses.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {}

/// Remove everything of this agent from the host, data in volumes included.
#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    /// Yes, everything
    #[arg(long)]
    force: bool,
}

pub(super) fn run(command: &SystemCommand, session: &Session) -> Outcome {
    match command {
        SystemCommand::Info(_) => info(session),
        SystemCommand::Df(_) => df(session),
        SystemCommand::Prune(_) => prune(session),
        SystemCommand::Reset(args) => reset(args, session),
    }
}

fn info(session: &Session) -> Outcome {
    let release = rustix::system::uname();
    let layout = runtime::cgroup::Layout::detect().map(|layout| if layout.is_unified() { "v2" } else { "v1" });
    let missing: Vec<String> =
        runtime::network::missing_features().iter().map(|(feature, why)| format!("{feature}: {}", crate::host::chain(why))).collect();
    let report = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": release.release().to_string_lossy(),
        "architecture": release.machine().to_string_lossy(),
        "cgroup": layout.as_ref().map_or_else(|why| format!("unusable: {}", crate::host::chain(why)), |it| (*it).to_owned()),
        "missing": missing,
        "instance": session.places.instance(),
        "stateDir": session.places.state,
        "runDir": session.places.run,
        "configDir": session.places.config,
    });
    if session.render.json {
        session.render.json_line(&report);
        return Ok(exit::DONE);
    }
    for (label, field) in [
        ("version", "version"),
        ("kernel", "kernel"),
        ("architecture", "architecture"),
        ("cgroup", "cgroup"),
        ("instance", "instance"),
        ("state", "stateDir"),
        ("run", "runDir"),
        ("config", "configDir"),
    ] {
        session.render.line(format_args!("{label:<14}{}", report[field].as_str().unwrap_or_default()));
    }
    match missing.as_slice() {
        [] => session.render.line(format_args!("{:<14}{}", "features", paint(style::GOOD, "all there"))),
        missing => missing.iter().for_each(|it| session.render.line(format_args!("{:<14}{}", "missing", paint(style::BAD, it)))),
    }
    Ok(exit::DONE)
}

fn df(session: &Session) -> Outcome {
    let engine = session.engine()?;
    let places = engine.places();
    let rows = [
        ("images", places.images()),
        ("containers", places.containers()),
        ("volumes", places.volumes()),
        ("snapshots", places.snapshots()),
        ("sources", places.state.join("sources")),
    ];
    let rows: Vec<_> = rows.iter().map(|(what, path)| serde_json::json!({"what": what, "size": tree_size(path), "path": path})).collect();
    session.render.rows(&["what", "size", "path"], &rows, |row| {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        vec![text("what"), size(row["size"].as_u64().unwrap_or_default()), text("path")]
    });
    Ok(exit::DONE)
}

fn prune(session: &Session) -> Outcome {
    let engine = session.engine()?;
    let _lock = engine.lock_host()?;
    collect_snapshots(&engine)?;
    let freed = engine.collect_garbage()?;
    if session.render.json {
        session.render.json_line(&serde_json::json!({"images": freed.images, "layers": freed.layers, "bytes": freed.bytes}));
    } else {
        session.render.line(format_args!("Removed {} images and {} layers: {}.", freed.images, freed.layers, size(freed.bytes)));
    }
    Ok(exit::DONE)
}

fn reset(args: &ResetArgs, session: &Session) -> Outcome {
    if !args.force {
        let error = anyhow!("this removes every container, network, image and volume of this agent, with all data");
        return Err(Failure::Error { error, hint: Some("add --force if that is what you want".to_owned()) });
    }
    if !runtime::engine::Engine::exists(&session.places) {
        return Ok(exit::DONE);
    }
    if is_watched(&session.places.run)? {
        let error = anyhow!("a watch runs, and would make again what is removed");
        return Err(Failure::Error { error, hint: Some("end it first".to_owned()) });
    }
    let engine = session.engine()?;
    let _lock = engine.lock_host()?;
    match engine.reset() {
        Ok(()) => Ok(exit::DONE),
        Err(problems) => {
            problems.into_iter().for_each(|problem| session.render.failure(&problem.into(), None));
            Err(Failure::Shown)
        }
    }
}

/// Disk space a tree takes, in bytes; hard links count once for each name. What cannot be read counts nothing.
pub(super) fn tree_size(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| tree_size(&entry.path())).sum::<u64>()
}
