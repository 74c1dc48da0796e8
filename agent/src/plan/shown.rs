//! What actions carry as it is shown to people and programs that read plans: without secrets.

use serde::{Serialize, Serializer};
use spec::desired::{Container, Image, ImageSource};
use spec::value::secret::{HIDDEN, hide_password, names_secret};
use std::collections::BTreeMap;

/// A container without the values of variables that look secret or come from files.
pub(super) fn container<S: Serializer>(container: &Container, serializer: S) -> Result<S::Ok, S::Error> {
    let mut shown = container.clone();
    hide(&mut shown.env, |name| container.env_from_files.contains(name));
    hide(&mut shown.labels, |_| false);
    shown.serialize(serializer)
}

/// An image without the values of build arguments that look secret.
pub(super) fn image<S: Serializer>(image: &Image, serializer: S) -> Result<S::Ok, S::Error> {
    let mut shown = image.clone();
    match &mut shown.source {
        ImageSource::Build { args, .. } => hide(args, |_| false),
        ImageSource::Pull { .. } | ImageSource::Archive { .. } => {}
    }
    shown.serialize(serializer)
}

fn hide(pairs: &mut BTreeMap<String, String>, is_hidden: impl Fn(&str) -> bool) {
    for (name, value) in pairs {
        *value = if names_secret(name) || is_hidden(name) { HIDDEN.to_owned() } else { hide_password(value) };
    }
}
