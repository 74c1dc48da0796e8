//! Where blobs were seen: repositories of registries. A hint, no more: with it a push asks the registry to take a blob from there.

use super::ImageStore;
use spec::value::Digest;
use std::collections::BTreeMap;
use std::fs;

/// Places remembered of a blob, the last ones.
const PLACES_MAX: usize = 8;

impl ImageStore {
    /// Remembers that a repository has a blob. Whatever prevents that costs a push some time, and nothing else.
    pub(crate) fn remember_place(&self, blob: &Digest, registry: &str, repository: &str) {
        let place = format!("{registry}/{repository}");
        let mut places = self.read_places(blob);
        if places.first() == Some(&place) {
            return;
        }
        places.retain(|known| *known != place);
        places.insert(0, place);
        places.truncate(PLACES_MAX);
        // Renamed into place, not synced: torn, it is a list of fewer places.
        let (Ok(scratch), text) = (self.scratch(), places.join("\n") + "\n") else { return };
        let written = scratch.path().join("places");
        let _hint = fs::write(&written, text).and_then(|()| fs::rename(&written, self.places_path(blob)));
    }

    /// Other repositories of a registry that have these blobs, at most so many for each.
    pub(crate) fn places_of<'a>(
        &self,
        blobs: impl IntoIterator<Item = &'a Digest>,
        registry: &str,
        except: &str,
        most: usize,
    ) -> BTreeMap<Digest, Vec<String>> {
        let repository = |place: &String| Some(place.strip_prefix(registry)?.strip_prefix('/')?.to_owned());
        let of = |blob: &Digest| self.read_places(blob).iter().filter_map(repository).filter(|it| it != except).take(most).collect();
        blobs.into_iter().map(|blob| (*blob, of(blob))).collect()
    }

    fn read_places(&self, blob: &Digest) -> Vec<String> {
        let text = fs::read_to_string(self.places_path(blob)).unwrap_or_default();
        text.lines().filter(|line| line.contains('/')).take(PLACES_MAX).map(str::to_owned).collect()
    }

    pub(super) fn places_path(&self, blob: &Digest) -> std::path::PathBuf {
        self.directory.join("places").join(blob.hex())
    }
}
