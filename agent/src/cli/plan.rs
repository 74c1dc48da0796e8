//! `agent plan`: what would happen, and why. Writes nothing anywhere.

use super::site::{SiteArgs, load};
use super::{Outcome, Session, exit, render};
use crate::linux::Glance;
use crate::plan::{Policy, plan, text};
use clap::Args;
use std::mem::ManuallyDrop;

/// Show what would be created, changed, replaced and removed, and why; changes nothing.
///
/// Exit codes: 0 nothing to do, 2 there are changes, 1 something is wrong with the site or the host.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) fn run(args: &PlanArgs, session: &Session) -> Outcome {
    runtime::heap::grow_in_big_steps();
    let source = args.site.open(session)?;
    // Neither needs the other until both are there.
    let (site, glance) = std::thread::scope(|scope| {
        let glance = scope.spawn(|| Glance::take(&session.places));
        let site = load(&source, session);
        (site, glance.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    // The process ends with the answer: taking a large site apart would only put that off.
    let site = ManuallyDrop::new(site?);
    let actual = ManuallyDrop::new(glance?.with_images(&site.desired)?);
    let plan = plan(&site.desired, &actual, &Policy::keep(site.id.clone()));
    if session.render.json {
        session.render.text(&text::json_lines(&plan));
    } else {
        session.render.text(&render::plan(&plan));
    }
    Ok(if plan.is_empty() { exit::DONE } else { exit::CHANGES })
}
