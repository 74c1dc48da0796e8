//! `agent image ls`.

use super::find::reference;
use crate::cli::template::Format;
use crate::cli::{Outcome, Session, exit};
use crate::human::{age, size};
use clap::Args;
use runtime::engine::Engine;
use runtime::image::archive::save::familiar;
use runtime::image::store::{ImageStore, ImageSummary, StoreError};
use serde::Serialize;
use spec::value::Digest;

/// List images.
#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    /// Only these: a name, which may end with *
    name: Option<String>,
    /// Those without a name too
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show the digests they were pulled by
    #[arg(long)]
    digests: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only those for which this is so: dangling=true, reference=NAME, label=KEY or label=KEY=VALUE
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    filter: Vec<Filter>,
    /// json, table, or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
}

/// Which images are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    /// With or without a name.
    Dangling(bool),
    /// By name, which may end with `*`.
    Reference(String),
    /// By a label, with or without its value.
    Label(String, Option<String>),
}

/// An image by one of its names; nameless once.
#[derive(Serialize)]
struct Row {
    name: Option<String>,
    repository: String,
    tag: String,
    id: Digest,
    digest: Option<Digest>,
    size: u64,
    /// When it was made, as it says itself: the same for the same content, so it tells little of built ones.
    created: Option<String>,
    /// When it came to this host.
    added: jiff::Timestamp,
}

pub(super) fn run(args: &LsArgs, session: &Session) -> Outcome {
    let engine = session.look()?;
    let mut filters = args.filter.clone();
    filters.extend(args.name.clone().map(Filter::Reference));
    let nameless = args.all || filters.contains(&Filter::Dangling(true));
    let mut rows = Vec::new();
    if let Some(store) = engine.as_ref().map(Engine::images) {
        for image in store.list()? {
            for row in rows_of(&image)?.into_iter().filter(|row| nameless || row.name.is_some()) {
                if matches(&row, &filters, store)? {
                    rows.push(row);
                }
            }
        }
    }
    rows.sort_by(|a, b| (a.name.is_none(), &a.name, a.id).cmp(&(b.name.is_none(), &b.name, b.id)));
    let id = |row: &Row| if args.no_trunc { row.id.to_string() } else { row.id.short() };
    if args.quiet {
        let mut ids: Vec<Digest> = Vec::new();
        for row in rows {
            if !ids.contains(&row.id) {
                ids.push(row.id);
                // Whole: what is printed for programs should name one image for ever.
                session.render.line(row.id);
            }
        }
        return Ok(exit::DONE);
    }
    let now = session.now().0 / 1_000_000_000;
    let digest: &[&str] = if args.digests { &["digest"] } else { &[] };
    let headings = [&["repository", "tag"], digest, &["image id", "added", "size"]].concat();
    let cells = |row: &Row| {
        let mut cells = vec![row.repository.clone(), row.tag.clone()];
        if args.digests {
            cells.push(row.digest.map_or_else(|| "<none>".to_owned(), |digest| digest.to_string()));
        }
        cells.extend([id(row), format!("{} ago", age(now - row.added.as_second())), size(row.size)]);
        cells
    };
    Format::print(args.format.as_ref(), session.render, &rows, |render| render.rows(&headings, &rows, cells))?;
    Ok(exit::DONE)
}

fn rows_of(image: &ImageSummary) -> Result<Vec<Row>, jiff::Error> {
    let added = jiff::Timestamp::try_from(image.added)?;
    let row = |name: Option<&String>| {
        let (repository, tag) = name.map_or_else(|| ("<none>".to_owned(), "<none>".to_owned()), |name| split(name));
        let ImageSummary { id, manifest, size_bytes, created, .. } = image;
        Row { name: name.cloned(), repository, tag, id: *id, digest: *manifest, size: *size_bytes, created: created.clone(), added }
    };
    Ok(if image.keys.is_empty() { vec![row(None)] } else { image.keys.iter().map(|name| row(Some(name))).collect() })
}

/// Repository and tag as Docker shows them. A site's own image has a bare name and no tag.
fn split(name: &str) -> (String, String) {
    let none = || "<none>".to_owned();
    match reference(name).filter(|_| name.contains(['/', ':', '@'])) {
        None => (name.to_owned(), none()),
        Some(reference) => {
            let short = familiar(&reference);
            let short = short.split('@').next().unwrap_or_default();
            let tag = reference.tag().filter(|_| reference.digest().is_none());
            let repository = tag.and_then(|tag| short.strip_suffix(tag)?.strip_suffix(':')).unwrap_or(short);
            (repository.to_owned(), tag.map_or_else(none, str::to_owned))
        }
    }
}

fn matches(row: &Row, filters: &[Filter], store: &ImageStore) -> Result<bool, StoreError> {
    for filter in filters {
        let holds = match filter {
            Filter::Dangling(dangling) => row.name.is_none() == *dangling,
            Filter::Reference(wanted) => {
                let names = [row.name.clone().unwrap_or_default(), row.repository.clone(), format!("{}:{}", row.repository, row.tag)];
                match wanted.strip_suffix('*') {
                    Some(start) => names.iter().any(|name| name.starts_with(start)),
                    None => names.iter().any(|name| name == wanted),
                }
            }
            Filter::Label(key, wanted) => {
                let labels = store.image(&row.id)?.config.config.labels;
                labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn filter(text: &str) -> Result<Filter, String> {
    match text.split_once('=') {
        Some(("dangling", "true" | "1")) => Ok(Filter::Dangling(true)),
        Some(("dangling", "false" | "0")) => Ok(Filter::Dangling(false)),
        Some(("reference", name)) => Ok(Filter::Reference(name.to_owned())),
        Some(("label", label)) => Ok(match label.split_once('=') {
            Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
            None => Filter::Label(label.to_owned(), None),
        }),
        Some(_) | None => Err("write dangling=true, dangling=false, reference=NAME, label=KEY or label=KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_docker_shows_them() {
        let digest = format!("10.0.0.1:5000/shop/web@{}", Digest::of(b"x"));
        for (name, repository, tag) in [
            ("shop-web", "shop-web", "<none>"),
            ("docker.io/library/nginx:1.29", "nginx", "1.29"),
            ("docker.io/shop/web:latest", "shop/web", "latest"),
            ("10.0.0.1:5000/shop/web:2", "10.0.0.1:5000/shop/web", "2"),
            (&digest, "10.0.0.1:5000/shop/web", "<none>"),
        ] {
            assert_eq!(split(name), (repository.to_owned(), tag.to_owned()), "{name}");
        }
    }
}
