//! `agent plan`: what would happen, and why. Writes nothing anywhere.

use super::site::{SiteArgs, load};
use super::{Outcome, Session, exit, render};
use crate::host::Host as _;
use crate::linux::LinuxHost;
use crate::plan::{Policy, plan, text};
use clap::Args;

/// Show what would be created, changed, replaced and removed, and why; changes nothing.
///
/// Exit codes: 0 nothing to do, 2 there are changes, 1 something is wrong with the site or the host.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) fn run(args: &PlanArgs, session: &Session) -> Outcome {
    let site = load(&args.site, session)?;
    let host = LinuxHost::look(&session.places, &site.root)?;
    let plan = plan(&site.desired, &host.observe(&site.desired)?, &Policy::keep(site.id));
    if session.render.json {
        session.render.text(&text::json_lines(&plan));
    } else {
        session.render.text(&render::plan(&text::render(&plan)));
    }
    Ok(if plan.steps.is_empty() { exit::DONE } else { exit::CHANGES })
}
