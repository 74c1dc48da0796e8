//! A layer's tar stream becomes a directory in overlay format.
//!
//! Entries are applied in order, the last of equal names wins; whiteouts are applied at the end, so that they hide lower layers and
//! never a sibling, whatever the order in the stream (OCI image specification, "Layer", "Whiteouts").

use super::ahead::{Ahead, inflate_ahead};
use super::header::{Attribute, Content, Entry, EntryKind, TarReader};
use super::name::{Target, classify, clean};
use super::root::{Metadata, Root};
use super::source::Source;
use super::stream::Compressed;
use super::writeback::{Unwritten, Writeback};
use super::{ENTRIES_MAX, KEPT_NAME_BYTES_MAX, LayerError, OPAQUE_ATTRIBUTE, is_portable_attribute};
use rustix::fs::FileType;
use spec::value::Digest;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd as _, OwnedFd};

/// What a stream turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed stream.
    pub diff_id: Digest,
    /// The stream as it came.
    pub compressed: Compressed,
    /// Bytes of all files.
    pub size_bytes: u64,
    /// Entries, whiteouts included.
    pub entries: u64,
}

/// Unpacks a tar stream (plain, gzip or zstd, by content) into an empty directory.
///
/// Nothing outside `root` is touched, whatever the stream says. After an error the directory holds a part of the layer, for the caller
/// to remove. The caller compares the digests with what it expects before it uses the directory.
pub fn unpack(source: impl Read + Send, root: OwnedFd) -> Result<Unpacked, LayerError> {
    unpack_beside(source, root, &Unwritten::default())
}

/// As [`unpack`], while others unpack what is to be written to the same disk.
pub(crate) fn unpack_beside<'a>(source: impl Into<Source<'a>>, root: OwnedFd, unwritten: &Unwritten) -> Result<Unpacked, LayerError> {
    let writeback = Writeback::new(root.as_fd(), unwritten);
    let (applied, compressed) = inflate_ahead(source, |ahead| {
        let mut unpacking = Unpacking {
            writeback,
            root: Root::new(root),
            size_bytes: 0,
            entries: 0,
            kept_name_bytes: 0,
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
        };
        let diff_id = unpacking.apply_all(TarReader::new(ahead))?;
        unpacking.finish()?;
        Ok((diff_id, unpacking.size_bytes, unpacking.entries))
    });
    let (diff_id, size_bytes, entries) = applied?;
    // The end of the stream was reached and yet its reader failed: what follows the compressed data is broken.
    let compressed =
        compressed.ok_or_else(|| LayerError::Format("the compressed stream does not end where its content does".to_owned()))?;
    Ok(Unpacked { diff_id, compressed, size_bytes, entries })
}

struct Unpacking<'a> {
    root: Root,
    writeback: Writeback<'a>,
    size_bytes: u64,
    entries: u64,
    /// Bytes of names that are kept until the end: of what is whited out, opaque, or to be given its time.
    kept_name_bytes: u64,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
}

impl Unpacking<'_> {
    /// Applies every entry; returns the digest of the stream.
    fn apply_all(&mut self, mut tar: TarReader<Ahead>) -> Result<Digest, LayerError> {
        while let Some(entry) = tar.next()? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(LayerError::Limit(format!("more than {ENTRIES_MAX} entries")));
            }
            let target = classify(&entry.name)?;
            if entry.kind == EntryKind::Directory || !matches!(target, Target::Path(_)) {
                self.count_kept_name(&entry.name)?;
            }
            match target {
                Target::Path(path) => self.apply(&path, entry, &mut tar)?,
                Target::Whiteout(path) => drop(self.whiteouts.insert(path)),
                Target::Opaque(path) => drop(self.opaque.insert(path)),
                Target::Ignored => {}
            }
        }
        Ok(tar.drain()?.digest().0)
    }

    fn count_kept_name(&mut self, name: &[u8]) -> Result<(), LayerError> {
        self.kept_name_bytes += name.len() as u64;
        if self.kept_name_bytes <= KEPT_NAME_BYTES_MAX {
            return Ok(());
        }
        Err(LayerError::Limit(format!("the names of its directories and whiteouts are over {KEPT_NAME_BYTES_MAX} bytes")))
    }

    fn apply(&mut self, path: &[u8], entry: Entry, tar: &mut TarReader<Ahead>) -> Result<(), LayerError> {
        let attributes = portable(&entry)?;
        let metadata = Metadata { uid: entry.uid, gid: entry.gid, mode: entry.mode, modified: entry.modified, attributes: &attributes };
        match entry.kind {
            EntryKind::File { size } => {
                self.size_bytes += size;
                self.root.create_file(path, &metadata, |file| fill(file, tar, path, size))?;
                self.writeback.wrote(size);
                Ok(())
            }
            EntryKind::Directory => self.root.ensure_directory(path, &metadata),
            EntryKind::Symlink { target } => self.root.create_symlink(path, &target, &metadata),
            EntryKind::HardLink { target } => self.root.create_hard_link(path, &clean(&target)?, &metadata),
            EntryKind::CharacterDevice { major: 0, minor: 0 } => {
                Err(LayerError::refused(&entry.name, "the device 0:0 would delete a name of lower layers"))
            }
            EntryKind::CharacterDevice { major, minor } => {
                self.root.create_node(path, FileType::CharacterDevice, rustix::fs::makedev(major, minor), &metadata)
            }
            EntryKind::BlockDevice { major, minor } => {
                self.root.create_node(path, FileType::BlockDevice, rustix::fs::makedev(major, minor), &metadata)
            }
            EntryKind::Fifo => self.root.create_node(path, FileType::Fifo, 0, &metadata),
        }
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        for path in std::mem::take(&mut self.opaque) {
            self.root.make_opaque(&path)?;
        }
        for path in std::mem::take(&mut self.whiteouts) {
            self.root.whiteout(&path)?;
        }
        self.root.settle_directory_times()
    }
}

/// Writes a file's content. Holes stay holes.
fn fill(file: &mut File, tar: &mut TarReader<Ahead>, path: &[u8], size: u64) -> Result<(), LayerError> {
    let write = LayerError::system::<std::io::Error>;
    let is_sparse = tar.is_sparse();
    loop {
        let count = match tar.content()? {
            Content::Bytes(bytes) => {
                file.write_all(bytes).map_err(write("write", path))?;
                bytes.len()
            }
            Content::Hole(bytes) => {
                let distance = i64::try_from(bytes).map_err(|_| LayerError::refused(path, "a hole larger than any file"))?;
                file.seek(SeekFrom::Current(distance)).map_err(write("write", path))?;
                continue;
            }
            // What ends with a hole has its size by nothing that was written.
            Content::End if is_sparse => return file.set_len(size).map_err(write("set the size of", path)),
            Content::End => return Ok(()),
        };
        tar.consume(count);
    }
}

/// The attributes that are kept. One that would steer overlayfs is refused: only a forger writes it into a layer.
fn portable(entry: &Entry) -> Result<Vec<Attribute>, LayerError> {
    let overlay = OPAQUE_ATTRIBUTE.trim_end_matches("opaque").as_bytes();
    if entry.attributes.iter().any(|(name, _)| name.starts_with(overlay)) {
        return Err(LayerError::refused(&entry.name, "it has attributes that belong to overlayfs"));
    }
    Ok(entry.attributes.iter().filter(|(name, _)| is_portable_attribute(name)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::tar_of_empty_directories;
    use super::*;

    #[test]
    fn what_memory_and_inodes_are_asked_for_has_an_end() {
        for (entries, kept_name_bytes, expected) in
            [(ENTRIES_MAX - 1, 0, "more than 4000000 entries"), (0, KEPT_NAME_BYTES_MAX - 1, "names of its directories and whiteouts")]
        {
            let place = tempfile::tempdir().unwrap();
            let directory = File::open(place.path()).unwrap();
            let unwritten = Unwritten::default();
            let writeback = Writeback::new(directory.as_fd(), &unwritten);
            let (root, whiteouts, opaque) = (Root::new(directory.into()), BTreeSet::new(), BTreeSet::new());
            let mut unpacking = Unpacking { root, writeback, size_bytes: 0, entries, kept_name_bytes, whiteouts, opaque };
            let stream = tar_of_empty_directories(&["a", "b"]);
            let refused = inflate_ahead(&stream[..], |ahead| unpacking.apply_all(TarReader::new(ahead))).0.unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }
}
