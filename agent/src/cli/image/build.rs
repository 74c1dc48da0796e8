//! `agent image build`.

use super::find::name;
use crate::cli::{Failure, Outcome, Session, exit};
use crate::linux::with_room;
use anyhow::Context as _;
use clap::Args;
use runtime::builder::{BuildRequest, Caching};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Build an image from a Dockerfile.
#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
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

pub(super) fn run(args: &BuildArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let request = BuildRequest {
        dockerfile: args.file.clone(),
        args: build_args(&args.build_arg)?,
        target: args.target.clone(),
        caching: if args.no_cache { Caching::Ignore } else { Caching::Use },
        ..crate::linux::build_request(&engine, args.context.clone())
    };
    let say = |line: &str| session.render.say(line);
    let id = with_room(&engine, &say, &|| {
        let _lease = engine.images().lease()?;
        let id = crate::linux::build_with(&engine, &request, &say)?;
        name(&engine, id, &args.tag).map(|()| id)
    });
    session.render.line(id.context("build")?);
    Ok(exit::DONE)
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
