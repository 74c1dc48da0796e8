//! Obtaining images for a site: built, pulled, imported; recorded in the ledger with what they were made from.

use super::LinuxHost;
use super::build_log::BuildLog;
use super::context::{BuildContext, GitDirectory};
use super::record::AppliedImage;
use super::registries::registry_access;
use super::repository::Repositories;
use super::room::with_room;
use crate::host::HostError;
use crate::ledger::{GENERATIONS_MAX, Ledger, Obtained};
use crate::progress::{Lines, Progress, Tell};
use runtime::builder::file::RunNetwork;
use runtime::builder::remote::git_reference;
use runtime::builder::share::SharedCache;
use runtime::builder::{self, BuildRequest, Built, Elsewhere, NamedContext};
use runtime::engine::Engine;
use runtime::image::registry::{self, Access, IsWanted, PullError, PullOptions, policy};
use runtime::image::store::ImageStore;
use runtime::image::{ImageId, archive};
use spec::desired::{BuildContextSource, BuildNetwork, Image, ImageKey, ImageSource, Kind, ResourceId};
use spec::value::{Digest, ImageReference, Name, ValueError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

type Result<T = ()> = std::result::Result<T, HostError>;

/// How names of images are stored and read back: a bare name is an image of a site, everything else a completed reference.
pub fn key_of(name: &str) -> Option<ImageKey> {
    if !name.contains(['/', ':', '@'])
        && let Ok(name) = name.parse::<Name>()
    {
        return Some(ImageKey::Named(name));
    }
    name.parse::<ImageReference>().ok().map(ImageKey::Reference)
}

/// The key under which an image made by hand is stored: what Docker would complete the name to.
pub fn image_key(name: &str) -> std::result::Result<String, ValueError> {
    name.parse::<ImageReference>().map(|reference| reference.to_string())
}

pub(super) fn obtain(host: &LinuxHost<'_>, key: &ImageKey, image: &Image, progress: &Tell<'_>) -> Result {
    let tried = || match &image.source {
        ImageSource::Build { .. } => format!("build image {key}"),
        ImageSource::Pull { reference } => format!("pull {reference}"),
        ImageSource::Archive { path, .. } => format!("import {path}"),
    };
    let named = || {
        // Until it has its name nothing else keeps it from being collected.
        let _lease = host.engine.images().lease()?;
        let (id, bases) = obtained(host, image, progress)?;
        host.engine.images().tag(&key.to_string(), &id)?;
        Ok(bases)
    };
    let bases = with_room(host.engine, &|line| progress(&Progress::Note(line)), &|| {
        named().map_err(|error: BoxError| HostError::new(tried(), error))
    })?;
    let before = host.ledger().find_owned(&resource(key)).map_err(|error| HostError::new(tried(), error))?;
    let before = before.and_then(|owned| serde_json::from_value::<AppliedImage>(owned.applied).ok());
    let published = before.map(|before| before.published).unwrap_or_default();
    let applied = AppliedImage { image: image.clone(), bases, written: host.written(&resource(key)), published };
    host.record_applied(&resource(key), &serde_json::to_value(applied).expect("manifests have text keys and finite numbers"))
}

/// An image of a site, and the images of the site it was built on: one that the site had before from just the same, else made or
/// fetched.
fn obtained(host: &LinuxHost<'_>, image: &Image, progress: &Tell<'_>) -> std::result::Result<(ImageId, BTreeMap<Name, Digest>), BoxError> {
    let store = host.engine.images();
    let bases = bases(host, image)?;
    let id = match &image.source {
        // The cache would give the same, as long as it is there.
        ImageSource::Build { .. } => match past(host, image, &bases)? {
            Some(id) => id,
            None => build(host, image, &bases, progress)?,
        },
        ImageSource::Pull { reference } => {
            let access = registry_access(host.engine.places())?;
            // What the store has under that reference now comes first, then what it had; the policy has to admit both.
            match past(host, image, &bases)? {
                Some(id)
                    if store.find(&reference.to_string())?.is_none() && policy::is_settled(&access.settings, store, reference, &id)? =>
                {
                    id
                }
                Some(_) | None => fetch_if_absent(store, reference, &access, progress)?,
            }
        }
        ImageSource::Archive { path, .. } => archive::import(store, &host.site.root.join(path))?,
    };
    Ok((id, bases))
}

/// An image that a past generation of the site had, made from just the same, if it is still there: a step back needs no registry.
fn past(host: &LinuxHost<'_>, image: &Image, bases: &BTreeMap<Name, Digest>) -> std::result::Result<Option<ImageId>, BoxError> {
    let generations = host.ledger().generations(&host.site.id, GENERATIONS_MAX)?;
    let is_same = |obtained: &Obtained| {
        serde_json::from_value::<AppliedImage>(obtained.applied.clone())
            .is_ok_and(|it| it.image.source == image.source && it.bases == *bases)
    };
    let same = generations.into_iter().flat_map(BTreeMap::into_values).find(|it| is_same(it) && host.engine.images().has_image(&it.id));
    Ok(same.map(|obtained| obtained.id))
}

/// The images of the site that an image is built on, as they are now.
fn bases(host: &LinuxHost<'_>, image: &Image) -> std::result::Result<BTreeMap<Name, Digest>, BoxError> {
    let ImageSource::Build { bases, .. } = &image.source else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for base in bases {
        let id = host.engine.images().find(base.as_str())?;
        found.insert(base.clone(), id.ok_or_else(|| format!("image {base} of this site is not in the store"))?);
    }
    Ok(found)
}

/// An image of a registry as Docker and Compose take it: what the store has under that reference already, by whatever way, else
/// what the registry has. It gets no name. Where the policy wants more than is known of the image here, the registry is asked.
fn fetch_if_absent(
    store: &ImageStore,
    reference: &ImageReference,
    access: &Access,
    progress: &Tell<'_>,
) -> std::result::Result<ImageId, PullError> {
    match here(store, reference, access)? {
        Some(id) => Ok(id),
        None => fetch(store, reference, access, progress),
    }
}

/// What the store has under a reference, if that is enough for the policy.
fn here(store: &ImageStore, reference: &ImageReference, access: &Access) -> std::result::Result<Option<ImageId>, PullError> {
    match store.find(&reference.to_string())? {
        Some(id) if policy::is_settled(&access.settings, store, reference, &id)? => Ok(Some(id)),
        Some(_) | None => Ok(None),
    }
}

/// What the registry has. It gets no name.
pub fn fetch(
    store: &ImageStore,
    reference: &ImageReference,
    access: &Access,
    progress: &Tell<'_>,
) -> std::result::Result<ImageId, PullError> {
    registry::pull(
        store,
        reference,
        &PullOptions { progress: &|what| progress(&Progress::Pull { reference, what }), ..PullOptions::new(access) },
    )
}

/// Asks the registry what the reference stands for now, and lets the reference and the images that sites pulled by it stand for
/// that; containers follow with the next turn of their site. Names those images.
pub fn pull(engine: &Engine, ledger: Option<&Ledger>, reference: &ImageReference, progress: &Tell<'_>) -> Result<(ImageId, Vec<String>)> {
    let failed = || format!("pull {reference}");
    let store = engine.images();
    let access = registry_access(engine.places()).map_err(|error| HostError::new(failed(), error))?;
    let id = with_room(engine, &|line| progress(&Progress::Note(line)), &|| {
        let _lease = store.lease().map_err(|error| HostError::new(failed(), error))?;
        let id = fetch(store, reference, &access, progress).map_err(|error| HostError::new(failed(), error))?;
        store.tag(&reference.to_string(), &id).map_err(|error| HostError::new(failed(), error))?;
        Ok::<_, HostError>(id)
    })?;
    let owned = ledger.map(|ledger| ledger.owned(None)).transpose().map_err(|error| HostError::new(failed(), error))?;
    let mut followers = Vec::new();
    for owned in owned.into_iter().flatten().filter(|owned| owned.resource.kind == Kind::Image) {
        let Ok(applied) = serde_json::from_value::<AppliedImage>(owned.applied) else { continue };
        let name = owned.resource.name;
        if (ImageSource::Pull { reference: reference.clone() }) == applied.image.source
            && store.find(&name).is_ok_and(|it| it.is_some_and(|it| it != id))
        {
            store.tag(&name, &id).map_err(|error| HostError::new(failed(), error))?;
            followers.push(name);
        }
    }
    Ok((id, followers))
}

/// Gives up the name; what no container uses goes with the next collection.
pub(super) fn forget(host: &LinuxHost<'_>, key: &ImageKey) -> Result {
    let tried = || format!("forget image {key}");
    host.engine.images().untag(&key.to_string()).map_err(|error| HostError::new(tried(), error))?;
    // Its bytes go when the application is over, if no past generation of the site has it.
    host.ledger().confirm_removal(&resource(key)).map_err(|error| HostError::new(tried(), error))
}

pub(super) fn resource(key: &ImageKey) -> ResourceId {
    ResourceId { kind: Kind::Image, name: key.to_string() }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn build(
    host: &LinuxHost<'_>,
    image: &Image,
    bases: &BTreeMap<Name, Digest>,
    progress: &Tell<'_>,
) -> std::result::Result<ImageId, BoxError> {
    let ImageSource::Build { context, dockerfile, inline, contexts, args, target, network, .. } = &image.source else {
        unreachable!("only builds are built")
    };
    let mut named = BuildContext::default();
    for (name, value) in contexts {
        let context = match value {
            BuildContextSource::Directory { path } => NamedContext::Directory(host.site.root.join(path)),
            BuildContextSource::Elsewhere { address } => named.named(host.engine, address)?,
        };
        named.contexts.insert(name.clone(), context);
    }
    let directory = match git_reference(context) {
        Some(_) => named.directory_of(host.engine, context, GitDirectory::Omit)?,
        None => host.site.root.join(context),
    };
    let request = BuildRequest {
        dockerfile: dockerfile.into(),
        inline: inline.clone(),
        contexts: named.contexts.clone(),
        args: args.clone(),
        target: target.clone(),
        network: match network {
            BuildNetwork::Default => RunNetwork::Default,
            BuildNetwork::None => RunNetwork::None,
            BuildNetwork::Host => RunNetwork::Host,
        },
        bases: bases.iter().map(|(name, id)| (name.to_string(), *id)).collect(),
        ..build_request(host.engine, directory)
    };
    let log = BuildLog::new(&host.engine.places().state);
    let built = build_with(host.engine, &request, Supplies { bases: Bases::Keep, caches: &[] }, &log, progress);
    let built = built.inspect_err(|_| {
        if let Some(path) = log.path() {
            progress(&Progress::Note(&format!("all that the build said is in {}", path.display())));
        }
    })?;
    Ok(built.image)
}

/// A build by this engine, with nothing said but its context.
pub fn build_request(engine: &Engine, context: PathBuf) -> BuildRequest {
    let places = engine.places().clone();
    let git = Repositories { places: places.clone(), images: engine.images().clone() };
    BuildRequest { git: Some(Arc::new(git)), ..BuildRequest::new(context, runtime::container::shim_executable(), places) }
}

/// What a build takes from elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Supplies<'a> {
    /// Base images.
    pub bases: Bases,
    /// Build caches, the one to be asked first first.
    pub caches: &'a [SharedCache<'a>],
}

/// Which base images are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bases {
    /// Those that are not in the store.
    Keep,
    /// All: a tag may stand for something else by now.
    Refresh,
}

/// Builds, fetching what the Dockerfile names and neither the site nor the store has, and of the caches what is needed.
pub fn build_with(
    engine: &Engine,
    request: &BuildRequest,
    supplies: Supplies<'_>,
    log: &BuildLog,
    progress: &Tell<'_>,
) -> std::result::Result<Built, builder::BuildError> {
    let store = engine.images();
    let lines = Lines::default();
    let tell = |told: &Progress<'_>| {
        lines.tell(told, &|line| log.line(line));
        progress(told);
    };
    let pull = |reference: &ImageReference, is_wanted: &IsWanted<'_>| {
        let access = registry_access(engine.places())?;
        let known = match supplies.bases {
            Bases::Keep => here(store, reference, &access)?,
            Bases::Refresh => None,
        };
        let id = match known {
            Some(id) => id,
            None => {
                let options = PullOptions { is_wanted, ..PullOptions::new(&access) };
                registry::pull(store, reference, &PullOptions { progress: &|what| tell(&Progress::Pull { reference, what }), ..options })?
            }
        };
        store.tag(&reference.to_string(), &id)?;
        Ok(id)
    };
    builder::build(store, request, Elsewhere { pull: &pull, caches: supplies.caches }, &|event| tell(&Progress::Build(&event)))
}
