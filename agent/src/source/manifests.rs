//! Which files of a site are manifests, and their text.
//!
//! A site also holds build contexts and configuration, and much of that is YAML. So a file is a manifest if one of its documents says
//! `apiVersion: agent/…`; other YAML is left alone and listed. Hidden directories are not looked into. What cannot be read is an
//! error, never an absence: an absent manifest removes its container.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes of one manifest. Written by hand, a large one has some ten thousand.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Manifests of a site.
pub const MANIFESTS_MAX: usize = 10_000;
/// Files of a site that are looked at, manifests or not.
const FILES_MAX: usize = 200_000;
/// Directories below each other.
const DEPTH_MAX: usize = 64;

/// The manifests of a site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifests {
    /// Path relative to the site's root, and text; sorted by path.
    pub files: Vec<(String, String)>,
    /// YAML files that are no manifests, and directories behind symlinks: sorted, for people.
    pub ignored: Vec<String>,
}

/// Why the manifests of a site cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Something that may hold a manifest cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file cannot be a manifest though it says it is one, or may be one.
    #[error("{} {problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Finds and reads the manifests below a site's root.
pub fn manifest_files(root: &Path) -> Result<Manifests, ManifestError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(root, flags, Mode::empty()).map_err(|errno| read_error(root, errno.into()))?;
    let mut scan = Scan { root, descriptor, looked_at: 0, found: Manifests::default() };
    scan.directory(Path::new(""), 0)?;
    scan.found.files.sort();
    scan.found.ignored.sort();
    Ok(scan.found)
}

/// Opens a file of a site for reading. Symlinks are followed as long as they stay inside; one that leaves gives
/// [`io::ErrorKind::CrossesDevices`], and pipes and devices are refused.
pub(super) fn open_inside(root: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(openat2(root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

struct Scan<'a> {
    root: &'a Path,
    descriptor: OwnedFd,
    looked_at: usize,
    found: Manifests,
}

impl Scan<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), ManifestError> {
        let here = self.root.join(path);
        if depth > DEPTH_MAX {
            return Err(self.refused(path, format!("lies more than {DEPTH_MAX} directories deep")));
        }
        for entry in fs::read_dir(&here).map_err(|error| read_error(&here, error))? {
            let entry = entry.map_err(|error| read_error(&here, error))?;
            self.looked_at += 1;
            if self.looked_at > FILES_MAX {
                return Err(self.refused(Path::new(""), format!("has more than {FILES_MAX} files")));
            }
            let name = entry.file_name();
            let inner = path.join(&name);
            let hidden = name.as_encoded_bytes().starts_with(b".");
            let kind = entry.file_type().map_err(|error| read_error(&self.root.join(&inner), error))?;
            if kind.is_dir() {
                if !hidden {
                    self.directory(&inner, depth + 1)?;
                }
            } else if !hidden && is_yaml(&inner) {
                self.file(&inner)?;
            } else if kind.is_symlink() && !hidden && fs::metadata(self.root.join(&inner)).is_ok_and(|target| target.is_dir()) {
                // Not followed: it may lead to itself, and what it leads to inside is found anyway.
                self.found.ignored.push(format!("{}: a symlink to a directory", inner.display()));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), ManifestError> {
        let mut bytes = Vec::new();
        let read = open_inside(self.descriptor.as_fd(), path).and_then(|file| file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return Err(self.refused(path, "is a symlink that leaves the site".into()));
            }
            Err(error) => return Err(read_error(&self.root.join(path), error)),
        }
        if !says_it_is_a_manifest(&bytes) {
            self.found.ignored.push(format!("{}: no document has apiVersion agent/…", path.display()));
            return Ok(());
        }
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(self.refused(path, format!("is larger than {MANIFEST_BYTES_MAX} bytes")));
        }
        if self.found.files.len() == MANIFESTS_MAX {
            return Err(self.refused(Path::new(""), format!("has more than {MANIFESTS_MAX} manifests")));
        }
        let text = String::from_utf8(bytes).map_err(|_| self.refused(path, "is not UTF-8".into()))?;
        let name = path.to_str().ok_or_else(|| self.refused(path, "has a name that is not UTF-8".into()))?;
        self.found.files.push((name.to_owned(), text));
        Ok(())
    }

    fn refused(&self, path: &Path, problem: String) -> ManifestError {
        ManifestError::Refused { path: self.root.join(path), problem }
    }
}

fn read_error(path: &Path, source: io::Error) -> ManifestError {
    ManifestError::Read { path: path.to_owned(), source }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Whether a line says `apiVersion: agent/…`, in block or flow style, quoted or not. In doubt it does, and the parser says what is
/// wrong with it: upper and lower case are the same here, comments are not counted.
fn says_it_is_a_manifest(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).lines().any(|line| {
        let line = line.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        !line.starts_with('#')
            && line.match_indices("apiversion").any(|(at, key)| {
                let value = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
                value.strip_prefix(':').is_some_and(|value| value.trim_start().trim_start_matches(['"', '\'']).starts_with("agent/"))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MANIFEST: &str = "apiVersion: agent/v1\nkind: Volume\n";

    fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
        let site = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = site.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        site
    }

    fn names(site: &tempfile::TempDir) -> Vec<String> {
        manifest_files(site.path()).unwrap().files.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn manifests_are_found_everywhere_but_in_hidden_directories_and_sorted() {
        let site = site(&[
            ("web.yaml", MANIFEST),
            ("a/b/c/db.yml", MANIFEST),
            (".git/x.yaml", MANIFEST),
            (".hidden.yaml", MANIFEST),
            ("readme.md", MANIFEST),
        ]);
        assert_eq!(names(&site), ["a/b/c/db.yml", "web.yaml"]);
    }

    #[test]
    fn other_yaml_is_left_alone_and_named() {
        let site = site(&[
            ("web.yaml", MANIFEST),
            ("app/compose.yaml", "services: {}\n"),
            ("app/deployment.yaml", "apiVersion: apps/v1\n# apiVersion: agent/v1\n"),
            ("app/broken.yaml", "{{ template }}"),
        ]);
        let found = manifest_files(site.path()).unwrap();
        assert_eq!(found.files.len(), 1);
        assert_eq!(found.ignored.len(), 3);
        assert_eq!(found.ignored[1], "app/compose.yaml: no document has apiVersion agent/…");
    }

    #[test]
    fn a_manifest_is_known_however_it_is_written() {
        for text in [
            "apiVersion: agent/v1",
            "\u{feff}apiVersion: agent/v1",
            "kind: X\n---\nkind: Y\napiVersion:   'agent/v1'",
            "{\"apiVersion\": \"agent/v1\", \"kind\": \"Volume\"}",
            "{kind: Volume, apiVersion: agent/v1}",
            "apiversion: agent/v2",
        ] {
            assert!(says_it_is_a_manifest(text.as_bytes()), "{text}");
        }
        for text in ["", "apiVersion: v1", "# apiVersion: agent/v1", "agent/v1"] {
            assert!(!says_it_is_a_manifest(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn symlinks_work_inside_and_are_refused_outside() {
        let site = site(&[("..data/web.yaml", MANIFEST), ("real/db.yaml", MANIFEST)]);
        symlink("..data/web.yaml", site.path().join("web.yaml")).unwrap();
        symlink("real", site.path().join("alias")).unwrap();
        let found = manifest_files(site.path()).unwrap();
        assert_eq!(found.files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["real/db.yaml", "web.yaml"]);
        assert_eq!(found.ignored, ["alias: a symlink to a directory"]);
        symlink("/etc/passwd", site.path().join("out.yaml")).unwrap();
        let error = manifest_files(site.path()).unwrap_err();
        assert!(error.to_string().ends_with("out.yaml is a symlink that leaves the site"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_an_absence() {
        let dangling = site(&[("web.yaml", MANIFEST)]);
        symlink("gone.yaml", dangling.path().join("db.yaml")).unwrap();
        assert!(matches!(manifest_files(dangling.path()), Err(ManifestError::Read { .. })));
        let pipe = site(&[]);
        rustix::fs::mknodat(rustix::fs::CWD, pipe.path().join("p.yaml"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(manifest_files(pipe.path()), Err(ManifestError::Read { .. })));
    }

    #[test]
    fn limits_hold_for_manifests_only() {
        let big = "#".repeat(MANIFEST_BYTES_MAX as usize + 1);
        let other = site(&[("data.yaml", &big)]);
        assert_eq!(manifest_files(other.path()).unwrap().ignored.len(), 1);
        let own = site(&[("web.yaml", &format!("{MANIFEST}{big}"))]);
        assert!(manifest_files(own.path()).unwrap_err().to_string().contains("larger than"));
    }
}
