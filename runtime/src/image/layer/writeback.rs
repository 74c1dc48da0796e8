//! Lets the disk write what was unpacked while the rest still is, so that the sync that makes it last finds little to do.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// So much is worth a write of its own: each also commits the file system's journal.
const STEP_BYTES: u64 = 32 << 20;

/// The disk's share of an unpacking. Nothing depends on it: whoever needs the files to last syncs them.
pub(super) struct Writeback {
    /// Where, until the writer has it; without it all is written at the end.
    directory: Option<OwnedFd>,
    /// Bytes since the disk was last told to write.
    waiting_bytes: u64,
    writer: Option<Writer>,
}

struct Writer {
    /// Closed when there is nothing more to write.
    begin: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Writeback {
    /// For files below this directory.
    pub(super) fn new(directory: BorrowedFd<'_>) -> Self {
        Self { directory: directory.try_clone_to_owned().ok(), waiting_bytes: 0, writer: None }
    }

    /// A file of so many bytes was written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.waiting_bytes += bytes;
        if self.waiting_bytes < STEP_BYTES {
            return;
        }
        self.waiting_bytes = 0;
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
    fn the_disk_begins_when_there_is_enough_for_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(place.path()).unwrap();
        let mut writeback = Writeback::new(directory.as_fd());
        writeback.wrote(STEP_BYTES - 1);
        assert!(writeback.writer.is_none());
        writeback.wrote(1);
        assert!(writeback.writer.is_some() && writeback.waiting_bytes == 0);
    }
}
