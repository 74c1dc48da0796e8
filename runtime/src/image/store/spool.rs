//! Blobs on their way in: each grows in a file of its own while it is unpacked, and outlives whoever fetches it.
//!
//! `partial/<hex>` holds the first bytes of a blob. Its writer holds its lock; the next one goes on where the last one ended, however
//! that ended. Nothing in it is trusted: a resumed blob is read and hashed from its first byte.

use super::layers::Expected;
use super::{ImageStore, LayerRecord, StoreError, no_room};
use crate::image::layer::LayerError;
use crate::image::layer::source::Source;
use crate::image::manifest::Descriptor;
use crate::store::{FileError, Lock, atomic};
use spec::value::Digest;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How long the beginning of a blob waits for somebody to fetch its rest: a registry that is away over a long weekend is back by then.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(4 * 24 * 3600);

/// A blob that is being fetched. Dropping it leaves what there is for the next one.
struct Spool<'a> {
    blob: &'a Descriptor,
    path: PathBuf,
    /// The file itself, locked.
    lock: Lock,
    /// Bytes that were there when it was opened.
    reached: u64,
}

/// The source failed, not what came from it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Interruption(io::Error);

/// Whether other bytes in the place of these may do better: not where the host refused, or has no room.
fn is_of_stream(error: &StoreError) -> bool {
    match error {
        StoreError::Layer(LayerError::Read { source, .. }) => source.raw_os_error().is_none() && no_room(source).is_none(),
        StoreError::Layer(error) => !matches!(error, LayerError::System { .. }),
        _ => false,
    }
}

/// Whether this is why a blob was not unpacked. Its thread may have been interrupted as well, after the reason or because of it.
fn is_interruption(error: &StoreError) -> bool {
    let StoreError::Layer(LayerError::Read { source, .. }) = error else { return false };
    source.get_ref().is_some_and(|source| source.is::<Interruption>())
}

impl ImageStore {
    /// Adds a layer by its compressed blob, which is kept, while `open` gives it: from the byte asked for to its end.
    ///
    /// Both digests are checked. If the source fails, what came stays and only the rest is asked for the next time; if what came is
    /// wrong, it is removed, and asked for once more from its first byte if some of it was there before. Waits while anybody else
    /// fetches the same blob.
    pub(crate) fn unpack_blob<'a, S: Into<Source<'a>>>(
        &self,
        blob: &Descriptor,
        diff_id: &Digest,
        open: impl Fn(u64) -> io::Result<S>,
    ) -> Result<LayerRecord, StoreError> {
        let _lease = self.lease()?;
        let expected = Expected { diff_id: Some(*diff_id), blob: Some(blob) };
        if let Some(record) = self.unpack_kept_blob(&expected, blob)? {
            return Ok(record);
        }
        let mut spool = self.spool(blob)?;
        // Whoever held the lock before us may have fetched it.
        if let Some(record) = self.unpack_kept_blob(&expected, blob)? {
            spool.discard()?;
            return Ok(record);
        }
        loop {
            let rest = open(spool.reached).map_err(|source| LayerError::Read { after: String::new(), source })?;
            let source = rest.into().through(|rest| Spooling { spool: &spool, position: 0, rest });
            match self.unpack_layer(source, &expected) {
                Ok(record) => {
                    self.keep_blob(&spool.path, &blob.digest)?;
                    return Ok(record);
                }
                Err(error) if is_interruption(&error) => return Err(error),
                Err(error) if spool.reached > 0 && is_of_stream(&error) => spool.restart()?,
                Err(error) => {
                    spool.discard()?;
                    return Err(error);
                }
            }
        }
    }

    /// Unpacks a blob that is in the store although its layer is not. One that is damaged is removed.
    fn unpack_kept_blob(&self, expected: &Expected<'_>, blob: &Descriptor) -> Result<Option<LayerRecord>, StoreError> {
        let Some(file) = self.open_blob(&blob.digest)? else { return Ok(None) };
        match self.unpack_layer(file, expected) {
            Ok(record) => Ok(Some(record)),
            Err(error) if is_of_stream(&error) => self.remove_blob(&blob.digest).map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// Beginnings of blobs that nobody came back for.
    pub(super) fn stale_partials(&self, now: SystemTime) -> Result<Vec<PathBuf>, StoreError> {
        // One from the future is as old as now.
        let is_old = |modified| now.duration_since(modified).is_ok_and(|age| age >= PARTIAL_AGE_MAX);
        self.partials(|found| found.len() == 0 || found.modified().is_ok_and(is_old))
    }

    /// The beginnings of blobs for which this is so.
    pub(super) fn partials(&self, which: impl Fn(&fs::Metadata) -> bool) -> Result<Vec<PathBuf>, StoreError> {
        let paths = self.digests("partial", "")?.into_iter().map(|digest| self.directory.join("partial").join(digest.hex()));
        // One that is whole by now has another place.
        Ok(paths.filter(|path| fs::metadata(path).is_ok_and(|found| which(&found))).collect())
    }

    fn spool<'a>(&self, blob: &'a Descriptor) -> Result<Spool<'a>, StoreError> {
        let path = self.directory.join("partial").join(blob.digest.hex());
        let lock = Lock::exclusive(&path)?;
        let reached = lock.file().metadata().map_err(FileError::of("stat", &path))?.len();
        let mut spool = Spool { blob, path, lock, reached };
        if spool.reached > blob.size {
            spool.restart()?;
        }
        Ok(spool)
    }
}

impl Spool<'_> {
    /// Forgets what is there.
    fn restart(&mut self) -> Result<(), StoreError> {
        self.lock.file().set_len(0).map_err(FileError::of("truncate", &self.path))?;
        self.reached = 0;
        Ok(())
    }

    fn discard(self) -> Result<(), StoreError> {
        Ok(atomic::remove_file(&self.path)?)
    }
}

/// A blob from its first byte: what the file has, then what comes, which is added to the file.
struct Spooling<'a, R> {
    spool: &'a Spool<'a>,
    position: u64,
    rest: R,
}

impl<R: Read> Read for Spooling<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.spool.lock.file();
        let end = if self.position < self.spool.reached { self.spool.reached } else { self.spool.blob.size };
        let wanted = buffer.len().min(usize::try_from(end - self.position).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..wanted];
        let count = if self.position < self.spool.reached {
            file.read_at(buffer, self.position)?
        } else {
            let count = self.rest.read(buffer).map_err(|error| io::Error::other(Interruption(error)))?;
            file.write_all_at(&buffer[..count], self.position)?;
            count
        };
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
