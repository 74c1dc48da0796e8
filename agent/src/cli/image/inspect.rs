//! `agent image inspect`: the document that docker's users know, and where the layers lie.

use super::find::{find, reference};
use crate::cli::template::Format;
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use runtime::engine::Engine;
use runtime::image::ImageId;
use runtime::image::archive::save::familiar;
use runtime::image::store::StoreError;
use serde_json::{Value, json};

/// Show what is known of images, as JSON.
#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
    /// Only this of each, such as '{{.Id}}' or '{{json .Config}}'
    #[arg(short, long, value_name = "TEMPLATE", value_parser = Format::parse)]
    format: Option<Format>,
}

pub(super) fn run(args: &InspectArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut documents = Vec::new();
    for name in &args.images {
        documents.push(document(&engine, &find(&engine, name)?)?);
    }
    Format::print(args.format.as_ref(), session.render, &documents, |render| render.json_document(&documents))?;
    Ok(exit::DONE)
}

fn document(engine: &Engine, id: &ImageId) -> Result<Value, StoreError> {
    let store = engine.images();
    let image = store.image(id)?;
    let names: Vec<String> = store.names_of_images()?.into_iter().filter(|(_, named)| named == id).map(|(name, _)| name).collect();
    let references: Vec<_> = names.iter().filter_map(|name| reference(name)).collect();
    let manifest = store.manifest_digest(id)?;
    let with_digest = |digest| references.iter().map(move |it| format!("{}/{}@{digest}", it.registry(), it.repository()));
    let mut digests: Vec<String> = manifest.into_iter().flat_map(with_digest).collect();
    digests.dedup();
    let mut size = 0;
    for layer in &image.config.rootfs.diff_ids {
        size += store.layer(layer)?.map_or(0, |layer| layer.size_bytes);
    }
    let comment = image.config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default();
    let config = image.config;
    Ok(json!({
        "Id": id,
        "RepoTags": references.iter().filter(|it| it.digest().is_none()).map(familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Names": names,
        "Comment": comment,
        "Created": config.created,
        "Author": config.author.unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": size,
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "LayerDirectories": image.layers,
        "Manifest": manifest,
        "Origins": store.origins(id)?,
    }))
}
