//! `agent image …`: what is in the store, and ways to get something into it.

use super::render::{age, size};
use super::{Failure, Outcome, Session, exit};
use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use runtime::builder::{BuildRequest, Caching};
use runtime::image::ImageId;
use runtime::image::archive;
use serde::Serialize;
use spec::value::{Digest, ImageReference};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// List images
    Ls(LsArgs),
    /// Build an image from a Dockerfile
    Build(BuildArgs),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// Make an image from a root file system tar, an OCI archive or a docker archive
    Import(ImportArgs),
    /// Give an image one more name
    Tag(TagArgs),
    /// Show an image's configuration, as JSON
    Inspect(InspectArgs),
    /// Remove names of images, and the images when no name is left
    Rm(RmArgs),
}

/// List images.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Build an image from a Dockerfile.
#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The directory whose files the build can use
    #[arg(default_value = ".")]
    context: PathBuf,
    /// The Dockerfile, relative to the context
    #[arg(short, long, default_value = "Dockerfile")]
    file: PathBuf,
    /// Name of the result
    #[arg(short, long)]
    tag: Vec<String>,
    /// A build argument, KEY=value, or KEY to take it from the environment
    #[arg(long, value_name = "KEY=VALUE")]
    build_arg: Vec<String>,
    /// The stage to build; the last one if not given
    #[arg(long)]
    target: Option<String>,
    /// Run every step, whatever is cached
    #[arg(long)]
    no_cache: bool,
}

/// Fetch an image from a registry, even if it is here: a tag may stand for something else now.
///
/// Sites ask a registry only for what is not here. This is how to let them have what a tag stands for today: the next apply, or a
/// running watch, replaces the containers of images pulled by that reference.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Such as nginx:1.29, or 127.0.0.1:5000/shop/web@sha256:…
    reference: ImageReference,
}

/// Make an image from an archive.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The archive; plain, gzip or zstd
    archive: PathBuf,
    /// Name of the result
    #[arg(short, long)]
    tag: Option<String>,
}

/// Give an image one more name.
#[derive(Debug, Args)]
pub(super) struct TagArgs {
    /// Name or id
    image: String,
    /// The new name
    name: String,
}

/// Show an image's configuration, as JSON.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// Remove names of images; an image goes when its last name goes and no container uses it.
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

pub(super) fn run(command: &ImageCommand, session: &Session) -> Outcome {
    match command {
        ImageCommand::Ls(args) => ls(args, session),
        ImageCommand::Build(args) => build(args, session),
        ImageCommand::Pull(args) => pull(args, session),
        ImageCommand::Import(args) => import(args, session),
        ImageCommand::Tag(args) => tag(args, session),
        ImageCommand::Inspect(args) => inspect(args, session),
        ImageCommand::Rm(args) => rm(args, session),
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    id: Digest,
    size: u64,
    created: Option<String>,
}

fn ls(args: &LsArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut rows = Vec::new();
    for listed in engine.images().list()? {
        let created = listed.created;
        rows.extend(listed.keys.into_iter().map(|name| Row { name, id: listed.id, size: listed.size_bytes, created: created.clone() }));
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if args.quiet {
        rows.iter().for_each(|row| session.render.line(row.id));
        return Ok(exit::DONE);
    }
    let now = session.now();
    session.render.rows(&["name", "id", "created", "size"], &rows, |row| {
        let created = row.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let created = created.map_or_else(|| "-".to_owned(), |time| format!("{} ago", age(now.0 / 1_000_000_000 - time.as_second())));
        vec![row.name.clone(), row.id.short(), created, size(row.size)]
    });
    Ok(exit::DONE)
}

fn build(args: &BuildArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let request = BuildRequest {
        context: args.context.clone(),
        dockerfile: args.file.clone(),
        args: build_args(&args.build_arg)?,
        target: args.target.clone(),
        bases: BTreeMap::new(),
        shim: runtime::container::shim_executable(),
        state: engine.places().state.clone(),
        caching: if args.no_cache { Caching::Ignore } else { Caching::Use },
    };
    let _lease = engine.images().lease()?;
    let id = crate::linux::build_with(&engine, &request, &|line| session.render.say(line)).context("build")?;
    finish(session, &engine, id, &args.tag)
}

fn build_args(pairs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    for pair in pairs {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            // As with docker: a bare name takes the value from the environment, and nothing if there is none.
            None => match std::env::var(pair) {
                Ok(value) => (pair.clone(), value),
                Err(_) => continue,
            },
        };
        found.insert(key, value);
    }
    Ok(found)
}

fn pull(args: &PullArgs, session: &Session) -> Outcome {
    let (id, followers) =
        crate::linux::pull(&session.engine()?, session.read_ledger()?.as_ref(), &args.reference, &|line| session.render.say(line))?;
    for name in followers {
        session
            .render
            .say(format_args!("image/{name} is pulled by this reference and stands for it now; its containers follow with the next apply"));
    }
    session.render.line(id);
    Ok(exit::DONE)
}

fn import(args: &ImportArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let _lease = engine.images().lease()?;
    let id = archive::import(engine.images(), &args.archive).with_context(|| format!("import {}", args.archive.display()))?;
    finish(session, &engine, id, args.tag.as_slice())
}

fn finish(session: &Session, engine: &runtime::engine::Engine, id: ImageId, names: &[String]) -> Outcome {
    for name in names {
        engine.images().tag(&crate::linux::image_key(name)?, &id)?;
    }
    session.render.line(id);
    Ok(exit::DONE)
}

fn tag(args: &TagArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let id = find(&engine, &args.image)?;
    engine.images().tag(&crate::linux::image_key(&args.name)?, &id)?;
    Ok(exit::DONE)
}

fn inspect(args: &InspectArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut documents = Vec::new();
    for name in &args.images {
        let image = engine.images().image(&find(&engine, name)?)?;
        documents.push(serde_json::json!({"id": image.id, "config": image.config, "layers": image.layers}));
    }
    session.render.json_document(&documents);
    Ok(exit::DONE)
}

fn rm(args: &RmArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    for name in &args.images {
        engine.forget_image(&key(&engine, name)?)?;
        session.render.line(name);
    }
    Ok(exit::DONE)
}

/// The name an image is stored under: that of a site's image, else what Docker would complete it to.
fn key(engine: &runtime::engine::Engine, name: &str) -> Result<String, Failure> {
    let keys = [name.to_owned(), crate::linux::image_key(name)?];
    for key in keys {
        if engine.images().find(&key)?.is_some() {
            return Ok(key);
        }
    }
    Err(Failure::Error { error: anyhow!("no such image: {name}"), hint: Some("agent image ls lists those there are".to_owned()) })
}

/// An image by name, by the name Docker would complete, or by the beginning of its id.
fn find(engine: &runtime::engine::Engine, name: &str) -> Result<ImageId, Failure> {
    if let Ok(key) = key(engine, name)
        && let Some(id) = engine.images().find(&key)?
    {
        return Ok(id);
    }
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let ids: Vec<ImageId> = engine.images().list()?.into_iter().map(|it| it.id).filter(|id| id.hex().starts_with(digits)).collect();
    match ids[..] {
        [id] => Ok(id),
        [] => {
            Err(Failure::Error { error: anyhow!("no such image: {name}"), hint: Some("agent image ls lists those there are".to_owned()) })
        }
        [..] => Err(Failure::Error { error: anyhow!("{name} is the beginning of several image ids"), hint: None }),
    }
}
