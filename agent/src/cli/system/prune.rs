//! `agent system prune`: removes what nothing uses, after showing it. What a site needs is never among it.

use crate::cli::render::Render;
use crate::cli::until::{self, Until};
use crate::cli::{Failure, Outcome, Session, exit};
use crate::human::size;
use crate::linux::{collect_snapshots, unused_snapshots, unused_sources};
use crate::registry::{Holdings, remove_garbage};
use crate::source::homes;
use anyhow::anyhow;
use clap::Args;
use runtime::container::WhileRunning;
use runtime::engine::{Collectable, ContainerUsage, DiskUsage, Engine, Reach, VolumeUsage};
use runtime::image::store::Travelled;
use runtime::store::usage::tree_bytes;
use runtime::volume::remove_volume;
use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::SystemTime;

/// Remove what nothing uses: stopped containers of no site, images without a name, what interrupted pulls left, and of the build cache
/// what is above its limit.
///
/// What a site needs stays: its containers, volumes and images, those of its last generations too. What was pushed to the registry of
/// this host stays as long as it has a name there; of the registry go uploads that were left alone, and blobs without a name.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Every image that no container and no site uses too, named or not, the whole build cache, and layers kept as they travelled
    #[arg(short, long)]
    all: bool,
    /// Volumes that no container mounts and no site has too, with their data
    #[arg(long)]
    volumes: bool,
    /// Only what came, or served a build last, before: until=24h, or a time. Neither volumes nor layers as they travelled have one
    #[arg(long, value_name = "FILTER", value_parser = until::parse, conflicts_with = "volumes")]
    filter: Option<Until>,
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'y', visible_alias = "yes")]
    force: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// All that would go.
struct Preview {
    containers: Vec<ContainerUsage>,
    volumes: Vec<VolumeUsage>,
    /// Copies of what sites mount that no container mounts any more.
    snapshot_bytes: u64,
    /// What is kept of repositories that no site and no build of one follows.
    sources: Vec<PathBuf>,
    source_bytes: u64,
    /// What was pushed to the registry of this host and has no name, or was never finished.
    pushed_bytes: u64,
    garbage: Collectable,
}

pub(super) fn run(args: &PruneArgs, session: &Session) -> Outcome {
    let cache_bytes = session.settings()?.cache_bytes(&session.places.state);
    let mut reach = if args.all { Reach::ALL } else { Reach { travelled: Travelled::Whole, cache_bytes, ..Reach::default() } };
    if let Some(until) = args.filter {
        reach = Reach { before: Some(until.moment(SystemTime::now())), travelled: Travelled::Keep, ..reach };
    }
    sweep(session, &Sweep { reach, containers: true, volumes: args.volumes, force: args.force, dry_run: args.dry_run })
}

/// What is removed, and whether it is asked for.
pub(in crate::cli) struct Sweep {
    /// How far it goes in the image store.
    pub(in crate::cli) reach: Reach,
    /// Stopped containers of no site too.
    pub(in crate::cli) containers: bool,
    /// Volumes that nothing uses too.
    pub(in crate::cli) volumes: bool,
    /// Nobody is asked.
    pub(in crate::cli) force: bool,
    /// It is only shown.
    pub(in crate::cli) dry_run: bool,
}

/// Shows what nothing uses, asks, and removes it.
pub(in crate::cli) fn sweep(session: &Session, wanted: &Sweep) -> Outcome {
    let engine = session.engine()?;
    let preview = preview(session, &engine, wanted)?;
    if wanted.dry_run || (!wanted.force && !preview.is_empty()) {
        show(session.render, &preview);
    }
    if wanted.dry_run {
        return Ok(exit::DONE);
    }
    if !wanted.force && !preview.is_empty() {
        match confirm(session, &format!("Remove this, {} in all?", size(preview.bytes())))? {
            Answer::Yes => {}
            Answer::No => return Err(Failure::Error { error: anyhow!("nothing was removed"), hint: None }),
        }
    }
    let _lock = session.lock_host(&engine)?;
    for container in &preview.containers {
        // One that was started meanwhile refuses.
        engine.remove_container(&container.id, WhileRunning::Refuse)?;
    }
    for volume in &preview.volumes {
        if engine.volume_users(&volume.name)?.is_empty() {
            remove_volume(engine.places(), &volume.name)?;
        }
    }
    if wanted.containers {
        collect_snapshots(&engine)?;
        remove_garbage(&engine.places().registry())?;
        preview.sources.iter().try_for_each(|source| homes::remove(source))?;
    }
    // The ledger may say more than it did before the question.
    let freed = engine.collect_garbage(&session.needed(&engine)?, wanted.reach)?;
    let bytes = freed.bytes + preview.bytes_beside_images();
    let report = serde_json::json!({
        "containers": preview.containers.len(),
        "volumes": preview.volumes.len(),
        "images": freed.images,
        "layers": freed.layers,
        "bytes": bytes,
    });
    if session.render.json {
        session.render.json_line(&report);
    } else {
        session.render.line(format_args!("Total reclaimed space: {}", size(bytes)));
    }
    Ok(exit::DONE)
}

fn preview(session: &Session, engine: &Engine, wanted: &Sweep) -> Result<Preview, Failure> {
    let needed = session.needed(engine)?;
    let DiskUsage { mut containers, mut volumes, .. } = engine.disk_usage(&needed)?;
    let is_old = |it: &ContainerUsage| wanted.reach.before.is_none_or(|before| it.created < before);
    containers.retain(|it| wanted.containers && it.is_unused() && is_old(it));
    let going: BTreeSet<_> = containers.iter().map(|it| it.id.clone()).collect();
    volumes.retain(|it| wanted.volumes && !it.of_site && it.containers.iter().all(|user| going.contains(user)));
    let snapshots = if wanted.containers { unused_snapshots(engine, &going)? } else { Vec::new() };
    let snapshot_bytes = snapshots.iter().map(|path| tree_bytes(path)).sum();
    let pushed_bytes = if wanted.containers { Holdings::read(&engine.places().registry())?.garbage_bytes } else { 0 };
    // They have no time of their own.
    let is_for_sources = wanted.containers && wanted.reach.before.is_none();
    let sources = if is_for_sources { unused_sources(engine, session.read_ledger()?.as_ref())? } else { Vec::new() };
    let source_bytes = sources.iter().map(|path| tree_bytes(path)).sum();
    let garbage = engine.garbage_without(&going, &needed, wanted.reach)?;
    Ok(Preview { containers, volumes, snapshot_bytes, sources, source_bytes, pushed_bytes, garbage })
}

impl Preview {
    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty() && self.bytes_beside_images() == 0 && self.garbage.is_empty()
    }

    fn bytes_beside_images(&self) -> u64 {
        let containers: u64 = self.containers.iter().map(|it| it.bytes).sum();
        containers + self.volumes.iter().map(|it| it.bytes).sum::<u64>() + self.snapshot_bytes + self.source_bytes + self.pushed_bytes
    }

    fn bytes(&self) -> u64 {
        self.garbage.bytes() + self.bytes_beside_images()
    }
}

fn show(render: Render, preview: &Preview) {
    let Preview { containers, volumes, snapshot_bytes, sources, source_bytes, pushed_bytes, garbage } = preview;
    if render.json {
        return render.json_document(&serde_json::json!({
            "containers": containers, "volumes": volumes, "snapshotBytes": snapshot_bytes, "sourceBytes": source_bytes,
            "registryBytes": pushed_bytes, "store": garbage.store,
            "steps": garbage.steps.iter().map(|step| &step.record.instruction).collect::<Vec<_>>(),
            "mounts": garbage.mounts.iter().map(|mount| &mount.id).collect::<Vec<_>>(),
            "downloads": garbage.downloads.iter().flat_map(|download| &download.urls).collect::<Vec<_>>(),
            "bytes": preview.bytes(),
        }));
    }
    if preview.is_empty() {
        return render.line("There is nothing that nothing uses.");
    }
    let sum = |count: usize, what: &str, bytes: u64| {
        if count > 0 {
            render.line(format_args!("{count} {what}{}: {}", if count == 1 { "" } else { "s" }, size(bytes)));
        }
    };
    sum(containers.len(), "stopped container", containers.iter().map(|it| it.bytes).sum());
    containers.iter().for_each(|it| render.line(format_args!("  {}", it.id)));
    sum(volumes.len(), "volume with all data", volumes.iter().map(|it| it.bytes).sum());
    volumes.iter().for_each(|it| render.line(format_args!("  {}", it.name)));
    sum(usize::from(*snapshot_bytes > 0), "copy of what sites mounted", *snapshot_bytes);
    sum(sources.len(), "repository checkout", *source_bytes);
    sum(usize::from(*pushed_bytes > 0), "lot of what was pushed and nobody names", *pushed_bytes);
    sum(garbage.store.images.len(), "image", garbage.store.records);
    garbage.store.names.iter().for_each(|name| render.line(format_args!("  {name}")));
    sum(garbage.store.layers.len(), "layer", garbage.store.layer_bytes);
    sum(garbage.store.blobs.len(), "blob", garbage.store.blobs.values().sum());
    sum(usize::from(garbage.store.partial > 0), "interrupted pull", garbage.store.partial);
    sum(garbage.steps.len(), "cached build step", garbage.step_bytes);
    sum(garbage.mounts.len(), "cache mount", garbage.mounts.iter().map(|it| it.size_bytes).sum());
    sum(garbage.downloads.len(), "download", garbage.downloads.iter().map(|it| it.size_bytes).sum());
    let indexes: u64 = garbage.indexes.iter().map(|path| tree_bytes(path)).sum();
    sum(garbage.indexes.len(), "list of what files hold", indexes);
    render.line(format_args!("In all: {}", size(preview.bytes())));
}

/// Removes what one kind of thing has that nothing uses, each with its bytes on disk, after showing it and asking.
pub(in crate::cli) fn confirm_removal<T: std::fmt::Display>(
    session: &Session,
    force: bool,
    what: &str,
    unused: Vec<(T, u64)>,
    remove: impl Fn(&T) -> Result<(), Failure>,
) -> Outcome {
    let bytes = unused.iter().map(|(_, bytes)| bytes).sum();
    if !force && !unused.is_empty() {
        unused.iter().for_each(|(one, bytes)| session.render.line(format_args!("  {one}  {}", size(*bytes))));
        if confirm(session, &format!("Remove these {what}, {} in all?", size(bytes)))? == Answer::No {
            return Err(Failure::Error { error: anyhow!("nothing was removed"), hint: None });
        }
    }
    for (one, _) in &unused {
        remove(one)?;
        session.render.answer("name", one);
    }
    if !session.render.json {
        session.render.line(format_args!("Total reclaimed space: {}", size(bytes)));
    }
    Ok(exit::DONE)
}

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Go on.
    Yes,
    /// Everything else.
    No,
}

/// Asks whether to go on. Refuses where nobody can be asked.
fn confirm(session: &Session, question: &str) -> Result<Answer, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Error { error: anyhow!("nobody is there to ask"), hint: Some("add --force".to_owned()) });
    }
    session.render.say(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") { Answer::Yes } else { Answer::No })
}
