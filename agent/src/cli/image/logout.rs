//! `agent image logout`.

use super::login::registry;
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use runtime::image::registry::credentials::erase;

/// Forget the password for a registry, wherever Docker and podman keep it.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogoutArgs {
    /// The registry; Docker Hub if not given
    #[arg(default_value = "docker.io")]
    registry: String,
}

pub(super) fn run(args: &LogoutArgs, session: &Session) -> Outcome {
    let registry = registry(&args.registry)?;
    let mut known = false;
    for path in crate::linux::credential_files().0 {
        known |= erase(&path, &registry)?.is_some();
    }
    session.render.line(if known { format!("Removed the password for {registry}") } else { format!("Not logged in to {registry}") });
    Ok(exit::DONE)
}
