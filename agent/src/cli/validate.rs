//! `agent validate`: every problem of a site in one pass.

use super::site::{SiteArgs, load};
use super::{Outcome, Session, exit};
use clap::Args;

/// Check the manifests of a site; every problem in one pass, with its place and a remedy.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) fn run(args: &ValidateArgs, session: &Session) -> Outcome {
    let site = load(&args.site.open(session)?, session)?;
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
