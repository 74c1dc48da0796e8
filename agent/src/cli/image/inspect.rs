//! `agent image inspect`.

use super::find::find;
use crate::cli::{Outcome, Session, exit};
use clap::Args;

/// Show an image's configuration, as JSON.
#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

pub(super) fn run(args: &InspectArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut documents = Vec::new();
    for name in &args.images {
        let image = engine.images().image(&find(&engine, name)?)?;
        let origins = engine.images().origins(&image.id)?;
        documents.push(serde_json::json!({"id": image.id, "config": image.config, "layers": image.layers, "origins": origins}));
    }
    session.render.json_document(&documents);
    Ok(exit::DONE)
}
