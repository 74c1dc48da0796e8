//! What an archive holds: its files by name, readable in any order; a root file system or an image, by what is at its top.

use super::ImportError;
use crate::image::layer::LayerError;
use crate::image::layer::header::{EntryKind, TarReader};
use crate::image::layer::name;
use crate::image::layer::stream::{Bounded, Compression, copy_decompressed};
use crate::image::store::ImageStore;
use crate::store::FileError;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Most files an image archive may have: each layer is one or three, and an image has at most 500.
const FILES_MAX: usize = 20_000;
/// Links in a row from one layer's file to another's in old `docker save` archives.
const LINKS_MAX: usize = 4;

/// What an archive is.
pub(super) enum Kind {
    /// An image with its layers.
    Image(Contents),
    /// A tree of files; the archive from its beginning.
    RootFileSystem(File),
}

/// The files of an image archive.
pub(super) enum Contents {
    /// A directory. It may come from a site's repository: nothing in it is reached through a symbolic link.
    Directory { path: PathBuf, directory: OwnedFd },
    /// An uncompressed tar file.
    Tar { path: PathBuf, files: BTreeMap<Vec<u8>, Place> },
}

/// How images are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An OCI layout.
    Layout,
    /// What `docker save` writes.
    Saved,
    /// What skopeo's `dir:` and `podman save --format docker-dir` write.
    Transport,
}

/// Which names tell an image archive from a tree of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Those that tools give: it may be either.
    Usual,
    /// Any: it is said to be one.
    Any,
}

/// Where a file is within a tar.
pub(super) enum Place {
    Data { offset: u64, size: u64 },
    Link { target: Vec<u8> },
}

impl Contents {
    pub(super) fn directory(path: &Path) -> Result<Self, ImportError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(FileError::of("open", path))?;
        let contents = Self::Directory { path: path.to_owned(), directory };
        if contents.has("oci-layout") || contents.form() == Form::Transport {
            return Ok(contents);
        }
        let problem =
            "it is a directory without a file named oci-layout: give an OCI layout, or pack a root file system with tar".to_owned();
        Err(ImportError::Image { path: path.to_owned(), problem })
    }

    /// How its images are laid out. Where it is a layout and saved, as new docker versions write, the layout says all digests.
    pub(super) fn form(&self) -> Form {
        match self {
            _ if self.has("oci-layout") && self.has("index.json") => Form::Layout,
            Self::Directory { .. } if self.has("version") && self.has("manifest.json") => Form::Transport,
            Self::Directory { .. } | Self::Tar { .. } => Form::Saved,
        }
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory { .. } => self.open(name).is_ok_and(|file| file.is_some()),
            Self::Tar { files, .. } => files.contains_key(name.as_bytes()),
        }
    }

    /// Opens a file by its name; `None` if there is none.
    pub(super) fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, FileError> {
        let clean = match name::clean(name.as_bytes()) {
            Ok(clean) if !clean.is_empty() => clean,
            Ok(_) | Err(_) => return Ok(None), // a name that leads elsewhere names nothing here
        };
        match self {
            Self::Directory { path, directory } => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                match rustix::fs::openat2(directory, &clean[..], flags, Mode::empty(), within) {
                    Ok(file) => Ok(Some(Box::new(File::from(file)))),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                    Err(error) => Err(FileError::of("open", &path.join(name))(error)),
                }
            }
            Self::Tar { path, files } => {
                let mut name = clean;
                for _ in 0..LINKS_MAX {
                    match files.get(&name) {
                        None => return Ok(None),
                        Some(Place::Link { target }) => name = target.clone(),
                        Some(Place::Data { offset, size }) => {
                            let mut file = File::open(path).map_err(FileError::of("open", path))?;
                            file.seek(SeekFrom::Start(*offset)).map_err(FileError::of("seek in", path))?;
                            return Ok(Some(Box::new(file.take(*size))));
                        }
                    }
                }
                Ok(None)
            }
        }
    }

    /// Reads a small file whole; `None` if there is none.
    pub(super) fn read(&self, archive: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ImportError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(FileError::of("read", archive))?;
        if bytes.len() as u64 > limit {
            let problem = format!("{name} is larger than {limit} bytes");
            return Err(ImportError::Image { path: archive.to_owned(), problem });
        }
        Ok(Some(bytes))
    }
}

/// Tells what a file is, by its content. A compressed image archive is unpacked into `scratch`, because its parts are needed out of
/// order; so is whatever is compressed as no layer may be.
pub(super) fn recognise(store: &ImageStore, path: &Path, mut file: File, scratch: &Path, names: Names) -> Result<Kind, ImportError> {
    let wrong = |source| ImportError::Archive { path: path.to_owned(), source: Box::new(source) };
    let format = |error: io::Error| wrong(LayerError::Format(error.to_string()));
    let again = |mut file: &File| file.rewind().map_err(FileError::of("seek in", path));
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(8).read_to_end(&mut start).map_err(FileError::of("read", path))?;
    if start.is_empty() {
        return Err(wrong(LayerError::Format("the file is empty".to_owned())));
    }
    again(&file)?;
    let mut plain = None;
    if Compression::detect(&start).is_err() {
        plain = Some(unpack(store, path, &file, scratch)?);
    }
    let files = {
        let file = plain.as_ref().map_or(&file, |(_, file)| file);
        let files = list(Bounded::new(BufReader::new(file)).map_err(format)?, names).map_err(wrong)?;
        again(file)?;
        files
    };
    let is_image = |files: &BTreeMap<Vec<u8>, Place>| [&b"manifest.json"[..], b"index.json"].iter().any(|name| files.contains_key(*name));
    let Some(mut files) = files.filter(is_image) else {
        return Ok(Kind::RootFileSystem(plain.map_or(file, |(_, file)| file)));
    };
    let path = match (plain, Compression::detect(&start)) {
        (Some((plain, _)), _) => plain,
        (None, Ok(Compression::None)) => path.to_owned(),
        (None, _) => unpack(store, path, &file, scratch)?.0,
    };
    files.retain(|_, place| !matches!(place, Place::Link { target } if target.is_empty()));
    Ok(Kind::Image(Contents::Tar { path, files }))
}

/// Unpacks a compressed archive, as long as there is room.
fn unpack(store: &ImageStore, path: &Path, file: &File, scratch: &Path) -> Result<(PathBuf, File), ImportError> {
    let plain = scratch.join("plain.tar");
    let mut sink =
        File::options().read(true).write(true).create(true).truncate(true).open(&plain).map_err(FileError::of("create", &plain))?;
    let source = file.try_clone().map_err(FileError::of("read", path))?;
    copy_decompressed(store.watched(source), &mut sink).map_err(FileError::of("unpack", path))?;
    sink.rewind().map_err(FileError::of("seek in", &plain))?;
    Ok((plain, sink))
}

/// The files of a tar that may be an image archive; `None` as soon as something shows that it is not one.
fn list(source: impl Read, names: Names) -> Result<Option<BTreeMap<Vec<u8>, Place>>, LayerError> {
    let mut tar = TarReader::new(BufReader::with_capacity(256 << 10, source));
    let mut files = BTreeMap::new();
    while let Some(entry) = tar.next()? {
        let name = name::clean(&entry.name)?;
        if files.len() >= FILES_MAX || (names == Names::Usual && !is_archive_name(&name)) {
            return Ok(None);
        }
        match entry.kind {
            EntryKind::File { .. } if tar.is_sparse() => return Ok(None), // its bytes are not in one piece
            EntryKind::File { size } => drop(files.insert(name, Place::Data { offset: tar.position(), size })),
            EntryKind::Directory => {}
            EntryKind::Symlink { target } => {
                let beside = [name::split(&name).0, &b"/"[..], &target].concat();
                let target = name::clean(&beside).unwrap_or_default();
                files.insert(name, Place::Link { target });
            }
            EntryKind::HardLink { target } => {
                let target = name::clean(&target)?;
                files.insert(name, Place::Link { target });
            }
            EntryKind::CharacterDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => return Ok(None),
        }
    }
    Ok(Some(files))
}

/// Names that `docker save`, `podman save`, `skopeo` and BuildKit put at the top of an image archive, and what those tools do that name
/// the parts freely (crane, ko and kaniko `sha256:<hex>` and `<hex>.tar.gz`, Bazel and Nix `config.json` and `layer.tar`).
fn is_archive_name(name: &[u8]) -> bool {
    let mut parts = name.split(|byte| *byte == b'/');
    let (first, is_file) = (parts.next().unwrap_or_default(), parts.next().is_none());
    let hex = |text: &[u8]| text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit);
    let known: [&[u8]; 5] = [b"", b"blobs", b"oci-layout", b"index.json", b"repositories"];
    let endings: [&[u8]; 4] = [b".json", b".tar", b".tar.gz", b".tgz"];
    let is_part = first.strip_prefix(b"sha256:").is_some_and(hex) || endings.iter().any(|ending| first.ends_with(ending));
    known.contains(&first) || hex(first) || (is_file && is_part)
}
