//! `agent image push`.

use super::find;
use crate::cli::view::{Kind, Teller};
use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::anyhow;
use clap::Args;
use runtime::engine::Engine;
use runtime::image::ImageId;
use runtime::image::registry::Tagged;
use serde::Serialize;
use spec::value::ImageReference;

/// Publish an image in a registry.
///
/// What the registry has already is not sent again. Layers that were pulled go as they came, byte for byte; others are compressed once,
/// and that is kept. Prints the digest that the tag stands for afterwards.
#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// Name or id of the image
    image: String,
    /// Where to, such as registry.example/shop/web:1.4; the image's own name if not given
    destination: Option<ImageReference>,
    /// Publish every tag that the image's repository has here
    #[arg(short, long, conflicts_with = "destination")]
    all_tags: bool,
    /// Let the tag stand for an index, in which the images of other platforms that are there stay
    #[arg(long)]
    index: bool,
    /// Say nothing but what was published
    #[arg(short, long)]
    quiet: bool,
}

/// What was published, for `--json`.
#[derive(Serialize)]
struct Published {
    reference: String,
    digest: String,
    size: u64,
}

pub(super) fn run(args: &PushArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let tagged = if args.index { Tagged::Index } else { Tagged::Image };
    for (reference, id) in targets(args, &engine)? {
        let teller = Teller::new(if args.quiet { Kind::Quiet } else { Kind::Auto }, format!("Pushing {reference}"), session.render)?;
        let pushed = crate::linux::push(&engine, &id, &reference, tagged, &|progress| teller.tell(progress));
        teller.end();
        let pushed = pushed?;
        if session.render.json {
            session.render.json_line(&Published { reference: reference.to_string(), digest: pushed.digest.to_string(), size: pushed.size });
        } else {
            session.render.line(format_args!("{reference}: digest: {} size: {}", pushed.digest, pushed.size));
        }
    }
    Ok(exit::DONE)
}

/// What goes where.
fn targets(args: &PushArgs, engine: &Engine) -> Result<Vec<(ImageReference, ImageId)>, Failure> {
    if let Some(destination) = &args.destination {
        return Ok(vec![(destination.clone(), find::find(engine, &args.image)?)]);
    }
    let name: ImageReference = args.image.parse()?;
    if !args.all_tags {
        let id = find::find(engine, &args.image)?;
        if !args.image.contains(['/', ':']) {
            return Err(Failure::Error {
                error: anyhow!("{} says no registry to push to", args.image),
                hint: Some(format!("say where to: agent image push {} registry.example/{0}:1", args.image)),
            });
        }
        return Ok(vec![(name, id)]);
    }
    let same = |reference: &ImageReference| {
        (reference.registry(), reference.repository()) == (name.registry(), name.repository()) && reference.digest().is_none()
    };
    let named = engine.images().names_of_images()?.into_iter();
    let found: Vec<_> = named.filter_map(|(key, id)| Some((key.parse().ok().filter(same)?, id))).collect();
    if found.is_empty() {
        return Err(Failure::Error { error: anyhow!("no image here has a tag of {}/{}", name.registry(), name.repository()), hint: None });
    }
    Ok(found)
}
