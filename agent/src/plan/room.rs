//! What one container is decided on with: all that is known, and what is decided already.

use super::addresses::Addresses;
use super::image::Images;
use super::network::Networks;
use super::site::Site;
use super::verdict::Verdict;
use super::volume::VolumeState;
use spec::value::Name;
use std::collections::BTreeMap;

/// What is decided on, with what is decided already.
pub(super) struct Room<'a, 'b> {
    pub(super) site: &'b Site<'a>,
    pub(super) images: &'b Images<'a>,
    pub(super) volumes: &'b BTreeMap<Name, VolumeState>,
    pub(super) networks: &'b Networks,
    pub(super) addresses: Addresses,
    pub(super) decided: BTreeMap<&'a Name, Verdict<'a>>,
}
