//! A layer's tar stream becomes a directory in overlay format.
//!
//! Entries are applied in order, the last of equal names wins; whiteouts are applied at the end, so that they hide lower layers and
//! never a sibling, whatever the order in the stream (OCI image specification, "Layer", "Whiteouts").

use super::header::{Attribute, Entry, EntryKind, TarReader};
use super::name::{Target, classify, clean};
use super::root::{Metadata, Root};
use super::stream::{Ahead, Compressed, inflate_ahead};
use super::{ENTRIES_MAX, LayerError, OPAQUE_ATTRIBUTE, is_portable_attribute};
use rustix::fs::FileType;
use spec::value::Digest;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

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
    let (applied, compressed) = inflate_ahead(source, |ahead| {
        let mut unpacking =
            Unpacking { root: Root::new(root), size_bytes: 0, entries: 0, whiteouts: BTreeSet::new(), opaque: BTreeSet::new() };
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

struct Unpacking {
    root: Root,
    size_bytes: u64,
    entries: u64,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
}

impl Unpacking {
    /// Applies every entry; returns the digest of the stream.
    fn apply_all(&mut self, mut tar: TarReader<Ahead>) -> Result<Digest, LayerError> {
        while let Some(entry) = tar.next()? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(LayerError::Limit(format!("more than {ENTRIES_MAX} entries")));
            }
            match classify(&entry.name)? {
                Target::Path(path) => self.apply(&path, entry, &mut tar)?,
                Target::Whiteout(path) => drop(self.whiteouts.insert(path)),
                Target::Opaque(path) => drop(self.opaque.insert(path)),
                Target::Ignored => {}
            }
        }
        Ok(tar.drain()?.digest())
    }

    fn apply(&mut self, path: &[u8], entry: Entry, tar: &mut TarReader<Ahead>) -> Result<(), LayerError> {
        let attributes = portable(&entry)?;
        let metadata = Metadata { uid: entry.uid, gid: entry.gid, mode: entry.mode, modified: entry.modified, attributes: &attributes };
        match entry.kind {
            EntryKind::File { size } => {
                self.size_bytes += size;
                self.root.create_file(path, &metadata, |file| {
                    loop {
                        let data = tar.data()?;
                        if data.is_empty() {
                            return Ok(());
                        }
                        file.write_all(data).map_err(LayerError::system("write", path))?;
                        let count = data.len();
                        tar.consume(count);
                    }
                })
            }
            EntryKind::Directory => self.root.ensure_directory(path, &metadata),
            EntryKind::Symlink { target } => self.root.create_symlink(path, &target, &metadata),
            EntryKind::HardLink { target } => self.root.create_hard_link(path, &clean(&target)?),
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

/// The attributes that are kept. One that would steer overlayfs is refused: only a forger writes it into a layer.
fn portable(entry: &Entry) -> Result<Vec<Attribute>, LayerError> {
    let overlay = OPAQUE_ATTRIBUTE.trim_end_matches("opaque").as_bytes();
    if entry.attributes.iter().any(|(name, _)| name.starts_with(overlay)) {
        return Err(LayerError::refused(&entry.name, "it has attributes that belong to overlayfs"));
    }
    Ok(entry.attributes.iter().filter(|(name, _)| is_portable_attribute(name)).cloned().collect())
}
