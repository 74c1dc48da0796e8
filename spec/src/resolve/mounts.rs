//! What is mounted into containers: volumes by name, files of the site, paths of the host, memory.

use super::{Resolver, path};
use crate::desired::{Kind, Location, ResourceId};
use crate::manifest::mounts::OctalMode;
use crate::manifest::{Container, MountEntry, MountKind, TextOrMap};
use crate::parse::{Document, Spot};
use crate::site::SiteFiles as _;
use crate::value::{BindSource, ByteSize, Mount, MountTarget, Name};
use std::collections::BTreeMap;

/// Permission bits of a tmpfs: everybody may write, nobody may remove another's files.
const TMPFS_MODE: u32 = 0o1777;

impl<'a> Resolver<'a> {
    /// Every mount, sorted by target, each target once.
    pub(super) fn mounts(&mut self, document: &'a Document, name: &Name, container: &Container) -> Vec<Mount> {
        let mut mounts: BTreeMap<MountTarget, (Mount, Spot<'a>)> = BTreeMap::new();
        let volumes = document.spec().key("volumes");
        for (entry, spot) in container.volumes.iter().flatten().zip(volumes.items()) {
            if let Some(mount) = self.mount(document, entry, spot) {
                self.add(&mut mounts, mount, spot);
            }
        }
        let spot = document.spec().key("tmpfs");
        for (entry, spot) in container.tmpfs.iter().flat_map(|tmpfs| &tmpfs.0).zip(spot.items()) {
            self.add(&mut mounts, tmpfs(&entry.target, entry.size, entry.mode), spot);
        }
        let resource = ResourceId { kind: Kind::Container, name: name.to_string() };
        for (target, (_, spot)) in &mounts {
            let location: Location = spot.location();
            for field in ["mounts", "volumes"] {
                self.desired.origins.insert(resource.clone(), format!("{field}.{target}"), location.clone());
            }
        }
        mounts.into_values().map(|(mount, _)| mount).collect()
    }

    fn add(&mut self, mounts: &mut BTreeMap<MountTarget, (Mount, Spot<'a>)>, mount: Mount, spot: Spot<'a>) {
        if let Some((_, first)) = mounts.get(mount.target()) {
            let problem = spot.error(format!("something is mounted at {} already", mount.target()));
            return self.report(problem.related(first.place(), "mounted here"));
        }
        mounts.insert(mount.target().clone(), (mount, spot));
    }

    fn mount(&mut self, document: &Document, entry: &TextOrMap<crate::manifest::ShortMount, MountEntry>, spot: Spot<'_>) -> Option<Mount> {
        let (kind, source, target, read_only, source_spot) = match entry {
            TextOrMap::Short(short) => (None, short.source.as_str(), &short.target, short.read_only, spot),
            // What kind of mount it was to be is not known: that has been said.
            TextOrMap::Long(_) if spot.lost("type") || spot.lost("source") => return None,
            TextOrMap::Long(long) => {
                self.check_tmpfs_fields(long, spot);
                let read_only = long.read_only.unwrap_or_default();
                match (long.kind, long.source.as_deref()) {
                    (Some(MountKind::Tmpfs), None) => return Some(tmpfs(&long.target, long.size, long.mode)),
                    (Some(MountKind::Tmpfs), Some(_)) => {
                        self.report(spot.key("source").key_error("a tmpfs has no source"));
                        return None;
                    }
                    (None | Some(MountKind::Volume | MountKind::Bind), None) => {
                        self.report(spot.error("field `source` is missing").help("name a volume or a path".to_owned()));
                        return None;
                    }
                    (kind, Some(source)) => (kind, source, &long.target, read_only, spot.key("source")),
                }
            }
        };
        let target = target.clone();
        match kind.unwrap_or_else(|| guess(source)) {
            MountKind::Volume => self.volume_name(source, source_spot).map(|name| Mount::Volume { name, target, read_only }),
            MountKind::Bind | MountKind::Tmpfs => {
                self.bind_source(document, source, read_only, source_spot).map(|source| Mount::Bind { source, target, read_only })
            }
        }
    }

    /// `size` and `mode` belong to a tmpfs, which is always writable.
    fn check_tmpfs_fields(&mut self, long: &MountEntry, spot: Spot<'_>) {
        let is_tmpfs = long.kind == Some(MountKind::Tmpfs);
        let fields = [("size", !is_tmpfs && long.size.is_some()), ("mode", !is_tmpfs && long.mode.is_some())];
        for (field, _) in fields.into_iter().filter(|(_, wrong)| *wrong) {
            self.report(spot.key(field).key_error(format!("`{field}` is for type tmpfs only")));
        }
        if is_tmpfs && long.read_only == Some(true) {
            self.report(spot.key("readOnly").error("a read-only tmpfs would be empty for ever"));
        }
    }

    fn volume_name(&mut self, source: &str, spot: Spot<'_>) -> Option<Name> {
        let name: Name = match source.parse() {
            Ok(name) => name,
            Err(problem) => {
                let path = source.contains('/').then(|| format!("for a path write ./{source}"));
                let bind = (guess(source) == MountKind::Bind).then(|| "a path is mounted with type: bind".to_owned());
                self.bad_value(spot, crate::value::ValueError { hint: bind.or(path).or(problem.hint), ..problem });
                return None;
            }
        };
        if self.index.contains(Kind::Volume, &name) {
            return Some(name);
        }
        let help = match self.index.nearest(Kind::Volume, source) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("add a Volume manifest called {name}, or write ./{name} for a path"),
        };
        self.report(spot.error(format!("volume {name} is not defined")).help(help));
        None
    }

    fn bind_source(&mut self, document: &Document, source: &str, read_only: bool, spot: Spot<'_>) -> Option<BindSource> {
        if source.starts_with('/') {
            let absolute = path::absolute(source).map_err(|problem| self.bad_value(spot, problem)).ok()?;
            return Some(BindSource::Host { path: absolute.into() });
        }
        let path = self.site_path(document, source, spot)?;
        if !read_only {
            let Some(root) = self.site.live_root() else {
                let problem =
                    spot.error(format!("{source:?} is part of a checkout, which is replaced as a whole: nothing can be written there"));
                let help = "add :ro (readOnly: true), or use a volume or an absolute path of the host";
                self.report(problem.help(help.to_owned()));
                return None;
            };
            return Some(BindSource::Host { path: if path == "." { root.to_owned() } else { root.join(path) } });
        }
        match self.site.content(&path) {
            Ok(content) => Some(BindSource::Site { path, content: content.digest }),
            Err(error) => {
                self.unusable_file(spot, &error);
                None
            }
        }
    }
}

/// A source that looks like a path is one; any other is a volume's name.
fn guess(source: &str) -> MountKind {
    if source.starts_with(['/', '.', '~']) { MountKind::Bind } else { MountKind::Volume }
}

fn tmpfs(target: &MountTarget, size: Option<ByteSize>, mode: Option<OctalMode>) -> Mount {
    Mount::Tmpfs { target: target.clone(), size, mode: mode.map_or(TMPFS_MODE, |mode| mode.0) }
}
