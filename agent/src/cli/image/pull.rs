//! `agent image pull`.

use super::platform;
use crate::cli::view::{Kind, Teller};
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use spec::value::ImageReference;

/// Fetch an image from a registry, even if it is here: a tag may stand for something else now.
///
/// Sites ask a registry only for what is not here. This is how to let them have what a tag stands for today: the next apply, or a
/// running watch, replaces the containers of images pulled by that reference.
///
/// Of an image for several platforms the one for this host comes, and a name here stands for that one.
#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// Such as nginx:1.29, or 127.0.0.1:5000/shop/web@sha256:…
    reference: ImageReference,
    /// The platform to fetch: only this host's
    #[arg(long)]
    platform: Option<String>,
    /// Say nothing but the image's id
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &PullArgs, session: &Session) -> Outcome {
    args.platform.as_deref().map_or(Ok(()), platform::check)?;
    let (engine, ledger) = (session.engine()?, session.read_ledger()?);
    let teller = Teller::new(if args.quiet { Kind::Quiet } else { Kind::Auto }, format!("Pulling {}", args.reference), session.render)?;
    let pulled = crate::linux::pull(&engine, ledger.as_ref(), &args.reference, &|progress| teller.tell(progress));
    teller.end();
    let (id, followers) = pulled?;
    for name in followers {
        session
            .render
            .say(format_args!("image/{name} is pulled by this reference and stands for it now; its containers follow with the next apply"));
    }
    session.render.answer("id", id);
    Ok(exit::DONE)
}
