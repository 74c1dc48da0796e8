//! `agent volume …`.

use super::container::label;
use super::missing::missing;
use super::system::prune::confirm_removal;
use super::template::Format;
use super::{Failure, Outcome, Session, exit};
use crate::human::size;
use crate::linux::create_volume;
use anyhow::anyhow;
use clap::{Args, Subcommand};
use runtime::engine::Engine;
use runtime::volume::{list_volumes, remove_volume};
use serde::Serialize;
use spec::desired::{Kind, Volume};
use spec::value::Name;

#[derive(Debug, Subcommand)]
pub(super) enum VolumeCommand {
    /// Make volumes that belong to no site
    Create(CreateArgs),
    /// List volumes
    #[command(alias = "list")]
    Ls(LsArgs),
    /// Show what is known of volumes, as JSON
    Inspect(InspectArgs),
    /// Remove volumes that no container mounts and no site has, with their data
    Prune(PruneArgs),
    /// Remove volumes and their data
    #[command(alias = "remove")]
    Rm(RmArgs),
}

/// Make volumes that belong to no site: for containers run by hand, and for sites that say `external: true`.
///
/// One that is there already stays as it is.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Names
    #[arg(required = true)]
    volumes: Vec<Name>,
    /// A label
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
}

/// List volumes.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// json, table, or a template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
}

/// Show what is known of volumes, as JSON.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Names
    #[arg(required = true)]
    volumes: Vec<Name>,
    /// Only this of each, such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "TEMPLATE", value_parser = Format::parse)]
    format: Option<Format>,
}

/// Remove volumes and their data. A volume that a container mounts is refused.
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Names
    #[arg(required = true)]
    volumes: Vec<Name>,
}

/// Remove volumes that no container mounts and no site has, with their data.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'y', visible_alias = "yes")]
    force: bool,
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
        VolumeCommand::Create(args) => create(args, session),
        VolumeCommand::Ls(args) => ls(args, session),
        VolumeCommand::Inspect(args) => inspect(args, session),
        VolumeCommand::Prune(args) => prune(args, session),
        VolumeCommand::Rm(args) => rm(args, session),
    }
}

fn create(args: &CreateArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let _lock = session.lock_host(&engine)?;
    for name in &args.volumes {
        create_volume(&engine, name, &Volume { labels: args.label.iter().cloned().collect() })?;
        session.render.answer("name", name);
    }
    Ok(exit::DONE)
}

fn ls(args: &LsArgs, session: &Session) -> Outcome {
    let mut rows = Vec::new();
    if let Some(engine) = session.look()? {
        let mut users = engine.users_of_volumes()?;
        for name in list_volumes(engine.places())?.into_keys() {
            let used_by = users.remove(&name).unwrap_or_default().iter().map(ToString::to_string).collect();
            let path = engine.places().volume_data(&name);
            rows.push(Row { size: runtime::store::usage::tree_bytes(&path), used_by, path, name });
        }
    }
    if args.quiet {
        rows.iter().for_each(|row| session.render.line(&row.name));
        return Ok(exit::DONE);
    }
    let cells = |row: &Row| vec![row.name.to_string(), size(row.size), row.used_by.join(", "), row.path.display().to_string()];
    let headings = ["name", "size", "used by", "path"];
    Format::print(args.format.as_ref(), session.render, &rows, |render| render.rows(&headings, &rows, cells))?;
    Ok(exit::DONE)
}

/// The document that docker's users know.
fn inspect(args: &InspectArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut present = present(&engine, &args.volumes)?;
    let mut documents = Vec::new();
    for name in &args.volumes {
        let Some(record) = present.remove(name) else { continue };
        let path = engine.places().volume_data(name);
        documents.push(serde_json::json!({
            "Name": name,
            "Driver": "local",
            "Mountpoint": path,
            "Labels": record?.labels,
            "Scope": "local",
            "UsageData": {"Size": runtime::store::usage::tree_bytes(&path), "UsedBy": users(&engine, name)?},
        }));
    }
    Format::print(args.format.as_ref(), session.render, &documents, |render| render.json_document(&documents))?;
    Ok(exit::DONE)
}

fn prune(args: &PruneArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let volumes = engine.disk_usage(&session.needed(&engine)?)?.volumes.into_iter();
    let unused = volumes.filter(|it| it.is_unused()).map(|it| (it.name, it.bytes)).collect();
    confirm_removal(session, args.force, "volumes with all data", unused, |name| {
        // Somebody may have begun to use it while we asked.
        let _lock = session.lock_host(&engine)?;
        if engine.volume_users(name)?.is_empty() { Ok(remove_volume(engine.places(), name)?) } else { Ok(()) }
    })
}

fn rm(args: &RmArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    present(&engine, &args.volumes)?;
    for name in &args.volumes {
        let users = users(&engine, name)?;
        if !users.is_empty() {
            let hint = Some(format!("remove them first: agent container rm {}", users.join(" ")));
            return Err(Failure::Error { error: anyhow!("volume {name} is in use by {}", users.join(", ")), hint });
        }
        remove_volume(engine.places(), name)?;
        session.render.answer("name", name);
    }
    Ok(exit::DONE)
}

type Volumes = std::collections::BTreeMap<Name, Result<runtime::volume::VolumeRecord, runtime::volume::VolumeError>>;

/// All volumes; those that are asked for and are not there are named in one error.
fn present(engine: &Engine, names: &[Name]) -> Result<Volumes, Failure> {
    let present = list_volumes(engine.places())?;
    let absent: Vec<&str> = names.iter().filter(|name| !present.contains_key(name)).map(Name::as_str).collect();
    if absent.is_empty() { Ok(present) } else { Err(missing(engine, Kind::Volume, &absent)) }
}

fn users(engine: &Engine, name: &Name) -> Result<Vec<String>, Failure> {
    Ok(engine.volume_users(name)?.iter().map(ToString::to_string).collect())
}
