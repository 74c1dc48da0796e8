//! `agent destroy`: removes what a site's manifests made.

use super::apply::{Telling, carry_out};
use super::site::{SiteArgs, load};
use super::{Failure, Outcome, Session, exit, render};
use crate::linux::look;
use crate::plan::action::Purpose;
use crate::plan::{Policy, Volumes, plan};
use anyhow::anyhow;
use clap::Args;
use spec::desired::Desired;
use std::io::{BufRead as _, IsTerminal as _};

/// Remove what a site's manifests made: containers, networks, names of images. Volumes only with --volumes.
#[derive(Debug, Args)]
pub(super) struct DestroyArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Remove volumes too, with all their data
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long, visible_alias = "force", short_alias = 'f', alias = "auto-approve")]
    yes: bool,
}

pub(super) fn run(args: &DestroyArgs, session: &Session) -> Outcome {
    let source = args.site.open(session)?;
    let mut site = load(&source, session)?;
    site.desired = Desired::default();
    let volumes = if args.volumes { Volumes::Remove } else { Volumes::Keep };
    let policy = Policy { site: site.id.clone(), volumes, purpose: Purpose::Destroy };
    if !args.yes {
        let plan = plan(&site.desired, &look(&session.places, &site.desired)?, &policy);
        session.render.text(&render::plan(&plan));
        if plan.steps.is_empty() {
            return Ok(exit::DONE);
        }
        confirm(session)?;
    }
    carry_out(
        session,
        &source.describe(),
        &site,
        &policy,
        Telling { quiet: !args.yes, done: "Done: what the site made is gone.", verb: "destroy" },
    )
}

fn confirm(session: &Session) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Error { error: anyhow!("nobody is there to ask"), hint: Some("add --yes".to_owned()) });
    }
    session.render.say("Remove all of this? Only \"yes\" is taken as one:");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::Error { error: anyhow!("nothing was removed"), hint: None }) }
}
