//! `agent container cp`.

use super::find::find_one;
use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::container::{self, Owners};

/// Copy files between a container and the host: CONTAINER:PATH is a path in a container, running or not.
///
/// As cp -r does: into a directory that is there, else under the name that is given; DIRECTORY/. is what a directory holds.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// Keep the owners of the files; else they are root's
    #[arg(short, long)]
    archive: bool,
    /// Taken for Docker's sake: nothing is said in any case
    #[arg(short, long, hide = true)]
    quiet: bool,
    /// CONTAINER:PATH, or a path of the host
    source: String,
    /// The other of the two
    target: String,
}

pub(super) fn run(args: &CpArgs, session: &Session) -> Outcome {
    let owners = if args.archive { Owners::Keep } else { Owners::Root };
    let engine = session.engine()?;
    let refused = |problem: &'static str, hint: &str| Err(Failure::Error { error: anyhow!(problem), hint: Some(hint.to_owned()) });
    if args.source == "-" || args.target == "-" {
        let hint = "let the container's tar do it: agent container exec web tar -C /data -c . > data.tar; a file of that name is ./-";
        return refused("- would be a tar stream, which cp does not make or take", hint);
    }
    match (inside(&args.source), inside(&args.target)) {
        (Some((name, source)), None) => {
            let id = find_one(&engine, name)?;
            container::copy_out(engine.places(), &id, source, &absolute(&args.target)?, owners)?;
        }
        (None, Some((name, target))) => {
            let id = find_one(&engine, name)?;
            container::copy_in(engine.places(), &id, &absolute(&args.source)?, target, owners)?;
        }
        (Some(_), Some(_)) | (None, None) => {
            let hint = "write agent container cp web:/etc/app.conf . or agent container cp app.conf web:/etc/";
            return refused("one of the two is a path in a container, the other one of the host", hint);
        }
    }
    Ok(exit::DONE)
}

/// The container and the path in it; `None` for a path of the host, which may have a colon behind a slash.
fn inside(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains('/') && !name.starts_with('.'))
}

/// A path of the host from `/`. What it ends in says what is meant: it is kept.
fn absolute(path: &str) -> Result<String, Failure> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir().context("find the working directory")?;
    let here = here.to_str().with_context(|| format!("{} is not text", here.display()))?;
    Ok(format!("{here}/{path}"))
}
