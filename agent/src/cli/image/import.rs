//! `agent image import`: an image of a tree of files.

use super::find::{MakeError, input, name};
use crate::cli::{Outcome, Session, exit};
use crate::linux::with_room;
use anyhow::Context as _;
use clap::Args;
use runtime::builder::change;
use runtime::image::archive;
use runtime::image::config::ImageConfig;
use std::path::{Path, PathBuf};

/// Make an image from a root file system tar; plain, gzip, bzip2, xz or zstd.
///
/// An OCI or docker archive is taken too, if it holds one image; agent image load takes any number and keeps their names.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// The archive, - for standard input
    archive: PathBuf,
    /// Name of the result
    name: Option<String>,
    /// Name of the result
    #[arg(short, long)]
    tag: Vec<String>,
    /// What the image says of itself, as a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A remark, for its history
    #[arg(short, long)]
    message: Option<String>,
}

pub(super) fn run(args: &ImportArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let names: Vec<String> = args.name.iter().chain(&args.tag).cloned().collect();
    let failed = || format!("import {}", args.archive.display());
    let file = Some(args.archive.as_path()).filter(|path| *path != Path::new("-"));
    let (path, _spooled) = input(&engine, file).with_context(failed)?;
    let import = || -> Result<_, MakeError> {
        let store = engine.images();
        let _lease = store.lease()?;
        let mut id = archive::import(store, &path)?;
        if !args.change.is_empty() || args.message.is_some() {
            id = store.put_image(&said(store.image(&id)?.config, args)?)?;
        }
        name(&engine, id, &names)?;
        Ok(id)
    };
    let id = with_room(&engine, &|line| session.render.say(line), &import);
    session.render.answer("id", id.with_context(failed)?);
    Ok(exit::DONE)
}

fn said(config: ImageConfig, args: &ImportArgs) -> Result<ImageConfig, MakeError> {
    let mut config = change(config, &args.change)?;
    if let Some(last) = config.history.last_mut().filter(|_| args.message.is_some()) {
        last.comment.clone_from(&args.message);
    }
    Ok(config)
}
