//! `agent image import`.

use super::find::name_result;
use crate::cli::{Outcome, Session};
use anyhow::Context as _;
use clap::Args;
use runtime::image::archive;
use std::path::PathBuf;

/// Make an image from an archive.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// The archive; plain, gzip or zstd
    archive: PathBuf,
    /// Name of the result
    #[arg(short, long)]
    tag: Option<String>,
}

pub(super) fn run(args: &ImportArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let _lease = engine.images().lease()?;
    let id = archive::import(engine.images(), &args.archive).with_context(|| format!("import {}", args.archive.display()))?;
    name_result(session, &engine, id, args.tag.as_slice())
}
