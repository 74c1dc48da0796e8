//! `agent image rm`.

use super::find::{find, key};
use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::anyhow;
use clap::Args;
use runtime::engine::{Engine, EngineError, Reach};
use runtime::image::store::StoreError;

/// Remove names of images; an image goes when its last name goes. One that a container was made from is refused.
#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Names, or ids for an image with all its names
    #[arg(required = true)]
    images: Vec<String>,
    /// Give up the last name of an image that containers were made from too: the image goes when they go
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(args: &RmArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut failed = false;
    for name in &args.images {
        match remove(&engine, name, args.force) {
            Ok(names) if names.is_empty() => session.render.answer("name", name),
            Ok(names) => names.iter().for_each(|name| session.render.answer("name", name)),
            Err(Failure::Shown) => failed = true,
            Err(Failure::Error { error, hint }) => {
                failed = true;
                session.render.failure(&error, hint.as_deref());
            }
        }
    }
    match engine.collect_garbage(&session.needed(&engine)?, Reach::default()) {
        // Somebody pulls or builds: the next collection finds it.
        Err(EngineError::Image(StoreError::Busy)) | Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    if failed { Err(Failure::Shown) } else { Ok(exit::DONE) }
}

/// The names that were given up.
fn remove(engine: &Engine, name: &str, force: bool) -> Result<Vec<String>, Failure> {
    let id = find(engine, name)?;
    let all: Vec<String> = engine.images().names_of_images()?.into_iter().filter(|(_, named)| *named == id).map(|(name, _)| name).collect();
    // A name, or a whole image by its id.
    let names = key(engine, name).map_or_else(|_| all.clone(), |key| vec![key]);
    if names.len() == all.len() && !force {
        let users = engine.image_users(&id)?;
        if !users.is_empty() {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            let hint = Some(format!("remove them first: agent container rm {}; or give up the name alone with --force", users.join(" ")));
            return Err(Failure::Error { error: anyhow!("image {name} is in use by {}", users.join(", ")), hint });
        }
    }
    for name in &names {
        engine.images().untag(name)?;
    }
    Ok(names)
}
