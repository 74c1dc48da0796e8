//! Publishing images in registries: for a site, remembered in the ledger name by name, and by hand.

use super::image::resource;
use super::record::AppliedImage;
use super::registries::registry_access;
use super::room::with_room;
use super::{HostError, LinuxHost};
use runtime::engine::Engine;
use runtime::image::ImageId;
use runtime::image::manifest::Descriptor;
use runtime::image::publish::Origin;
use runtime::image::registry::{self, PushOptions, PushProgress, Pushed, Tagged};
use spec::desired::{Image, ImageKey};
use spec::value::{Digest, ImageReference};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

type Result<T = ()> = std::result::Result<T, HostError>;

/// Blobs that are smaller are sent without a word in between.
const QUARTERS_BYTES_MIN: u64 = 64 << 20;

/// Publishes an image of the site under each name; a name that fails does not keep the others from it.
pub(super) fn publish(
    host: &LinuxHost<'_>,
    (key, image): (&ImageKey, &Image),
    digest: &Digest,
    references: &BTreeSet<ImageReference>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result {
    let mut first = None;
    for reference in references {
        let done = push(host.engine, digest, reference, Tagged::Image, progress).and_then(|pushed| {
            progress(&format!("{reference} is now {}", pushed.digest));
            remember(host, (key, image), digest, reference)
        });
        if let Err(error) = done {
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Writes into the ledger what was published, and what the site says of it now.
fn remember(host: &LinuxHost<'_>, (key, image): (&ImageKey, &Image), digest: &Digest, reference: &ImageReference) -> Result {
    let resource = resource(key);
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| HostError::new(format!("remember that {resource} was published"), error);
    let owned = host.ledger().find_owned(&resource).map_err(|error| failed(error.into()))?;
    let applied = owned.map(|owned| serde_json::from_value::<AppliedImage>(owned.applied)).transpose();
    let known = applied.map_err(|error| failed(error.into()))?;
    let (bases, mut published) = known.map_or_else(Default::default, |known| (known.bases, known.published));
    // Names that are not wanted any more are forgotten: wanted again, they are published again.
    published.retain(|name, _| image.push.contains(name));
    published.insert(reference.clone(), *digest);
    let applied = AppliedImage { image: image.clone(), bases, written: host.written(&resource), published };
    host.record_applied(&resource, &serde_json::to_value(applied).expect("manifests have text keys and finite numbers"))
}

/// Pushes an image of the store to a tag of a registry.
pub fn push(engine: &Engine, id: &ImageId, reference: &ImageReference, tagged: Tagged, progress: &(dyn Fn(&str) + Sync)) -> Result<Pushed> {
    let tried = || format!("push {reference}");
    let access = registry_access(engine.places()).map_err(|error| HostError::new(tried(), error))?;
    let quarters = Mutex::new(BTreeMap::new());
    let tell = |event: PushProgress<'_>| {
        if let Some(line) = line(event, &quarters) {
            progress(&line);
        }
    };
    let options = PushOptions { access: &access, tagged, progress: &tell };
    with_room(engine, progress, &|| {
        registry::push(engine.images(), id, reference, &options).map_err(|error| HostError::new(tried(), error))
    })
}

/// Progress of a push as a line for people. Bytes come too often: of a large blob each quarter is told.
fn line(event: PushProgress<'_>, quarters: &Mutex<BTreeMap<Digest, u64>>) -> Option<String> {
    let name = |blob: &Descriptor| format!("blob {}", blob.digest.short());
    Some(match event {
        PushProgress::Prepared { manifest, layers, origin } => {
            let again = match origin {
                Origin::Kept => String::new(),
                Origin::Made => ", made now".to_owned(),
                Origin::Remade { was } => {
                    format!(", made anew: a compressed layer of {} is no longer kept here", was.short())
                }
            };
            format!("{layers} {}, manifest {}{again}", if layers == 1 { "layer" } else { "layers" }, manifest.short())
        }
        PushProgress::Present { blob } => format!("{} is there already", name(blob)),
        PushProgress::Mounted { blob, from } => format!("{} mounted from {from}", name(blob)),
        PushProgress::Sent { blob } => format!("{} pushed, {} bytes", name(blob), blob.size),
        PushProgress::Bytes { blob, done } => {
            let quarter = (blob.size >= QUARTERS_BYTES_MIN).then(|| done.saturating_mul(4) / blob.size)?;
            let mut told = quarters.lock().unwrap_or_else(PoisonError::into_inner);
            let before = told.insert(blob.digest, quarter).unwrap_or_default();
            (quarter > before && quarter < 4).then(|| format!("{} {} % pushed", name(blob), quarter * 25))?
        }
        PushProgress::Retrying { what, reason, wait } => format!("{what}: {reason}; trying again in {:.1} s", wait.as_secs_f32()),
    })
}
