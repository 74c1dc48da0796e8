//! The handle that ties the rooms together: a verb here leaves container, links, ports and names in agreement.
//!
//! A library, not a server: any number of processes hold an engine at once. What belongs to one container is serialised by its
//! own lock (the verbs of [`crate::container`]); what all containers share, the network, by [`Engine::network_lock`].

mod containers;
mod error;
mod garbage;
mod journal;
mod keep;
mod networks;
mod reset;
mod snapshot;
mod traffic;
mod usage;

pub use containers::Lead;
pub use error::EngineError;
pub use garbage::{Collectable, Needed, Reach, Room, UnusedImages};
pub use keep::Keep;
pub use networks::Users;
pub use snapshot::{Pause, Remark};
pub use traffic::servable;
pub use usage::{ContainerUsage, DiskUsage, ImageUsage, VolumeUsage};

use crate::container;
use crate::image::store::{ImageStore, Limits};
use crate::places::Places;
use crate::store::{FileError, Lock};
use journal::Journal;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Mutex;

/// An instance of the agent's runtime on this host.
pub struct Engine {
    places: Places,
    images: ImageStore,
    /// Who serves, as far as it was read.
    journal: Mutex<Journal>,
}

impl Engine {
    /// Opens the instance at these places, making its directories (mode 0700: an image may hold set-user-id programs that
    /// nobody outside a container should reach).
    pub fn open(places: &Places) -> Result<Self, EngineError> {
        for directory in [&places.state, &places.run, &places.snapshots()] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(FileError::of("create", directory))?;
        }
        let journal = Mutex::new(Journal::new(places.run.join("traffic.json")));
        Ok(Self { places: places.clone(), images: ImageStore::open(places)?, journal })
    }

    /// The same instance, its image store held to these limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { images: self.images.with_limits(limits), ..self }
    }

    /// Whether there is anything at these places to open: an instance that was never used is empty, and looking at it
    /// must not make it.
    pub fn exists(places: &Places) -> bool {
        places.state.exists()
    }

    /// Where everything is kept.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The image store.
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// Waits for and takes the host: whoever applies a plan holds it, so that two never apply at once.
    /// The kernel releases it when its holder dies.
    pub fn lock_host(&self) -> Result<Lock, EngineError> {
        let lock = Lock::exclusive(&self.places.lock())?;
        self.clear_interrupted()?;
        Ok(lock)
    }

    /// Takes the host if nobody holds it.
    pub fn try_lock_host(&self) -> Result<Option<Lock>, EngineError> {
        let lock = Lock::try_exclusive(&self.places.lock())?;
        if lock.is_some() {
            self.clear_interrupted()?;
        }
        Ok(lock)
    }

    /// What a holder of the lock that was killed has left half made or half removed.
    fn clear_interrupted(&self) -> Result<(), EngineError> {
        container::sweep(&self.places)?;
        self.remove_all_ended()?;
        self.thaw_forgotten()?;
        Ok(crate::volume::sweep_volumes(&self.places)?)
    }

    /// One change of networks, ports and names at a time, across processes.
    fn network_lock(&self) -> Result<Lock, EngineError> {
        Ok(Lock::exclusive(&self.places.run.join("network.lock"))?)
    }
}

/// Whether a directory of ours is closed to others, as [`Engine::open`] makes it.
pub fn is_private(directory: &Path) -> bool {
    std::fs::metadata(directory).is_ok_and(|found| std::os::unix::fs::MetadataExt::mode(&found) & 0o077 == 0)
}
