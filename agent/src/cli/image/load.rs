//! `agent image load`.

use super::find::{MakeError, input, name};
use crate::cli::{Failure, Outcome, Session, exit};
use crate::linux::with_room;
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::image::archive::{self, Loaded, save::familiar};
use std::io::IsTerminal as _;
use std::path::PathBuf;

/// Add the images of an archive, with the names they were saved under.
#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    /// A directory or a tar, also compressed: an OCI layout, or what docker save writes; standard input if not given
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &LoadArgs, session: &Session) -> Outcome {
    if args.input.is_none() && std::io::stdin().is_terminal() {
        let hint = Some("give a file with --input, or pipe one in".to_owned());
        return Err(Failure::Error { error: anyhow!("an archive is not read from a terminal"), hint });
    }
    let engine = session.engine()?;
    let (path, _spooled) = input(&engine, args.input.as_deref()).context("load")?;
    let load = || -> Result<Vec<Loaded>, MakeError> {
        let store = engine.images();
        let _lease = store.lease()?;
        let loaded = archive::load(store, &path)?;
        for image in &loaded {
            let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
            name(&engine, image.id, &names)?;
        }
        Ok(loaded)
    };
    let loaded = with_room(&engine, &|line| session.render.say(line), &load);
    for image in loaded.context("load")? {
        if session.render.json {
            let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
            session.render.json_line(&serde_json::json!({"id": image.id, "names": names}));
        } else if !args.quiet && image.names.is_empty() {
            session.render.line(format_args!("Loaded image ID: {}", image.id));
        } else if !args.quiet {
            image.names.iter().for_each(|name| session.render.line(format_args!("Loaded image: {}", familiar(name))));
        }
    }
    Ok(exit::DONE)
}
