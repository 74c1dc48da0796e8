//! What the tests of this room share.

use spec::value::Digest;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whether a test that needs root can run; says so loudly if not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: this test needs root: devices, owners and trusted attributes");
    }
    root
}

/// A root file system of these files.
pub(crate) fn rootfs_tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI layout of one image.
pub(crate) fn write_oci_layout(directory: &Path, blobs: &[&[u8]], manifest: &[u8]) {
    let place = directory.join("blobs/sha256");
    fs::create_dir_all(&place).unwrap();
    for blob in blobs.iter().chain([&manifest]) {
        fs::write(place.join(Digest::of(blob).hex()), blob).unwrap();
    }
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let (kind, digest, size) = (crate::image::manifest::media_type::OCI_MANIFEST, Digest::of(manifest), manifest.len());
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}]}}"#);
    fs::write(directory.join("index.json"), index).unwrap();
}

/// A tree as text, one line a file: name, type, mode, owner, time, content, attributes. The root itself is left out.
/// Times of whiteouts mean nothing and are not shown.
pub(crate) fn describe_tree(root: &Path) -> String {
    let mut text = String::new();
    let mut links = BTreeMap::new();
    describe_directory(root, root, &mut links, &mut text);
    text
}

fn describe_directory(root: &Path, directory: &Path, links: &mut BTreeMap<u64, PathBuf>, text: &mut String) {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    for path in paths {
        let found = fs::symlink_metadata(&path).unwrap();
        let kind = found.file_type();
        let shown = path.strip_prefix(root).unwrap().to_path_buf();
        if kind.is_char_device() && found.rdev() == 0 {
            writeln!(text, "{} whiteout", shown.display()).unwrap();
            continue;
        }
        let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
        let word = if kind.is_dir() {
            "directory"
        } else if kind.is_symlink() {
            "link"
        } else if kind.is_char_device() {
            "character"
        } else if kind.is_block_device() {
            "block"
        } else if kind.is_fifo() {
            "fifo"
        } else {
            "file"
        };
        write!(text, "{} {word} {mode:o} {uid}:{gid} {}.{:09} ", shown.display(), found.mtime(), found.mtime_nsec()).unwrap();
        if kind.is_symlink() {
            write!(text, "-> {:?} ", fs::read_link(&path).unwrap()).unwrap();
        } else if kind.is_char_device() || kind.is_block_device() {
            write!(text, "{} ", found.rdev()).unwrap();
        } else if kind.is_file() {
            write!(text, "{} ", Digest::of(&fs::read(&path).unwrap()).short()).unwrap();
        }
        if !kind.is_dir() && found.nlink() > 1 {
            write!(text, "same as {} ", links.entry(found.ino()).or_insert(shown).display()).unwrap();
        }
        if kind.is_dir() || kind.is_file() {
            describe_attributes(&path, text);
        }
        text.push('\n');
        if kind.is_dir() {
            describe_directory(root, &path, links, text);
        }
    }
}

fn describe_attributes(path: &Path, text: &mut String) {
    let mut buffer = vec![0; 4096];
    let size = rustix::fs::listxattr(path, &mut buffer[..]).unwrap();
    let mut names: Vec<_> = buffer[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort();
    // What overlayfs notes in an upper directory for itself says nothing of the tree.
    let is_note = |name: &[u8]| ["origin", "impure", "nlink", "uuid"].iter().any(|key| name == format!("trusted.overlay.{key}").as_bytes());
    for name in names.into_iter().filter(|name| !is_note(name)) {
        let mut value = vec![0; 4096];
        let size = rustix::fs::getxattr(path, &name[..], &mut value[..]).unwrap();
        write!(text, "{}={:?} ", String::from_utf8_lossy(&name), String::from_utf8_lossy(&value[..size])).unwrap();
    }
}
