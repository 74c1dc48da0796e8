//! What is not there, and what may have been meant: a name that is nearly the same, or something else of that name.

use super::Failure;
use anyhow::anyhow;
use runtime::engine::Engine;
use runtime::image::archive::save::familiar;
use spec::desired::Kind;
use spec::value::{ImageReference, Name};
use std::collections::BTreeMap;

/// Says that these are not there, all in one error, with a remedy for the first that has one.
pub(super) fn missing(engine: &Engine, kind: Kind, names: &[&str]) -> Failure {
    let known = names_of(engine, kind);
    let near = |name: &&&str| spec::nearest(name, known.iter().map(String::as_str)).map(|name| format!("did you mean {name}?"));
    let hint = names.iter().find_map(|name| elsewhere(engine, kind, name).or_else(|| near(&name)));
    let hint = hint.unwrap_or_else(|| {
        let list = if kind == Kind::Container { "ps -a" } else { "ls" };
        format!("agent {kind} {list} lists those there are")
    });
    Failure::Error { error: anyhow!("no such {kind}: {}", names.join(", ")), hint: Some(hint) }
}

/// Something else that has this name.
fn elsewhere(engine: &Engine, kind: Kind, name: &str) -> Option<String> {
    let others = [Kind::Container, Kind::Image, Kind::Volume, Kind::Network].into_iter().filter(|other| *other != kind);
    let found = others.into_iter().find(|other| names_of(engine, *other).iter().any(|known| known == name))?;
    let article = if found == Kind::Image { "an" } else { "a" };
    Some(format!("{name} is {article} {found}: agent {found} inspect {name}"))
}

/// Names there are. What cannot be read helps nobody and is no reason to say something else than that a thing is missing.
fn names_of(engine: &Engine, kind: Kind) -> Vec<String> {
    fn keys<T>(map: BTreeMap<Name, T>) -> Vec<String> {
        map.into_keys().map(|name| name.to_string()).collect()
    }
    match kind {
        Kind::Container => engine.container_ids().unwrap_or_default().into_iter().map(|id| id.name.to_string()).collect(),
        Kind::Volume => runtime::volume::list_volumes(engine.places()).map(keys).unwrap_or_default(),
        Kind::Network => runtime::network::list_networks(engine.places()).map(keys).unwrap_or_default(),
        Kind::Image => {
            let stored = engine.images().names_of_images().unwrap_or_default();
            // People leave the registry and the tag out.
            let shorter = |name: &String| {
                let short = name.parse::<ImageReference>().ok().filter(|_| name.contains('/')).map(|name| familiar(&name));
                let bare = short.as_ref().and_then(|short| short.strip_suffix(":latest")).map(str::to_owned);
                [Some(name.clone()), short, bare]
            };
            stored.keys().flat_map(shorter).flatten().collect()
        }
    }
}
