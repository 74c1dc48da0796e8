//! The build cache taken from and to elsewhere: a registry, a directory, the image itself. Options in docker's words.

use super::registries::registry_access;
use crate::progress::{Progress, Tell};
use anyhow::{Context as _, anyhow, bail};
use runtime::builder::Built;
use runtime::builder::share::{self, SharedCache};
use runtime::engine::Engine;
use runtime::image::registry::{self, IsWanted, PullOptions, Tagged};
use runtime::image::store::{ImageStore, StoreError};
use runtime::image::{ImageId, archive, publish};
use spec::value::{Digest, ImageReference};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where a cache comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheSource {
    /// An image of a registry: one that was built with an inline cache, or one that is a cache.
    Registry(ImageReference),
    /// An OCI layout directory.
    Local(PathBuf),
}

/// Where a cache goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTarget {
    /// Into the image.
    Inline,
    /// A tag of a registry.
    Registry(ImageReference, Mode),
    /// An OCI layout directory, made or written over.
    Local(PathBuf, Mode),
}

/// How much of a cache goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The steps of the image's own layers.
    Min,
    /// The steps of all stages.
    Max,
}

/// `type=registry,ref=…`, `type=local,src=…`, or a reference alone.
pub fn source(text: &str) -> anyhow::Result<CacheSource> {
    if !text.contains('=') {
        return Ok(CacheSource::Registry(text.parse()?));
    }
    let mut options = options(text).with_context(|| format!("--cache-from {text}"))?;
    let source = match (options.remove("type"), options.remove("ref"), options.remove("src")) {
        (None | Some("registry"), Some(reference), None) => CacheSource::Registry(reference.parse()?),
        (Some("local"), None, Some(path)) => CacheSource::Local(path.into()),
        _ => bail!("--cache-from {text}: write type=registry,ref=IMAGE or type=local,src=DIRECTORY"),
    };
    nothing_left(&options).with_context(|| format!("--cache-from {text}"))?;
    Ok(source)
}

/// `type=inline`, or `type=registry,ref=…` or `type=local,dest=…` with `mode=min` or `mode=max`; a reference alone.
pub fn target(text: &str) -> anyhow::Result<CacheTarget> {
    if !text.contains('=') {
        return Ok(CacheTarget::Registry(text.parse()?, Mode::Min));
    }
    let mut options = options(text).with_context(|| format!("--cache-to {text}"))?;
    let mode = match options.remove("mode") {
        None | Some("min") => Mode::Min,
        Some("max") => Mode::Max,
        Some(other) => bail!("--cache-to {text}: mode is min or max, not {other:?}"),
    };
    let target = match (options.remove("type"), options.remove("ref"), options.remove("dest")) {
        (Some("inline"), None, None) => CacheTarget::Inline,
        (Some("registry"), Some(reference), None) => CacheTarget::Registry(reference.parse()?, mode),
        (Some("local"), None, Some(path)) => CacheTarget::Local(path.into(), mode),
        _ => bail!("--cache-to {text}: write type=registry,ref=IMAGE or type=local,dest=DIRECTORY or type=inline"),
    };
    nothing_left(&options).with_context(|| format!("--cache-to {text}"))?;
    Ok(target)
}

fn options(text: &str) -> anyhow::Result<BTreeMap<&str, &str>> {
    text.split(',').map(|option| option.split_once('=').ok_or_else(|| anyhow!("{option:?} is not name=value"))).collect()
}

fn nothing_left(options: &BTreeMap<&str, &str>) -> anyhow::Result<()> {
    match options.keys().next() {
        None => Ok(()),
        Some(name) => bail!("there is no option {name:?}"),
    }
}

/// A cache for a build. Of one in a registry only what is known of steps is fetched now, and a layer when the build needs it; one in a
/// directory is imported whole, like any image.
pub fn import<'a>(engine: &'a Engine, source: &CacheSource, progress: &'a Tell<'a>) -> anyhow::Result<SharedCache<'a>> {
    let store = engine.images();
    match source {
        CacheSource::Registry(reference) => in_registry(engine, reference.clone(), progress),
        CacheSource::Local(path) => {
            let image = archive::import(store, path)?;
            let fetch = |layer: &Digest, _: &IsWanted<'_>| Err(StoreError::NoLayer(*layer).into());
            Ok(SharedCache::new(image, &store.image(&image)?.config, Box::new(fetch))?)
        }
    }
}

fn in_registry<'a>(engine: &'a Engine, reference: ImageReference, progress: &'a Tell<'a>) -> anyhow::Result<SharedCache<'a>> {
    let store = engine.images();
    let access = registry_access(engine.places())?;
    let look_up = |what: registry::Progress<'_>| progress(&Progress::Pull { reference: &reference, what });
    let image = registry::look_up(store, &reference, &PullOptions { progress: &look_up, ..PullOptions::new(&access) })?;
    let (id, config) = (image.id(), image.config().clone());
    let fetch = move |layer: &Digest, is_wanted: &IsWanted<'_>| {
        let tell = |what: registry::Progress<'_>| progress(&Progress::Pull { reference: &reference, what });
        let options = PullOptions { progress: &tell, is_wanted, ..PullOptions::new(&access) };
        Ok(image.fetch(store, layer, &options)?)
    };
    Ok(SharedCache::new(id, &config, Box::new(fetch))?)
}

/// Whether a cache that goes there needs the layers of all steps.
pub fn takes_all(target: &CacheTarget) -> bool {
    matches!(target, CacheTarget::Registry(_, Mode::Max) | CacheTarget::Local(_, Mode::Max))
}

/// Writes a cache. An inline one is in the image already.
pub fn export(engine: &Engine, built: &Built, target: &CacheTarget, progress: &Tell<'_>) -> anyhow::Result<()> {
    let store = engine.images();
    match target {
        CacheTarget::Inline => Ok(()),
        CacheTarget::Registry(reference, mode) => {
            let _lease = store.lease()?;
            let image = cache_image(store, built, *mode)?;
            super::push(engine, &image, reference, Tagged::Image, progress)?;
            Ok(())
        }
        CacheTarget::Local(path, mode) => {
            let _lease = store.lease()?;
            let image = cache_image(store, built, *mode)?;
            write_layout(store, &image, path).with_context(|| format!("write {}", path.display()))
        }
    }
}

fn cache_image(store: &ImageStore, built: &Built, mode: Mode) -> anyhow::Result<ImageId> {
    Ok(match mode {
        Mode::Max => share::export(store, &built.steps)?,
        Mode::Min => share::export(store, &share::steps_of(store, &built.image, &built.steps)?)?,
    })
}

/// An OCI layout of one image: blobs that are there already stay as they are.
pub fn write_layout(store: &ImageStore, image: &ImageId, path: &Path) -> anyhow::Result<()> {
    let published = publish::manifest_of(store, image)?;
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut wanted: Vec<&Digest> = published.layers.iter().map(|layer| &layer.digest).collect();
    wanted.push(&published.config.digest);
    for digest in wanted {
        let target = blobs.join(digest.hex());
        if target.exists() {
            continue;
        }
        let mut blob = store.open_blob(digest)?.ok_or_else(|| anyhow!("blob {digest} is gone"))?;
        let partial = blobs.join(format!(".{}", digest.hex()));
        io::copy(&mut blob, &mut File::create(&partial)?)?;
        fs::rename(&partial, &target)?;
    }
    fs::write(blobs.join(published.digest.hex()), &published.manifest)?;
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let entry = serde_json::json!({
        "mediaType": published.media_type, "digest": published.digest.to_string(), "size": published.manifest.len(),
    });
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    // Last: without it the directory is no layout.
    Ok(fs::write(path.join("index.json"), serde_json::to_vec(&index)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_dockers_words() {
        let reference = |text: &str| CacheSource::Registry(text.parse().unwrap());
        assert_eq!(source("example.org/x:1").unwrap(), reference("example.org/x:1"));
        assert_eq!(source("type=registry,ref=example.org/x").unwrap(), reference("example.org/x"));
        assert_eq!(source("type=local,src=/d").unwrap(), CacheSource::Local("/d".into()));
        let registry = |text: &str, mode| CacheTarget::Registry(text.parse().unwrap(), mode);
        assert_eq!(target("example.org/x:1").unwrap(), registry("example.org/x:1", Mode::Min));
        assert_eq!(target("type=registry,ref=example.org/x,mode=max").unwrap(), registry("example.org/x", Mode::Max));
        assert_eq!(target("type=inline").unwrap(), CacheTarget::Inline);
        assert_eq!(target("type=local,dest=d,mode=max").unwrap(), CacheTarget::Local("d".into(), Mode::Max));
        for bad in ["type=gha", "type=local", "type=local,dest=d,mode=all", "type=local,dest=d,compression=zstd", "type=registry"] {
            assert!(target(bad).is_err(), "{bad}");
        }
        assert!(source("type=local,src=d,digest=x").is_err());
    }
}
