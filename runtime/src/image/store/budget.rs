//! How much disk the store may take, asked before anything is written.
//!
//! A budget is for the store: images, build cache, kept blobs, and what a registry keeps that is served from here. A floor is what every writer leaves free on the file system, so
//! that containers and volumes can go on. Nothing is removed here: whoever is refused may collect garbage and try again.

use super::{ImageStore, StoreError};
use crate::store::FileError;
use std::io::{self, Read};

/// The floor where none is set: this share of the file system,
const FLOOR_SHARE: u64 = 100;
/// but no more than this.
const FLOOR_BYTES_MAX: u64 = 1 << 30;
/// A writer whose end is not known asks again each time it has read this much: a layer expands to at most some hundred times that.
const STEP_BYTES: u64 = 1 << 20;
/// What the store takes is not counted again before so much was written: counting looks at every file that is being made.
const COUNT_BYTES_MIN: u64 = 16 << 20;

/// What the store is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of disk the store takes; no limit if `None`.
    pub budget: Option<u64>,
    /// Bytes that stay free on its file system; one per cent of it, at most 1 GiB, if `None`.
    pub floor: Option<u64>,
}

/// Something would not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Above the store's budget.
    #[error("no room: {} more, but the store takes {} of its budget of {}", amount(*.need), amount(*.used), amount(*.budget))]
    Budget {
        /// Bytes to be written.
        need: u64,
        /// Bytes the store takes.
        used: u64,
        /// Bytes it may take.
        budget: u64,
    },
    /// Into what must stay free.
    #[error("no room: {} more, but the file system has {} free, of which {} stay free", amount(*.need), amount(*.free), amount(*.floor))]
    Floor {
        /// Bytes to be written.
        need: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay free.
        floor: u64,
    },
}

impl NoRoom {
    /// How many bytes were to be written.
    pub fn need(self) -> u64 {
        match self {
            Self::Budget { need, .. } | Self::Floor { need, .. } => need,
        }
    }

    /// How many bytes have to go before it fits.
    pub fn missing(self) -> u64 {
        match self {
            Self::Budget { need, used, budget } => (used + need).saturating_sub(budget),
            Self::Floor { need, free, floor } => (floor + need).saturating_sub(free),
        }
    }
}

/// Bytes as people read them.
fn amount(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

impl ImageStore {
    /// The same store, held to these limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What it is held to.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether so many bytes more would fit. Errors: [`StoreError::NoRoom`].
    pub fn check_room(&self, need: u64) -> Result<(), StoreError> {
        self.check_floor(need)?;
        self.check_budget(need)
    }

    /// The half of [`Self::check_room`] that is about the budget alone.
    pub fn check_budget(&self, need: u64) -> Result<(), StoreError> {
        let Some(budget) = self.limits.budget else { return Ok(()) };
        let used = self.usage()?.total();
        if used.saturating_add(need) > budget { Err(NoRoom::Budget { need, used, budget }.into()) } else { Ok(()) }
    }

    /// The half of [`Self::check_room`] that costs one system call. Returns the bytes that are free.
    fn check_floor(&self, need: u64) -> Result<u64, StoreError> {
        let found = rustix::fs::statvfs(&self.directory).map_err(FileError::of("statvfs", &self.directory))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let share = found.f_blocks.saturating_mul(found.f_frsize) / FLOOR_SHARE;
        let floor = self.limits.floor.unwrap_or_else(|| share.min(FLOOR_BYTES_MAX));
        if free < floor.saturating_add(need) { Err(NoRoom::Floor { need, free, floor }.into()) } else { Ok(free) }
    }

    /// For what somebody else writes and nobody promised the size of: to be asked while it is written.
    pub(crate) fn room_while_written(&self) -> RoomWhileWritten<'_> {
        RoomWhileWritten { store: self, free: self.check_floor(0).ok(), left: COUNT_BYTES_MIN }
    }

    /// A source that ends with an error as soon as what is made of it leaves no room: for streams whose size nobody promised.
    pub(crate) fn watched<R: Read>(&self, source: R) -> Watched<R> {
        Watched { store: self.clone(), source, unchecked: STEP_BYTES }
    }
}

/// See [`ImageStore::room_while_written`].
pub(crate) struct RoomWhileWritten<'a> {
    store: &'a ImageStore,
    /// Bytes that were free when the store was last counted, or at first.
    free: Option<u64>,
    /// Bytes that may be written from then on before it is counted again.
    left: u64,
}

impl RoomWhileWritten<'_> {
    /// Whether there is room. One system call, unless so much was written that the budget may be used up.
    pub(crate) fn check(&mut self) -> Result<(), StoreError> {
        let free = self.store.check_floor(0)?;
        let before = *self.free.get_or_insert(free);
        if let Some(budget) = self.store.limits.budget
            && before.saturating_sub(free) >= self.left
        {
            let used = self.store.usage()?.total();
            if used > budget {
                return Err(NoRoom::Budget { need: used - budget, used: budget, budget }.into());
            }
            (self.free, self.left) = (Some(free), (budget - used).max(COUNT_BYTES_MIN));
        }
        Ok(())
    }
}

/// See [`ImageStore::watched`].
pub(crate) struct Watched<R> {
    store: ImageStore,
    source: R,
    /// Bytes read since room was asked for.
    unchecked: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unchecked >= STEP_BYTES {
            self.unchecked = 0;
            self.store.check_floor(0).map_err(io::Error::other)?;
        }
        let count = self.source.read(buffer)?;
        self.unchecked += count as u64;
        Ok(count)
    }
}

/// The refusal within an error, however deep.
pub fn no_room(error: &(dyn std::error::Error + 'static)) -> Option<NoRoom> {
    let mut reasons = std::iter::successors(Some(error), |error| error.source());
    reasons.find_map(|reason| reason.downcast_ref().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layer::LayerError;

    #[test]
    fn a_refusal_is_found_within_what_it_caused() {
        let refusal = NoRoom::Budget { need: 5, used: 8, budget: 10 };
        assert_eq!(refusal.missing(), 3);
        let deep = LayerError::Read { after: String::new(), source: io::Error::other(StoreError::NoRoom(refusal)) };
        let deep = StoreError::Layer(deep);
        assert_eq!(no_room(&deep), Some(refusal));
        assert_eq!(no_room(&io::Error::other("else")), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_sizes() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open_at(directory.path()).unwrap();
        store.check_room(1 << 20).unwrap();
        let tight = store.clone().with_limits(Limits { budget: Some(1 << 20), floor: None });
        assert!(tight.check_room(1 << 10).is_ok());
        let text = no_room(&tight.check_room(20 << 20).unwrap_err()).unwrap().to_string();
        assert!(text.starts_with("no room: 20.0 MiB more, but the store takes") && text.ends_with("of its budget of 1.0 MiB"), "{text}");
        let high = store.with_limits(Limits { budget: None, floor: Some(u64::MAX) });
        assert!(no_room(&high.check_room(0).unwrap_err()).unwrap().to_string().contains("stay free"));
    }
}
