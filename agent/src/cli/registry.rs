//! `agent registry …`: this host's images as a registry for others.

use super::{Failure, Outcome, Session, exit};
use crate::daemon::EndSignals;
use crate::linux::make_room_for_push;
use crate::registry::{Access, Anonymous, Registry, Server, Tls, Writing};
use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Subcommand)]
pub(super) enum RegistryCommand {
    /// Serve the images of this host to docker, skopeo, podman and other agents
    Serve(ServeArgs),
}

/// Serve the images of this host to docker, skopeo, podman and other agents.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ServeArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Host and port that images pushed here are stored under; what is listened on if not given
    #[arg(long, value_name = "HOST[:PORT]")]
    name: Option<String>,
    /// Take pushes and deletions too
    #[arg(long)]
    writable: bool,
    /// The certificate and its chain, PEM; without it plain HTTP is served
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Users and their passwords: lines as htpasswd -B makes them
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Let everybody pull; only to push takes a password
    #[arg(long, requires = "htpasswd")]
    anonymous_pull: bool,
}

const AFTER_HELP: &str = "\
Images are found by what they are called here: an image `web` of a site as web:latest, docker.io/library/nginx:1
as nginx:1, others with and without their host. What is pushed as team/app:1 is stored as NAME/team/app:1; indexes,
images of other platforms, signatures and other artifacts are kept beside the store as they came.

With --htpasswd clients give a password, or get a token for it that is good for five minutes and what they asked for.

  agent registry serve --listen 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem --htpasswd users --writable
  docker pull host:5000/web";

pub(super) fn run(command: &RegistryCommand, session: &Session) -> Outcome {
    match command {
        RegistryCommand::Serve(args) => serve(args, session),
    }
}

fn serve(args: &ServeArgs, session: &Session) -> Outcome {
    let is_local = args.listen.ip().is_loopback();
    if args.writable && args.htpasswd.is_none() && !is_local {
        let error = anyhow!("everybody who reaches {} could push", args.listen);
        return Err(Failure::Error { error, hint: Some("give --htpasswd FILE, or listen on 127.0.0.1".to_owned()) });
    }
    if args.htpasswd.is_some() && args.tls_cert.is_none() && !is_local {
        session.render.warn("without --tls-cert passwords travel in the clear");
    }
    let anonymous = if args.anonymous_pull { Anonymous::MayPull } else { Anonymous::Refused };
    let access = args.htpasswd.as_ref().map_or(Ok(Access::Open), |path| Access::read(path, anonymous))?;
    let tls = args.tls_cert.as_ref().zip(args.tls_key.as_ref()).map(|(cert, key)| Tls::read(cert, key)).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let writing = if args.writable { Writing::Allowed } else { Writing::Refused };
    let mut signals = EndSignals::listen().context("listen to signals")?;
    let name = args.name.clone().unwrap_or_else(|| args.listen.to_string());
    let engine = Arc::new(session.engine()?);
    let room = Arc::clone(&engine);
    let registry = Registry::new(&engine, name, access, writing, Box::new(move |refusal| make_room_for_push(&room, refusal)))?;
    let server = Server::bind(registry, args.listen, tls)?;
    let ender = server.ender().context("listen")?;
    let kind = if args.writable { "writable" } else { "read-only" };
    session.render.say(format_args!("serving on {scheme}://{} ({kind})", server.address().context("listen")?));
    std::thread::spawn(move || {
        signals.wait();
        ender.end();
        signals.wait();
        // Who asks twice does not want to wait.
        std::process::exit(i32::from(exit::FAILED));
    });
    server.run();
    Ok(exit::DONE)
}
