//! `agent network …`.

use super::{Outcome, Session, exit};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// List networks
    Ls(LsArgs),
}

/// List networks.
#[derive(Debug, Args)]
pub(super) struct LsArgs {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    bridge: String,
    subnet: String,
    gateway: Option<Ipv4Addr>,
    internal: bool,
    containers: Vec<String>,
    faults: Vec<String>,
}

pub(super) fn run(command: &NetworkCommand, session: &Session) -> Outcome {
    match command {
        NetworkCommand::Ls(_) => ls(session),
    }
}

fn ls(session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut rows = Vec::new();
    for (name, record) in runtime::network::list_networks(engine.places())? {
        let containers = engine.network_users(&name)?.iter().map(ToString::to_string).collect();
        let bridge = runtime::network::bridge_name(engine.places(), &name).to_string();
        rows.push(match record {
            Ok(record) => Row {
                faults: engine.network_faults(&record)?.into_iter().collect(),
                name: name.to_string(),
                bridge,
                subnet: record.subnet.to_string(),
                gateway: Some(record.gateway),
                internal: record.internal,
                containers,
            },
            Err(error) => {
                let faults = vec![crate::host::chain(&error)];
                Row { name: name.to_string(), bridge, subnet: String::new(), gateway: None, internal: false, containers, faults }
            }
        });
    }
    session.render.rows(&["name", "bridge", "subnet", "way out", "containers", "faults"], &rows, |row| {
        let way_out = if row.internal { "no" } else { "yes" };
        vec![row.name.clone(), row.bridge.clone(), row.subnet.clone(), way_out.to_owned(), row.containers.join(", "), row.faults.join(", ")]
    });
    Ok(exit::DONE)
}
