//! `agent container port`.

use super::find::find_one;
use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::anyhow;
use clap::Args;
use runtime::container;
use runtime::container::config::NetworkConfig;
use spec::value::PortMapping;
use std::net::Ipv4Addr;

/// Show which ports of the host lead to a container.
#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// Name or id
    container: String,
    /// Only those that lead to this one, such as 80 or 53/udp
    port: Option<String>,
}

pub(super) fn run(args: &PortArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let id = find_one(&engine, &args.container)?;
    let ports = match container::inspect(engine.places(), &id)?.config.network {
        NetworkConfig::Bridged { ports, .. } => ports,
        NetworkConfig::Host | NetworkConfig::None => Vec::new(),
    };
    let inside = |port: &PortMapping| format!("{}/{}", port.container_port, port.protocol);
    let outside = |port: &PortMapping| format!("{}:{}", port.host_address.unwrap_or(Ipv4Addr::UNSPECIFIED), port.host_port);
    let wanted = args.port.as_ref().map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
    let found: Vec<&PortMapping> = ports.iter().filter(|port| wanted.as_ref().is_none_or(|wanted| *wanted == inside(port))).collect();
    if let (Some(wanted), true) = (&wanted, found.is_empty()) {
        let hint = Some(format!("those published: agent container port {id}"));
        return Err(Failure::Error { error: anyhow!("port {wanted} of {id} is not published"), hint });
    }
    for port in found {
        match &wanted {
            _ if session.render.json => session.render.json_line(&serde_json::json!({"container": inside(port), "host": outside(port)})),
            Some(_) => session.render.line(outside(port)),
            None => session.render.line(format_args!("{} -> {}", inside(port), outside(port))),
        }
    }
    Ok(exit::DONE)
}
