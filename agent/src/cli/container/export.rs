//! `agent container export`.

use super::find::find_one;
use crate::cli::image::save::write;
use crate::cli::{Outcome, Session};
use clap::Args;
use std::path::PathBuf;

/// Write a container's files to a tar: its image's and what it changed, without volumes.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Name or id
    container: String,
    /// Where to; standard output if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &ExportArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let id = find_one(&engine, &args.container)?;
    write(args.output.as_deref(), |sink| Ok(engine.export_container(&id, sink)?))
}
