//! `agent image rm`.

use super::find::key;
use crate::cli::{Outcome, Session, exit};
use clap::Args;

/// Remove names of images; an image goes when its last name goes and no container uses it.
#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

pub(super) fn run(args: &RmArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    for name in &args.images {
        engine.forget_image(&key(&engine, name)?, &session.needed()?)?;
        session.render.line(name);
    }
    Ok(exit::DONE)
}
