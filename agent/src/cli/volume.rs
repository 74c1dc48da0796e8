//! `agent volume …`.

use super::render::size;
use super::{Failure, Outcome, Session, exit};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use runtime::volume::{list_volumes, remove_volume};
use serde::Serialize;
use spec::value::Name;

#[derive(Debug, Subcommand)]
pub(super) enum VolumeCommand {
    /// List volumes
    Ls(LsArgs),
    /// Remove volumes and their data
    Rm(RmArgs),
}

/// List volumes.
#[derive(Debug, Args)]
pub(super) struct LsArgs {}

/// Remove volumes and their data. A volume that a container mounts is refused.
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Names
    #[arg(required = true)]
    volumes: Vec<Name>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: Name,
    size: u64,
    used_by: Vec<String>,
    path: std::path::PathBuf,
}

pub(super) fn run(command: &VolumeCommand, session: &Session) -> Outcome {
    match command {
        VolumeCommand::Ls(_) => ls(session),
        VolumeCommand::Rm(args) => rm(args, session),
    }
}

fn ls(session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut rows = Vec::new();
    for name in list_volumes(engine.places())?.into_keys() {
        let used_by = engine.volume_users(&name)?.iter().map(ToString::to_string).collect();
        let path = engine.places().volume_data(&name);
        rows.push(Row { size: runtime::store::usage::tree_bytes(&path), used_by, path, name });
    }
    session.render.rows(&["name", "size", "used by", "path"], &rows, |row| {
        vec![row.name.to_string(), size(row.size), row.used_by.join(", "), row.path.display().to_string()]
    });
    Ok(exit::DONE)
}

fn rm(args: &RmArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let present = list_volumes(engine.places())?;
    for name in &args.volumes {
        if !present.contains_key(name) {
            let hint = Some("agent volume ls lists those there are".to_owned());
            return Err(Failure::Error { error: anyhow!("no such volume: {name}"), hint });
        }
        let users = engine.volume_users(name)?;
        if !users.is_empty() {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            let hint = Some(format!("remove them first: agent container rm {}", users.join(" ")));
            return Err(Failure::Error { error: anyhow!("volume {name} is in use by {}", users.join(", ")), hint });
        }
        remove_volume(engine.places(), name)?;
        session.render.line(name);
    }
    Ok(exit::DONE)
}
