//! `agent container create`: what `run` makes, to be started later.

use super::make::{Make, MakeArgs, NotRun};
use crate::cli::{Outcome, Session, exit};
use crate::linux::Then;
use clap::Args;

/// Make a container that no manifest describes, for `agent container start`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    make: MakeArgs,
}

pub(super) fn run(args: &CreateArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let plain = args.make.plain(session, &engine)?;
    let make = Make { args: &args.make, session, engine: &engine, attendant: None, then: Then::Wait };
    let made = make.make(plain).map_err(|NotRun { failure, .. }| failure)?;
    session.render.answer("id", &made.id);
    Ok(exit::DONE)
}
