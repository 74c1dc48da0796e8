//! `agent schema`: the JSON schema of the manifests.

use super::{Outcome, Session, exit};
use clap::Args;

/// Print the JSON schema of the manifests.
///
/// Put `# yaml-language-server: $schema=PATH` on the first line of a manifest, or map the schema to your
/// site's files in the editor's settings.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// That of registries.yaml instead
    #[arg(long)]
    registries: bool,
}

pub(super) fn run(args: &SchemaArgs, session: &Session) -> Outcome {
    let schema = if args.registries { spec::registries_schema() } else { spec::schema() };
    session.render.json_document(&schema);
    Ok(exit::DONE)
}
