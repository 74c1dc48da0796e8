//! `agent system df`: what takes disk, and what of it could be freed. Every byte counts once, whoever shares it.

use crate::cli::render::Render;
use crate::cli::{Outcome, Session, exit};
use crate::human::{age, made, size};
use crate::registry::Holdings;
use clap::Args;
use runtime::builder::cache::CachedStep;
use runtime::builder::{CacheMount, KeptDownload};
use runtime::engine::{DiskUsage, ImageUsage};
use runtime::store::usage::tree_bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Show what uses disk space, and what of it could be freed.
///
/// Images, containers and volumes are active if a container or a site uses them; the last generations of a site's images count as
/// used, so that a step back finds them. The build cache counts what it holds alone: layers of steps that no image has, cache mounts,
/// files that ADD took from the web, and layers kept in the form in which they travel. What was pushed to the registry of this host
/// counts as used, and as Registry what it takes beside the unpacked images.
#[derive(Debug, Args)]
pub(in crate::cli) struct DfArgs {
    /// Show every image, container, volume and cached step
    #[arg(short = 'v', long)]
    detail: bool,
}

/// A line of the summary.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(rename = "type")]
    kind: &'static str,
    total: usize,
    active: usize,
    size_bytes: u64,
    reclaimable_bytes: u64,
}

pub(super) fn run(args: &DfArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let usage = engine.disk_usage(&session.needed(&engine)?)?;
    let places = engine.places();
    let sources = tree_bytes(&places.snapshots()) + tree_bytes(&places.state.join("sources"));
    let rows = summary(&usage, &Holdings::read(&places.registry())?, sources);
    match (args.detail, session.render.json) {
        (false, _) => session.render.rows(&["type", "total", "active", "size", "reclaimable"], &rows, |row| {
            let share = (row.reclaimable_bytes * 100).checked_div(row.size_bytes).unwrap_or(0);
            let reclaimable = format!("{} ({share}%)", size(row.reclaimable_bytes));
            vec![row.kind.to_owned(), row.total.to_string(), row.active.to_string(), size(row.size_bytes), reclaimable]
        }),
        (true, true) => session.render.json_document(&document(&usage, &rows)),
        (true, false) => detail(session.render, &usage, session.now().0 / 1_000_000_000),
    }
    Ok(exit::DONE)
}

fn summary(usage: &DiskUsage, pushed: &Holdings, sources: u64) -> Vec<Row> {
    let steps: u64 = usage.steps.iter().map(|(_, bytes)| bytes).sum();
    let beside: u64 = usage.mounts.iter().map(|mount| mount.size_bytes).chain(usage.downloads.iter().map(|it| it.size_bytes)).sum();
    let cache = steps + beside + usage.index_bytes + usage.travelled_bytes + usage.loose_bytes;
    vec![
        Row {
            kind: "Images",
            total: usage.images.len(),
            active: usage.images.iter().filter(|it| it.in_use).count(),
            size_bytes: usage.image_bytes,
            reclaimable_bytes: usage.image_bytes_unused,
        },
        Row {
            kind: "Containers",
            total: usage.containers.len(),
            active: usage.containers.iter().filter(|it| it.running).count(),
            size_bytes: usage.containers.iter().map(|it| it.bytes).sum(),
            reclaimable_bytes: usage.containers.iter().filter(|it| it.is_unused()).map(|it| it.bytes).sum(),
        },
        Row {
            kind: "Volumes",
            total: usage.volumes.len(),
            active: usage.volumes.iter().filter(|it| !it.is_unused()).count(),
            size_bytes: usage.volumes.iter().map(|it| it.bytes).sum(),
            reclaimable_bytes: usage.volumes.iter().filter(|it| it.is_unused()).map(|it| it.bytes).sum(),
        },
        Row {
            kind: "Build Cache",
            total: usage.steps.len() + usage.mounts.len() + usage.downloads.len(),
            active: usage.steps.iter().filter(|(step, bytes)| step.record.layer.is_some() && *bytes == 0).count(),
            size_bytes: cache,
            reclaimable_bytes: cache,
        },
        Row {
            kind: "Registry",
            total: pushed.names,
            active: pushed.names,
            size_bytes: pushed.bytes + usage.served_bytes,
            reclaimable_bytes: pushed.garbage_bytes,
        },
        Row { kind: "Site sources", total: 0, active: 0, size_bytes: sources, reclaimable_bytes: 0 },
    ]
}

fn detail(render: Render, usage: &DiskUsage, now_s: i64) {
    render.line("Images:\n");
    render.rows(&["name", "id", "created", "size", "shared size", "unique size", "containers", "used"], &usage.images, |it| {
        let created = made(it.summary.created.as_deref(), now_s);
        let name = if it.summary.keys.is_empty() { "<none>".to_owned() } else { it.summary.keys.join(", ") };
        let [whole, shared, unique] = [it.shared_bytes + it.unique_bytes, it.shared_bytes, it.unique_bytes].map(size);
        vec![name, it.summary.id.short(), created, whole, shared, unique, it.containers.to_string(), yes(it.in_use)]
    });
    render.line("\nContainers:\n");
    render.rows(&["id", "image", "size", "running", "of a site"], &usage.containers, |it| {
        let image = it.image.map_or_else(|| "?".to_owned(), |image| image.short());
        vec![it.id.to_string(), image, size(it.bytes), yes(it.running), yes(it.of_site)]
    });
    render.line("\nVolumes:\n");
    render.rows(&["name", "containers", "size", "of a site"], &usage.volumes, |it| {
        vec![it.name.to_string(), it.containers.len().to_string(), size(it.bytes), yes(it.of_site)]
    });
    render.line(format_args!("\nBuild cache: {} of it layers as they travel\n", size(usage.travelled_bytes)));
    render.rows(&["id", "type", "last used", "size", "step"], &cached(usage), |it| {
        vec![it.id.clone(), it.kind.to_owned(), format!("{} ago", age(now_s - it.used_s)), size(it.bytes), it.step.clone()]
    });
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// A line about the build cache.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CacheRow {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    bytes: u64,
    used_s: i64,
    step: String,
}

fn cached(usage: &DiskUsage) -> Vec<CacheRow> {
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let step = |(step, bytes): &(CachedStep, u64)| CacheRow {
        id: step.key.short(),
        kind: "step",
        bytes: *bytes,
        used_s: seconds(step.used),
        step: step.record.instruction.lines().next().unwrap_or_default().to_owned(),
    };
    let mount = |mount: &CacheMount| CacheRow {
        id: mount.name.chars().take(12).collect(),
        kind: "mount",
        bytes: mount.size_bytes,
        used_s: seconds(mount.last_used),
        step: mount.id.clone(),
    };
    let download = |download: &KeptDownload| CacheRow {
        id: download.digest.short(),
        kind: "download",
        bytes: download.size_bytes,
        used_s: seconds(download.last_used),
        step: download.urls.first().cloned().unwrap_or_default(),
    };
    let (steps, mounts) = (usage.steps.iter().map(step), usage.mounts.iter().map(mount));
    steps.chain(mounts).chain(usage.downloads.iter().map(download)).collect()
}

/// Everything, as one document.
fn document(usage: &DiskUsage, summary: &[Row]) -> serde_json::Value {
    let images: &Vec<ImageUsage> = &usage.images;
    let summary: BTreeMap<&str, &Row> = summary.iter().map(|row| (row.kind, row)).collect();
    serde_json::json!({
        "summary": summary,
        "images": images,
        "containers": usage.containers,
        "volumes": usage.volumes,
        "buildCache": cached(usage),
        "travelledBytes": usage.travelled_bytes,
    })
}
