//! Which images are obtained, in the order in which one is built on the other.
//!
//! An image that is obtained makes the plan provisional: only its digest tells which containers have to follow, and what is published.

use super::action::{Action, Cause, Consequence, Verb};
use super::actual::{ActualImage, Observed};
use super::draft::{Draft, resource};
use super::field::{self, Effect};
use super::order::{self, Waits};
use super::site::{Site, foreign};
use spec::desired::{Image, ImageKey, ImageSource, Kind, ResourceId};
use spec::value::{Digest, ImageReference, Name};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of an image when containers are decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageState {
    /// It is in the store.
    Known { digest: Digest, is_probed: bool },
    /// It is obtained first: how, as in `known after build`.
    Pending { how: &'static str },
    /// It cannot be had; why is said of the image itself.
    Blocked,
}

/// The states of all images, and the steps that obtain them.
#[derive(Default)]
pub(super) struct Images<'a> {
    states: BTreeMap<&'a ImageKey, ImageState>,
    steps: BTreeMap<&'a ImageKey, usize>,
}

impl Images<'_> {
    /// What is known of the image; one no manifest explains cannot be had.
    pub(super) fn state(&self, key: &ImageKey) -> &ImageState {
        self.states.get(key).unwrap_or(&ImageState::Blocked)
    }
}

/// Decides on and writes the steps of every image of the site.
pub(super) fn plan<'a>(site: &Site<'a>, draft: &mut Draft) -> Images<'a> {
    let waits: Waits<&ImageKey> =
        site.desired.images.iter().map(|(key, image)| (key, bases(image).filter_map(|name| key_of(site, name)).collect())).collect();
    let order = order::sort(&waits);
    let mut images = Images::default();
    for key in order.sorted {
        let state = one(site, key, &mut images, draft);
        images.states.insert(key, state);
    }
    for key in order.circular {
        draft.block(resource(Kind::Image, key), "images are built on each other in a circle: let one of them begin FROM something else");
        images.states.insert(key, ImageState::Blocked);
    }
    images
}

/// What becomes of one image; those it is built on have been decided.
fn one<'a>(site: &Site<'a>, key: &'a ImageKey, images: &mut Images<'a>, draft: &mut Draft) -> ImageState {
    let id = resource(Kind::Image, key);
    let wanted = &site.desired.images[key];
    let present = match site.actual.images.get(key) {
        Some(Observed::Unreadable { why }) => {
            draft.block(id, format!("its record could not be read: {why}"));
            return ImageState::Blocked;
        }
        Some(Observed::Present(image)) => match key {
            ImageKey::Named(name) if image.owner != site.owner => {
                draft.block(id, foreign(Kind::Image, name.as_str(), &image.owner));
                return ImageState::Blocked;
            }
            ImageKey::Named(_) | ImageKey::Reference(_) => Some(image),
        },
        None => None,
    };
    for base in bases(wanted) {
        if key_of(site, base).is_none_or(|base| *images.state(base) == ImageState::Blocked) {
            draft.block(id, format!("it is built on image/{base}, which cannot be had"));
            return ImageState::Blocked;
        }
    }
    let how = how(&wanted.source);
    let mut causes = causes(site, &id, wanted, present, images);
    match present {
        Some(image) if causes.now.is_empty() && causes.perhaps.is_empty() => {
            publish(site, key, image, draft);
            return ImageState::Known { digest: image.digest, is_probed: image.has_healthcheck };
        }
        Some(_) if causes.now.is_empty() => draft.change(id, Verb::Update, Consequence::None, causes.perhaps),
        Some(_) | None => {
            causes.perhaps.extend(wanted.push.iter().map(|reference| publishing(site, &id, reference)));
            let verb = if present.is_some() { Verb::Update } else { Verb::Create };
            let after = bases(wanted).filter_map(|base| images.steps.get(key_of(site, base)?).copied()).collect();
            images.steps.insert(key, draft.step(&id, Action::ObtainImage { key: key.clone(), image: wanted.clone() }, after));
            draft.change(id, verb, Consequence::None, causes.now.into_iter().chain(causes.perhaps).collect());
        }
    }
    draft.make_provisional();
    ImageState::Pending { how }
}

/// Publishes what is in the store under the names that it does not have yet.
fn publish(site: &Site<'_>, key: &ImageKey, present: &ActualImage, draft: &mut Draft) {
    let id = resource(Kind::Image, key);
    let image = &site.desired.images[key];
    let missing = image.push.iter().filter(|reference| present.published.get(*reference) != Some(&present.digest));
    let references: BTreeSet<ImageReference> = missing.cloned().collect();
    if references.is_empty() {
        return;
    }
    let causes = references.iter().map(|reference| publishing(site, &id, reference)).collect();
    let action = Action::PushImage { key: key.clone(), image: image.clone(), digest: present.digest, references };
    draft.step(&id, action, Vec::new());
    draft.change(id, Verb::Publish, Consequence::None, causes);
}

fn publishing(site: &Site<'_>, id: &ResourceId, reference: &ImageReference) -> Cause {
    Cause::Publish { reference: reference.clone(), location: site.desired.origins.find(id, "push").cloned() }
}

/// Why an image is obtained.
struct Causes {
    /// Reasons that hold now.
    now: Vec<Cause>,
    /// Reasons that may turn out to hold once a base is there.
    perhaps: Vec<Cause>,
}

fn causes(site: &Site<'_>, id: &ResourceId, wanted: &Image, present: Option<&ActualImage>, images: &Images<'_>) -> Causes {
    let Some(present) = present else {
        return Causes { now: vec![Cause::New { location: site.desired.origins.find(id, "").cloned() }], perhaps: Vec::new() };
    };
    // Its names do not make it another image.
    let differences = field::differences(field::IMAGE, &present.applied, wanted).into_iter().filter(|it| it.effect != Effect::Record);
    let mut now: Vec<Cause> = differences.map(|difference| difference.cause(site.desired, id)).collect();
    let mut perhaps = Vec::new();
    for base in bases(wanted) {
        let follows = |what| Cause::Follows { resource: resource(Kind::Image, base), what };
        match key_of(site, base).map(|base| images.state(base)) {
            Some(ImageState::Known { digest, .. }) if present.bases.get(base) == Some(digest) => {}
            Some(ImageState::Known { digest, .. }) => {
                let old = present.bases.get(base).map_or_else(|| "unknown".to_owned(), Digest::short);
                now.push(follows(format!("{old} → {}", digest.short())));
            }
            Some(ImageState::Pending { how }) => perhaps.push(follows(format!("known after {how}"))),
            Some(ImageState::Blocked) | None => {}
        }
    }
    Causes { now, perhaps }
}

fn how(source: &ImageSource) -> &'static str {
    match source {
        ImageSource::Build { .. } => "build",
        ImageSource::Pull { .. } => "pull",
        ImageSource::Archive { .. } => "import",
    }
}

/// Images of the site it is built on, by name.
fn bases(image: &Image) -> impl Iterator<Item = &Name> {
    let names: Option<&BTreeSet<Name>> = match &image.source {
        ImageSource::Build { bases, .. } => Some(bases),
        ImageSource::Pull { .. } | ImageSource::Archive { .. } => None,
    };
    names.into_iter().flatten()
}

fn key_of<'a>(site: &Site<'a>, name: &Name) -> Option<&'a ImageKey> {
    site.desired.images.get_key_value(&ImageKey::Named(name.clone())).map(|(key, _)| key)
}
