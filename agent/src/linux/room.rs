//! Room on disk for what is about to be written: what was refused for want of it is tried again once garbage has made some.

use super::needed::needed;
use crate::ledger::Ledger;
use crate::registry::remove_garbage;
use crate::settings::Settings;
use runtime::engine::{Engine, Room, UnusedImages};
use runtime::image::store::{self, NoRoom, StoreError, no_room};
use std::time::{Duration, Instant};

/// Gets the store for oneself.
type Alone<'a> = dyn Fn() -> Result<store::Alone, StoreError> + 'a;

/// How often room is made for one thing: the size of a layer is only known when it is unpacked, so that once may not be enough.
const ATTEMPTS_MAX: usize = 4;
/// Freed beyond what is missing where there is that much, for the same reason.
const SLACK_BYTES: u64 = 256 << 20;

/// Does something that adds to the store. If it is refused for want of room, what may go does, and it is done again.
///
/// `attempt` must hold no lease when it returns: removing waits until nobody adds to the store. If there is nothing (more) that may
/// go, its own refusal is the error.
pub fn with_room<T, E: std::error::Error + 'static>(
    engine: &Engine,
    progress: &(dyn Fn(&str) + Sync),
    attempt: &dyn Fn() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 0..ATTEMPTS_MAX {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(refusal) = no_room(&error) else { return Err(error) };
        match make_room(engine, &|| engine.images().alone_in_time(), refusal.missing(), UnusedImages::Remove) {
            Some(freed) => progress(&format!("{refusal}; removed what nothing needs: {}", crate::human::size(freed))),
            None => return Err(error),
        }
    }
    attempt()
}

/// How long a registry waits for pulls and builds to end: whoever pushes waits too, and clients give up after a minute.
const REGISTRY_WAIT_MAX: Duration = Duration::from_secs(15);

/// Makes room for what is pushed to the registry of this host, if what may go is enough, and if nobody adds to the store all the while.
/// Images that have a name stay: they are served, and whoever may push is not thereby the one who removes them.
pub fn make_room_for_push(engine: &Engine, refusal: NoRoom) {
    let until = Instant::now() + REGISTRY_WAIT_MAX;
    make_room(engine, &|| engine.images().alone_while(&|| Instant::now() < until), refusal.missing(), UnusedImages::Keep);
}

/// Bytes that were freed; `None` if what is missing is not to be had. `alone` waits until nobody adds to the store.
fn make_room(engine: &Engine, alone: &Alone<'_>, missing: u64, unused: UnusedImages) -> Option<u64> {
    let told = |error: &dyn std::error::Error| tracing::warn!(error = crate::host::chain(error), "no room could be made");
    // Before the store is ours: who changes names of the registry may wait for the store.
    let pushed = remove_garbage(&engine.places().registry()).inspect_err(|error| told(error)).ok()?;
    if pushed >= missing {
        return Some(pushed);
    }
    let missing = missing - pushed;
    let alone = alone().inspect_err(|error| told(error)).ok()?;
    let settings = Settings::read(&engine.places().config).ok()?;
    let ledger = Ledger::read(&engine.places().ledger()).ok()?;
    let needed = needed(engine, ledger.as_ref(), settings.generations).ok()?;
    for bytes in [missing.saturating_add(SLACK_BYTES), missing] {
        match engine.make_room(&alone, &needed, bytes, unused) {
            Ok(Room::Made(freed)) if freed.bytes > 0 => return Some(pushed + freed.bytes),
            Ok(Room::Made(_) | Room::Lacking { .. }) => {}
            Err(error) => {
                told(&error);
                return None;
            }
        }
    }
    None
}
