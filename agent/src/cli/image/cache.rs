//! `agent image cache …`: what builds keep: the directories of `RUN --mount=type=cache`, and cached steps.

use crate::cli::system::prune::{Sweep, sweep};
use crate::cli::until::{self, Until};
use crate::cli::{Failure, Outcome, Session, exit};
use crate::human::{age, size};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use runtime::builder::{CacheMount, CacheMounts};
use runtime::engine::{Engine, Reach};
use serde::Serialize;
use spec::value::{ByteSize, duration};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// List and remove what builds keep for the next ones: cache mounts, and steps with their layers.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CacheCommand {
    /// List cache mounts; agent system df -v lists cached steps too
    Ls,
    /// Remove cache mounts with what they hold, by id or name
    Rm(RmArgs),
    /// Remove all cache mounts that no build uses now, with --all the cached steps too
    Prune(PruneArgs),
}

/// Which to remove.
#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Ids as in RUN --mount=type=cache,id=…, or names as listed
    #[arg(required = true)]
    caches: Vec<String>,
}

/// Which to leave.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Cached steps too, with the layers that no image has
    #[arg(short, long)]
    all: bool,
    /// Only what no build has used for so long, such as 24h
    #[arg(long, value_name = "TIME", value_parser = |text: &str| duration::parse(text).map_err(|error| error.to_string()))]
    unused_for: Option<Duration>,
    /// Only what no build has used since: until=24h, or a time
    #[arg(long, value_name = "FILTER", value_parser = until::parse, conflicts_with = "unused_for")]
    filter: Option<Until>,
    /// With --all: keep so much of it, what has served last
    #[arg(long, value_name = "BYTES", requires = "all", visible_alias = "max-used-space", value_parser = bytes)]
    keep_storage: Option<ByteSize>,
    /// Nobody is asked anyway
    #[arg(short, long, hide = true)]
    force: bool,
}

fn bytes(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|error: spec::value::ValueError| error.to_string())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    size: u64,
    /// Seconds since 1970.
    last_used: u64,
    in_use: bool,
}

/// Digits of a name that lists show: as many as of an image's id.
const NAME_DIGITS: usize = 12;

pub(in crate::cli) fn run(command: &CacheCommand, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let caches = CacheMounts::of(engine.images());
    match command {
        CacheCommand::Ls => ls(&caches, session),
        CacheCommand::Rm(args) => rm(&caches, &args.caches, session),
        CacheCommand::Prune(args) => prune(args, &engine, session),
    }
}

fn prune(args: &PruneArgs, engine: &Engine, session: &Session) -> Outcome {
    let (now, caches) = (SystemTime::now(), CacheMounts::of(engine.images()));
    let until = args.filter.or(args.unused_for.map(Until::Ago)).map(|until| until.moment(now));
    if args.all {
        let cache_bytes = args.keep_storage.map_or(0, |size| size.bytes());
        let reach = Reach { cache_bytes, before: until, ..Reach::default() };
        return sweep(session, &Sweep { reach, containers: false, volumes: false, force: true, dry_run: false });
    }
    let mut freed = 0;
    let old = |cache: &CacheMount| !cache.in_use && until.is_none_or(|until| cache.last_used < until);
    for cache in caches.list().map_err(anyhow::Error::from)?.iter().filter(|cache| old(cache)) {
        if caches.remove(&cache.name).map_err(anyhow::Error::from)? {
            freed += cache.size_bytes;
            session.render.line(&cache.id);
        }
    }
    session.render.say(format_args!("freed {}", size(freed)));
    Ok(exit::DONE)
}

fn ls(caches: &CacheMounts, session: &Session) -> Outcome {
    let row = |cache: CacheMount| Row {
        id: cache.id,
        name: cache.name,
        size: cache.size_bytes,
        last_used: cache.last_used.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        in_use: cache.in_use,
    };
    let rows: Vec<Row> = caches.list().map_err(anyhow::Error::from)?.into_iter().map(row).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    session.render.rows(&["id", "name", "size", "last used"], &rows, |row| {
        let age = age(i64::try_from(now.saturating_sub(row.last_used)).unwrap_or(i64::MAX));
        let name = row.name.get(..NAME_DIGITS).unwrap_or(&row.name).to_owned();
        vec![row.id.clone(), name, size(row.size), if row.in_use { "in use".to_owned() } else { age }]
    });
    Ok(exit::DONE)
}

fn rm(caches: &CacheMounts, wanted: &[String], session: &Session) -> Outcome {
    let all = caches.list().map_err(anyhow::Error::from)?;
    for text in wanted {
        let named: Vec<&CacheMount> = all.iter().filter(|cache| cache.id == *text || cache.name.starts_with(text.as_str())).collect();
        if named.is_empty() {
            let hint = Some("agent image cache ls lists those there are".to_owned());
            return Err(Failure::Error { error: anyhow!("no such cache mount: {text}"), hint });
        }
        for cache in named {
            if !caches.remove(&cache.name).map_err(anyhow::Error::from)? {
                return Err(anyhow!("cache mount {} is in use by a build", cache.id).into());
            }
        }
        session.render.line(text);
    }
    Ok(exit::DONE)
}
