//! `agent schema`: the JSON schema of the manifests.

use super::{Outcome, Session, exit};
use clap::Args;

/// Print the JSON schema of the manifests.
///
/// Put `# yaml-language-server: $schema=PATH` on the first line of a manifest, or map the schema to your
/// site's files in the editor's settings.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {}

pub(super) fn run(_: &SchemaArgs, session: &Session) -> Outcome {
    session.render.json_document(&spec::schema());
    Ok(exit::DONE)
}
