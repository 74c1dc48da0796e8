//! What the sites of this host need, for whoever removes what nothing needs.

use super::record::AppliedImage;
use crate::host::HostError;
use crate::ledger::{Ledger, LedgerError};
use crate::registry::Holdings;
use crate::settings::Settings;
use crate::site::repositories::home;
use crate::source::homes::{self, Wanted};
use runtime::engine::{Engine, EngineError, Needed, Reach};
use runtime::image::store::StoreError;
use serde::Deserialize as _;
use spec::desired::{BuildContextSource, ImageSource, Kind};
use std::path::{Path, PathBuf};

/// Whatever the ledger says is a site's, in whatever state, the images of the last generations of each site, and what was pushed to the
/// registry of this host: images as long as they have a name here.
pub fn needed(engine: &Engine, ledger: Option<&Ledger>, generations: u32) -> Result<Needed, HostError> {
    let failed = "find out what is needed";
    let pushed = Holdings::read(&engine.places().registry()).map_err(|error| HostError::new(failed, error))?;
    let mut needed = Needed { blobs: pushed.blobs, ..Needed::default() };
    if !pushed.images.is_empty() {
        let names = engine.images().names_of_images().map_err(|error| HostError::new(failed, error))?;
        needed.images.extend(names.into_values().filter(|image| pushed.images.contains(image)));
    }
    of_sites(&mut needed, ledger, generations).map_err(|error| HostError::new(failed, error))?;
    Ok(needed)
}

fn of_sites(needed: &mut Needed, ledger: Option<&Ledger>, generations: u32) -> Result<(), LedgerError> {
    let Some(ledger) = ledger else { return Ok(()) };
    for line in ledger.owned(None)? {
        let name = line.resource.name;
        match line.resource.kind {
            Kind::Image => drop(needed.names.insert(name)),
            // What was run by hand and has ended nobody starts again.
            Kind::Container if line.site.is_of_run() => {}
            Kind::Container => needed.containers.extend(name.parse()),
            Kind::Volume => needed.volumes.extend(name.parse()),
            Kind::Network => {}
        }
    }
    for site in ledger.sites()? {
        let past = ledger.generations(&site.id, generations)?;
        // A site without images has been taken down: nobody steps back from there.
        if past.first().is_some_and(|newest| !newest.is_empty()) {
            needed.images.extend(past.into_iter().flat_map(std::collections::BTreeMap::into_values).map(|obtained| obtained.id));
        }
    }
    Ok(())
}

/// What is kept of repositories that neither holds a site's last good revision nor what a build of a site takes from, and that nobody
/// works with.
pub fn unused_sources(engine: &Engine, ledger: Option<&Ledger>) -> Result<Vec<PathBuf>, HostError> {
    let failed = "find out which repositories are needed";
    let state = &engine.places().state;
    let wanted = wanted_sources(state, ledger).map_err(|error| HostError::new(failed, error))?;
    homes::unused(state, &wanted).map_err(|error| HostError::new(failed, error))
}

fn wanted_sources(state: &Path, ledger: Option<&Ledger>) -> Result<Wanted, LedgerError> {
    let Some(ledger) = ledger else { return Ok(Wanted::default()) };
    let good = ledger.sites()?.into_iter().filter_map(|site| site.good_revision?.commit().cloned());
    let lines = ledger.owned(None)?.into_iter().filter(|line| line.resource.kind == Kind::Image);
    let images = lines.filter_map(|line| AppliedImage::deserialize(line.applied).ok());
    let addresses = images.flat_map(|applied| match applied.image.source {
        ImageSource::Build { context, contexts, .. } => {
            let named = contexts.into_values().filter_map(|context| match context {
                BuildContextSource::Elsewhere { address } => Some(address),
                BuildContextSource::Directory { .. } => None,
            });
            named.chain([context]).collect()
        }
        ImageSource::Pull { .. } | ImageSource::Archive { .. } => Vec::new(),
    });
    Ok(Wanted { commits: good.collect(), homes: addresses.filter_map(|address| home(&address, state)).collect() })
}

/// Removes what nothing needs: images without a name, and of the build cache what is above its limit. Does nothing while somebody
/// pulls or builds: the next one collects.
pub fn collect(engine: &Engine, ledger: &Ledger) -> Result<(), HostError> {
    let failed = "remove what nothing needs";
    let settings = Settings::read(&engine.places().config).map_err(|error| HostError::new(failed, error))?;
    let needed = needed(engine, Some(ledger), settings.generations)?;
    let reach = Reach { cache_bytes: settings.cache_bytes(engine.images().directory()), ..Reach::default() };
    match engine.collect_garbage(&needed, reach) {
        Err(EngineError::Image(StoreError::Busy)) | Ok(_) => Ok(()),
        Err(error) => Err(HostError::new(failed, error)),
    }
}
