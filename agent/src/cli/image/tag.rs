//! `agent image tag`.

use super::find::find;
use crate::cli::{Outcome, Session, exit};
use clap::Args;

/// Give an image one more name.
#[derive(Debug, Args)]
pub(in crate::cli) struct TagArgs {
    /// Name or id
    image: String,
    /// The new name
    name: String,
}

pub(super) fn run(args: &TagArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let id = find(&engine, &args.image)?;
    engine.images().tag(&crate::linux::image_key(&args.name)?, &id)?;
    Ok(exit::DONE)
}
