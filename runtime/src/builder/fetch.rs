//! Work that waits for a network: on a thread of its own, so that whoever needs it is told at once when the build stops.

use super::error::StepError;
use super::schedule::Schedule;
use crate::image::registry::IsWanted;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

/// Does it, and gives its result unless the build stops first: then the thread is left to itself. `work` asks now and then whether it is
/// still wanted, and is bounded by what it waits for.
pub(super) fn fetch<T: Send + 'static>(
    schedule: &Schedule,
    work: impl FnOnce(&IsWanted<'_>) -> T + Send + 'static,
) -> Result<T, StepError> {
    let (sender, receiver) = channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let _running = {
        let (sender, stopped) = (sender.clone(), Arc::clone(&stopped));
        schedule.running(move || {
            stopped.store(true, Ordering::Release);
            let _ = sender.send(None);
        })
    };
    thread::spawn(move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(&|| !stopped.load(Ordering::Acquire))));
        // Nobody may wait any more.
        let _ = sender.send(Some(done));
    });
    match receiver.recv() {
        Ok(Some(Ok(done))) => Ok(done),
        Ok(Some(Err(panic))) => resume_unwind(panic),
        Ok(None) | Err(_) => Err(StepError::Stopped),
    }
}
