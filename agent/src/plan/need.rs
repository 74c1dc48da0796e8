//! What an existing container is short of: fields, its image, its place on its networks.

use super::action::Cause;
use super::draft::resource;
use super::field::{self, Difference, Effect};
use super::image::ImageState;
use super::incarnation::Incarnation;
use super::network::{self, NetworkState};
use super::room::Room;
use super::site::attachments;
use spec::desired::{Container, ImageKey, Kind};
use spec::value::{Digest, Name};

/// What an existing container is short of.
pub(super) struct Need {
    /// The most that any difference takes; `None` if there is none.
    pub(super) effect: Option<Effect>,
    /// Every difference.
    pub(super) causes: Vec<Cause>,
    /// Whether it cannot be known before an image or a network is there.
    pub(super) is_pending: bool,
}

impl Need {
    pub(super) fn nothing() -> Self {
        Self { effect: None, causes: Vec::new(), is_pending: false }
    }

    fn take(&mut self, effect: Effect, cause: Cause) {
        self.effect = self.effect.max(Some(effect));
        self.causes.push(cause);
    }
}

impl Room<'_, '_> {
    /// Compares an incarnation with what is desired.
    pub(super) fn need(&self, name: &Name, wanted: &Container, current: &Incarnation<'_>) -> Need {
        let applied: &Container = &current.state.applied;
        let mut need = Need::nothing();
        let mut differences = field::differences(field::CONTAINER, applied, wanted);
        if let Some(image) = self.image_difference(wanted, current, &mut need) {
            differences.retain(|difference| difference.field != "image");
            differences.insert(0, image);
        }
        let id = resource(Kind::Container, name);
        for difference in differences {
            need.take(difference.effect, difference.cause(self.site.desired, &id));
        }
        self.compare_networks(wanted, current, &mut need);
        need
    }

    /// The image as one field: what counts is the digest, not the name.
    fn image_difference(&self, wanted: &Container, current: &Incarnation<'_>, need: &mut Need) -> Option<Difference> {
        let applied = &current.state.applied.image;
        let renamed = *applied != wanted.image;
        let shown = |key: &ImageKey, digest: &str| if renamed { format!("{key} {digest}") } else { digest.to_owned() };
        let old = shown(applied, &current.state.image.short());
        let field = "image".to_owned();
        match self.images.state(&wanted.image) {
            ImageState::Known { digest, .. } if *digest == current.state.image => {
                let new = shown(&wanted.image, &digest.short());
                renamed.then_some(Difference { field, old, new, effect: Effect::Record })
            }
            ImageState::Known { digest, .. } => {
                Some(Difference { field, old, new: shown(&wanted.image, &Digest::short(digest)), effect: Effect::Replace })
            }
            ImageState::Pending { how } => {
                need.is_pending = true;
                Some(Difference { field, old, new: shown(&wanted.image, &format!("known after {how}")), effect: Effect::Replace })
            }
            ImageState::Blocked => None,
        }
    }

    fn compare_networks(&self, wanted: &Container, current: &Incarnation<'_>, need: &mut Need) {
        let was_on = |name: &Name| attachments(&current.state.applied).any(|(other, _)| other == name);
        for (name, _) in attachments(wanted) {
            let Some(verdict) = self.networks.get(name) else { continue };
            let endpoint = current.state.endpoints.iter().find(|endpoint| endpoint.network == *name);
            match (&verdict.state, endpoint) {
                (NetworkState::Blocked { .. }, _) => {}
                (NetworkState::Usable { range, .. }, Some(endpoint)) if !range.admits(endpoint.address) => {
                    let what = format!("its address {} does not lie in network/{name}, which is {}", endpoint.address, range.subnet);
                    need.take(Effect::Replace, Cause::Drift { what });
                }
                (NetworkState::Replaced { range }, Some(_)) => need.take(Effect::Replace, network::follows(name, *range)),
                (NetworkState::Later { range }, Some(_)) => {
                    need.is_pending = true;
                    need.take(Effect::Replace, network::follows(name, *range));
                }
                (_, None) if was_on(name) => {
                    need.take(Effect::Live, Cause::Drift { what: format!("it is not connected to network/{name}") });
                }
                (NetworkState::Usable { .. }, Some(_)) | (_, None) => {}
            }
        }
    }

    /// Whether an incarnation has an address it may keep on each network.
    pub(super) fn is_at_home(&self, wanted: &Container, one: &Incarnation<'_>) -> bool {
        attachments(wanted).all(|(name, attachment)| {
            let range = self.networks.get(name).and_then(network::NetworkVerdict::range);
            let endpoint = one.state.endpoints.iter().find(|endpoint| endpoint.network == *name);
            match (range, endpoint) {
                (Some(range), Some(endpoint)) => {
                    range.admits(endpoint.address) && attachment.address.is_none_or(|address| address == endpoint.address)
                }
                (None, _) | (_, None) => false,
            }
        })
    }
}

/// Whether an incarnation runs the image as it is in the store; not to be told while that is unknown.
pub(super) fn runs_image(one: &Incarnation<'_>, image: &ImageState) -> bool {
    match image {
        ImageState::Known { digest, .. } => one.state.image == *digest,
        ImageState::Pending { .. } => false,
        ImageState::Blocked => true,
    }
}
