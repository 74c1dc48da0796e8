//! `agent network connect | disconnect`: containers that were run by hand join networks and leave them, running or not.

use super::missing;
use crate::cli::container::{find_one, refuse_if_of_site};
use crate::cli::{Failure, Outcome, Session, exit};
use crate::linux::endpoint_by_hand;
use anyhow::anyhow;
use clap::Args;
use runtime::container;
use runtime::container::config::{Endpoint, NetworkConfig};
use runtime::engine::Engine;
use runtime::network::list_networks;
use spec::desired::{Attachment, Kind};
use spec::value::{ContainerId, Name};
use std::net::Ipv4Addr;

/// Connect a container that was run by hand to a network, at once if it runs.
#[derive(Debug, Args)]
pub(in crate::cli) struct ConnectArgs {
    /// A further name that it answers to there
    #[arg(long, value_name = "NAME")]
    alias: Vec<Name>,
    /// Its address there
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// The network
    network: Name,
    /// Name or id of the container
    container: String,
}

/// Disconnect a container that was run by hand from a network, at once if it runs.
#[derive(Debug, Args)]
pub(in crate::cli) struct DisconnectArgs {
    /// Taken for Docker's sake
    #[arg(short, long, hide = true)]
    force: bool,
    /// The network
    network: Name,
    /// Name or id of the container
    container: String,
}

pub(super) fn connect(args: &ConnectArgs, session: &Session) -> Outcome {
    change(session, &args.container, |engine, id, endpoints| {
        if endpoints.iter().any(|endpoint| endpoint.network == args.network) {
            return Err(Failure::Error { error: anyhow!("{id} is on network {} already", args.network), hint: None });
        }
        if !list_networks(engine.places())?.contains_key(&args.network) {
            return Err(missing(engine, Kind::Network, &[args.network.as_str()]));
        }
        let attachment = Attachment { address: args.ip, aliases: args.alias.iter().cloned().collect() };
        endpoints.push(endpoint_by_hand(engine, id, &args.network, &attachment)?);
        Ok(())
    })
}

pub(super) fn disconnect(args: &DisconnectArgs, session: &Session) -> Outcome {
    change(session, &args.container, |_, id, endpoints| {
        let before = endpoints.len();
        endpoints.retain(|endpoint| endpoint.network != args.network);
        match endpoints.len() {
            now if now == before => Err(Failure::Error { error: anyhow!("{id} is not on network {}", args.network), hint: None }),
            _ => Ok(()),
        }
    })
}

/// Changes the networks that a container is on.
fn change(session: &Session, name: &str, change: impl FnOnce(&Engine, &ContainerId, &mut Vec<Endpoint>) -> Result<(), Failure>) -> Outcome {
    let engine = session.engine()?;
    let _lock = session.lock_host(&engine)?;
    let id = find_one(&engine, name)?;
    let snapshot = container::inspect(engine.places(), &id)?;
    refuse_if_of_site(&id, &snapshot)?;
    let NetworkConfig::Bridged { mut endpoints, ports } = snapshot.config.network else {
        let hint = Some("run it without --network host or none".to_owned());
        return Err(Failure::Error { error: anyhow!("{id} has no network of its own"), hint });
    };
    change(&engine, &id, &mut endpoints)?;
    engine.reconnect_container(&id, &NetworkConfig::Bridged { endpoints, ports })?;
    session.render.answer("id", &id);
    Ok(exit::DONE)
}
