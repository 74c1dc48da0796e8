//! `agent container commit`.

use super::find::find_one;
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use runtime::builder::change;
use runtime::engine::{Pause, Remark};

/// Make an image of a container as it is now: its image, and what it changed as one more layer. Volumes are not part of it.
///
/// A container that runs is held still meanwhile, so that no file is copied half written.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Name or id
    container: String,
    /// Name of the image
    name: Option<String>,
    /// A remark, for its history
    #[arg(short, long)]
    message: Option<String>,
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,
    /// What the image says of itself, as a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Hold the container still meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pause: bool,
}

pub(crate) fn run(args: &CommitArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let id = find_one(&engine, &args.container)?;
    let pause = if args.pause { Pause::Yes } else { Pause::No };
    let created = jiff::Timestamp::from_nanosecond(session.now().0.into())?;
    let remark = Remark { created: Some(created.to_string()), author: args.author.clone(), comment: args.message.clone() };
    let key = args.name.as_deref().map(crate::linux::image_key).transpose()?;
    // Until it has its name nothing else keeps it from being collected.
    let _lease = engine.images().lease()?;
    let image = engine.commit_container(&id, pause, &remark, &|config| Ok(change(config, &args.change)?))?;
    if let Some(key) = key {
        engine.images().tag(&key, &image)?;
    }
    session.render.answer("id", image);
    Ok(exit::DONE)
}
