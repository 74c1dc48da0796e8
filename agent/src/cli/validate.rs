//! `agent validate`: every problem of a site, and of how this host reaches registries, in one pass.

use super::site::{SiteArgs, load, print_all};
use super::{Failure, Outcome, Session, exit};
use crate::linux::RegistriesError;
use clap::Args;

/// Check the manifests of a site; every problem in one pass, with its place and a remedy.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) fn run(args: &ValidateArgs, session: &Session) -> Outcome {
    let registries = registries(session);
    let site = load(&args.site.open(session)?, session)?;
    registries?;
    let desired = &site.desired;
    let counts = [
        (desired.images.len(), "image"),
        (desired.networks.len(), "network"),
        (desired.volumes.len(), "volume"),
        (desired.containers.len(), "container"),
    ];
    if session.render.json {
        let counts: std::collections::BTreeMap<_, _> = counts.iter().map(|(count, kind)| (*kind, *count)).collect();
        session.render.json_line(&serde_json::json!({"type": "valid", "site": site.id, "resources": counts}));
    } else {
        let counts: Vec<String> =
            counts.iter().map(|(count, kind)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" })).collect();
        session.render.line(format_args!("Valid: {}.", counts.join(", ")));
    }
    Ok(exit::DONE)
}

/// The registries.yaml of this host's configuration directory, if there is one.
fn registries(session: &Session) -> Result<(), Failure> {
    match crate::linux::registry_settings(&session.places.config) {
        Ok(_) => Ok(()),
        Err(RegistriesError::Invalid(problems)) => {
            print_all(&problems, session);
            Err(Failure::Shown)
        }
        Err(
            error @ (RegistriesError::Read { .. }
            | RegistriesError::Named { .. }
            | RegistriesError::Certificate { .. }
            | RegistriesError::Proxy(_)),
        ) => Err(error.into()),
    }
}
