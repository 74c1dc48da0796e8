//! Publishing images in registries: for a site, remembered in the ledger name by name, and by hand.

use super::image::resource;
use super::record::AppliedImage;
use super::registries::registry_access;
use super::{HostError, LinuxHost};
use crate::progress::{Progress, Tell};
use runtime::engine::Engine;
use runtime::image::ImageId;
use runtime::image::registry::{self, PushOptions, PushProgress, Pushed, Tagged};
use spec::desired::{Image, ImageKey};
use spec::value::{Digest, ImageReference};
use std::collections::BTreeSet;

type Result<T = ()> = std::result::Result<T, HostError>;

/// Publishes an image of the site under each name; a name that fails does not keep the others from it.
pub(super) fn publish(
    host: &LinuxHost<'_>,
    (key, image): (&ImageKey, &Image),
    digest: &Digest,
    references: &BTreeSet<ImageReference>,
    progress: &Tell<'_>,
) -> Result {
    let mut first = None;
    for reference in references {
        let done = push(host.engine, digest, reference, Tagged::Image, progress).and_then(|pushed| {
            progress(&Progress::Note(&format!("{reference} is now {}", pushed.digest)));
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
pub fn push(engine: &Engine, id: &ImageId, reference: &ImageReference, tagged: Tagged, progress: &Tell<'_>) -> Result<Pushed> {
    let tried = || format!("push {reference}");
    let access = registry_access(engine.places()).map_err(|error| HostError::new(tried(), error))?;
    let tell = |what: PushProgress<'_>| progress(&Progress::Push { reference, what });
    let options = PushOptions { access: &access, tagged, progress: &tell };
    registry::push(engine.images(), id, reference, &options).map_err(|error| HostError::new(tried(), error))
}
