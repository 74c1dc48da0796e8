//! `agent system reset`.

use crate::cli::{Failure, Outcome, Session, exit};
use crate::daemon::is_watched;
use anyhow::anyhow;
use clap::Args;

/// Remove everything of this agent from the host, data in volumes included.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResetArgs {
    /// Yes, everything
    #[arg(short, long, visible_short_alias = 'y', visible_alias = "yes")]
    force: bool,
}

pub(super) fn run(args: &ResetArgs, session: &Session) -> Outcome {
    if !args.force {
        let error = anyhow!("this removes every container, network, image and volume of this agent, with all data");
        return Err(Failure::Error { error, hint: Some("add --force if that is what you want".to_owned()) });
    }
    if !runtime::engine::Engine::exists(&session.places) {
        return Ok(exit::DONE);
    }
    if is_watched(&session.places.run)? {
        let error = anyhow!("a watch runs, and would make again what is removed");
        return Err(Failure::Error { error, hint: Some("end it first".to_owned()) });
    }
    let engine = session.engine()?;
    let _lock = session.lock_host(&engine)?;
    match engine.reset() {
        Ok(()) => Ok(exit::DONE),
        Err(problems) => {
            problems.into_iter().for_each(|problem| session.render.failure(&problem.into(), None));
            Err(Failure::Shown)
        }
    }
}
