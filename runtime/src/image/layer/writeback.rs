//! Lets the disk write what was unpacked while the rest still is, so that the sync that makes it last finds little to do.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// So much is worth a write of its own: each also commits the file system's journal.
const STEP_BYTES: u64 = 32 << 20;

/// Bytes since the disk was last told to write: of all layers that are unpacked at once, for they are written at once.
#[derive(Debug, Default)]
pub(crate) struct Unwritten(AtomicU64);

impl Unwritten {
    /// Whether it is time to write, now that there are so many more.
    fn is_enough(&self, bytes: u64) -> bool {
        let enough = self.0.fetch_add(bytes, Ordering::Relaxed) + bytes >= STEP_BYTES;
        if enough {
            self.0.store(0, Ordering::Relaxed);
        }
        enough
    }
}

/// The disk's share of an unpacking. Nothing depends on it: whoever needs the files to last syncs them.
pub(super) struct Writeback<'a> {
    unwritten: &'a Unwritten,
    /// Where, until the writer has it; without it all is written at the end.
    directory: Option<OwnedFd>,
    writer: Option<Writer>,
}

struct Writer {
    /// Closed when there is nothing more to write.
    begin: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl<'a> Writeback<'a> {
    /// For files below this directory.
    pub(super) fn new(directory: BorrowedFd<'_>, unwritten: &'a Unwritten) -> Self {
        Self { unwritten, directory: directory.try_clone_to_owned().ok(), writer: None }
    }

    /// A file of so many bytes was written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        if !self.unwritten.is_enough(bytes) {
            return;
        }
        if let Some(directory) = self.directory.take() {
            self.writer = Some(Writer::start(directory));
        }
        if let Some(Writer { begin: Some(begin), .. }) = &self.writer {
            // While it is still at the last write, this one is part of the next.
            let _ = begin.try_send(());
        }
    }
}

impl Writer {
    fn start(directory: OwnedFd) -> Self {
        let (begin, told) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            while told.recv() == Ok(()) {
                // What fails here fails again in the sync that counts.
                let _ = rustix::fs::syncfs(directory.as_fd());
            }
        });
        Self { begin: Some(begin), thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.begin = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed, and changes nothing.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_begins_when_there_is_enough_for_it_in_all_layers() {
        let place = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(place.path()).unwrap();
        let unwritten = Unwritten::default();
        let (mut first, mut second) = (Writeback::new(directory.as_fd(), &unwritten), Writeback::new(directory.as_fd(), &unwritten));
        first.wrote(STEP_BYTES - 1);
        assert!(first.writer.is_none());
        second.wrote(1);
        assert!(second.writer.is_some());
        first.wrote(STEP_BYTES - 1);
        assert!(first.writer.is_none());
    }
}
