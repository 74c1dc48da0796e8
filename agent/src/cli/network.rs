//! `agent network …`.

use super::missing::missing;
use super::template::Format;
use super::{Failure, Outcome, Session, exit};
use clap::{Args, Subcommand};
use runtime::engine::Engine;
use runtime::network::{Links, bridge_name, list_networks};
use serde::Serialize;
use spec::desired::Kind;
use spec::value::Name;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// List networks
    #[command(alias = "list")]
    Ls(LsArgs),
    /// Show what is known of networks, as JSON
    Inspect(InspectArgs),
}

/// List networks.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// json, table, or a template such as '{{.Name}}: {{.Subnet}}'
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
}

/// Show what is known of networks, as JSON.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Names
    #[arg(required = true)]
    networks: Vec<Name>,
    /// Only this of each, such as '{{json .IPAM}}'
    #[arg(short, long, value_name = "TEMPLATE", value_parser = Format::parse)]
    format: Option<Format>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    bridge: String,
    subnet: String,
    gateway: Option<Ipv4Addr>,
    internal: bool,
    labels: BTreeMap<String, String>,
    containers: Vec<String>,
    faults: Vec<String>,
}

pub(super) fn run(command: &NetworkCommand, session: &Session) -> Outcome {
    match command {
        NetworkCommand::Ls(args) => ls(args, session),
        NetworkCommand::Inspect(args) => inspect(args, session),
    }
}

fn ls(args: &LsArgs, session: &Session) -> Outcome {
    let rows = session.look()?.map_or_else(|| Ok(BTreeMap::new()), |engine| rows(&engine))?.into_values().collect::<Vec<_>>();
    if args.quiet {
        rows.iter().for_each(|row| session.render.line(&row.name));
        return Ok(exit::DONE);
    }
    let cells = |row: &Row| {
        let way_out = if row.internal { "no" } else { "yes" };
        vec![row.name.clone(), row.bridge.clone(), row.subnet.clone(), way_out.to_owned(), row.containers.join(", "), row.faults.join(", ")]
    };
    let headings = ["name", "bridge", "subnet", "way out", "containers", "faults"];
    Format::print(args.format.as_ref(), session.render, &rows, |render| render.rows(&headings, &rows, cells))?;
    Ok(exit::DONE)
}

/// The document that docker's users know.
fn inspect(args: &InspectArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let rows = rows(&engine)?;
    let absent: Vec<&str> = args.networks.iter().filter(|name| !rows.contains_key(name)).map(Name::as_str).collect();
    if !absent.is_empty() {
        return Err(missing(&engine, Kind::Network, &absent));
    }
    let document = |row: &Row| {
        serde_json::json!({
            "Name": row.name,
            "Driver": "bridge",
            "Scope": "local",
            "Internal": row.internal,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": row.subnet, "Gateway": row.gateway}]},
            "Labels": row.labels,
            "Bridge": row.bridge,
            "Containers": row.containers,
            "Faults": row.faults,
        })
    };
    let documents: Vec<_> = args.networks.iter().filter_map(|name| rows.get(name)).map(document).collect();
    Format::print(args.format.as_ref(), session.render, &documents, |render| render.json_document(&documents))?;
    Ok(exit::DONE)
}

fn rows(engine: &Engine) -> Result<BTreeMap<Name, Row>, Failure> {
    let records = list_networks(engine.places())?;
    let links = Links::read(engine.places(), records.keys())?;
    let mut users = engine.users_of_networks()?;
    let mut rows = BTreeMap::new();
    for (name, record) in records {
        let containers = users.remove(&name).unwrap_or_default().iter().map(ToString::to_string).collect();
        let bridge = bridge_name(engine.places(), &name);
        let unknown = Row {
            name: name.to_string(),
            bridge,
            subnet: String::new(),
            gateway: None,
            internal: false,
            labels: BTreeMap::new(),
            containers,
            faults: Vec::new(),
        };
        let row = match record {
            Ok(record) => Row {
                faults: links.network_faults(&record).into_iter().collect(),
                subnet: record.subnet.to_string(),
                gateway: Some(record.gateway),
                internal: record.internal,
                labels: record.labels,
                ..unknown
            },
            Err(error) => Row { faults: vec![crate::host::chain(&error)], ..unknown },
        };
        rows.insert(name, row);
    }
    Ok(rows)
}
