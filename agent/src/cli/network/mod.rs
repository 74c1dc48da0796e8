//! `agent network …`.

mod connect;

use crate::cli::container::{DEFAULT_NETWORK, label};
use crate::cli::missing::missing;
use crate::cli::system::prune::confirm_removal;
use crate::cli::template::Format;
use crate::cli::{Failure, Outcome, Session, exit};
use crate::linux::{Applied, create_network};
use crate::plan::actual::{Owner, SiteId};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use runtime::engine::{Engine, EngineError};
use runtime::network::{Links, bridge_name, list_networks};
use serde::Serialize;
use spec::desired::{Kind, Network};
use spec::value::Name;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NetworkCommand {
    /// Make a network that belongs to no site
    Create(CreateArgs),
    /// List networks
    #[command(alias = "list")]
    Ls(LsArgs),
    /// Show what is known of networks, as JSON
    Inspect(InspectArgs),
    /// Connect a container that was run by hand to a network
    Connect(connect::ConnectArgs),
    /// Disconnect a container that was run by hand from a network
    Disconnect(connect::DisconnectArgs),
    /// Remove networks of no site that no container is on
    Prune(PruneArgs),
    /// Remove networks of no site
    #[command(alias = "remove")]
    Rm(RmArgs),
}

/// Make a network that belongs to no site: for containers run by hand, and for sites that say `external: true`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// How it is made; a bridge is the only way
    #[arg(short, long, default_value = "bridge", value_parser = ["bridge"], hide = true)]
    driver: String,
    /// Its subnet, such as 10.20.0.0/24; a free one is chosen if not given
    #[arg(long, value_name = "CIDR")]
    subnet: Option<String>,
    /// The bridge's own address; the subnet's first host if not given
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// It has no way out of the host
    #[arg(long)]
    internal: bool,
    /// A label
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Its name
    name: Name,
}

/// Remove networks that belong to no site. One that a container is on is refused.
#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Names
    #[arg(required = true)]
    networks: Vec<Name>,
}

/// List networks.
#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// json, table, or a template such as '{{.Name}}: {{.Subnet}}'
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
}

/// Show what is known of networks, as JSON.
#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// Names
    #[arg(required = true)]
    networks: Vec<Name>,
    /// Only this of each, such as '{{json .IPAM}}'
    #[arg(short, long, value_name = "TEMPLATE", value_parser = Format::parse)]
    format: Option<Format>,
}

/// Remove networks of no site that no container is on.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'y', visible_alias = "yes")]
    force: bool,
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

pub(in crate::cli) fn run(command: &NetworkCommand, session: &Session) -> Outcome {
    match command {
        NetworkCommand::Create(args) => create(args, session),
        NetworkCommand::Prune(args) => prune(args, session),
        NetworkCommand::Connect(args) => connect::connect(args, session),
        NetworkCommand::Disconnect(args) => connect::disconnect(args, session),
        NetworkCommand::Rm(args) => rm(args, session),
        NetworkCommand::Ls(args) => ls(args, session),
        NetworkCommand::Inspect(args) => inspect(args, session),
    }
}

fn create(args: &CreateArgs, session: &Session) -> Outcome {
    // As a manifest: the same checks.
    let labels: BTreeMap<_, _> = args.label.iter().cloned().collect();
    let spec = serde_json::json!({
        "driver": args.driver, "subnet": args.subnet, "gateway": args.gateway, "internal": args.internal, "labels": labels,
    });
    let manifest = serde_json::json!({"apiVersion": "agent/v1", "kind": "Network", "metadata": {"name": args.name}, "spec": spec});
    let site = crate::site::unwritten(SiteId::of_run(&args.name), &[manifest]).map_err(Failure::of_arguments)?;
    let engine = session.engine()?;
    let _lock = session.lock_host(&engine)?;
    if list_networks(engine.places())?.contains_key(&args.name) {
        let hint = Some(format!("use it, choose another name, or remove it: agent network rm {}", args.name));
        return Err(Failure::Error { error: anyhow!("network {} exists", args.name), hint });
    }
    for (name, network) in &site.desired.networks {
        create_network(&engine, name, network)?;
        session.render.answer("name", name);
    }
    Ok(exit::DONE)
}

fn rm(args: &RmArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let _lock = session.lock_host(&engine)?;
    let records = list_networks(engine.places())?;
    let absent: Vec<&str> = args.networks.iter().filter(|name| !records.contains_key(*name)).map(Name::as_str).collect();
    if !absent.is_empty() {
        return Err(missing(&engine, Kind::Network, &absent));
    }
    for name in &args.networks {
        if let Some(Ok(record)) = records.get(name)
            && let Ok(Applied { owner: Owner::Site(site), .. }) = Applied::<Network>::read(&record.annotations)
        {
            let hint = Some("it goes with its manifest, or with agent destroy".to_owned());
            return Err(Failure::Error { error: anyhow!("network {name} belongs to the site {site}"), hint });
        }
        engine.remove_network(name).map_err(|error| {
            let hint = match &error {
                EngineError::NetworkInUse { users, .. } => {
                    let users: Vec<_> = users.iter().map(ToString::to_string).collect();
                    Some(format!("remove them first: agent container rm {}", users.join(" ")))
                }
                _ => None,
            };
            Failure::Error { error: error.into(), hint }
        })?;
        session.render.answer("name", name);
    }
    Ok(exit::DONE)
}

fn prune(args: &PruneArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let users = engine.users_of_networks()?;
    let unused = list_networks(engine.places())?.into_iter().filter(|(name, record)| {
        let owner = record.as_ref().ok().and_then(|record| Applied::<Network>::read(&record.annotations).ok());
        // The host's own comes again with the next container.
        !users.contains_key(name) && name.as_str() != DEFAULT_NETWORK && owner.is_some_and(|applied| applied.owner == Owner::Hand)
    });
    let unused = unused.map(|(name, _)| (name, 0)).collect();
    confirm_removal(session, args.force, "networks", unused, |name| {
        // One that somebody has joined while we asked refuses.
        let _lock = session.lock_host(&engine)?;
        Ok(engine.remove_network(name)?)
    })
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
