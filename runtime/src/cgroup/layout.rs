//! Which hierarchies the host has: v2 alone, v1 alone, or v1 controllers with a unified tree beside them (hybrid).

use super::{CgroupError, create_directory, devices, read, write};
use std::io;
use std::path::{Path, PathBuf};

/// v1 hierarchies that a container joins: those with one of these, and systemd's, so that a stop of our own service leaves
/// containers alone. The others (cpuset, blkio, perf_event, …) limit nothing here and would each cost a directory a start.
const V1_CONTROLLERS: [&str; 6] = ["memory", "cpu", "cpuacct", "pids", "devices", "freezer"];
/// The hierarchy without a controller in which systemd keeps its services.
const SYSTEMD: &str = "systemd";
/// Kinds of file system, statfs(2).
const CGROUP_SUPER_MAGIC: rustix::fs::FsWord = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;
/// v2 controllers that are handed down to the containers' groups where they exist.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "io", "memory", "pids", "cpuset"];
/// Where a host mounts its hierarchies.
const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// The cgroup hierarchies of a host that containers take part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its mount point.
    pub(super) mount: PathBuf,
    /// What it has.
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A v1 hierarchy with these controllers, or systemd's.
    Legacy(Vec<String>),
    /// The v2 tree with these controllers; none of them on a hybrid host.
    Unified(Vec<String>),
}

/// What kind of hierarchy is mounted somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileSystem {
    Legacy,
    Unified,
}

impl Layout {
    /// Reads this host's: where systemd, Docker and others mount them, each in a directory named after its controllers. Not from the
    /// mount table, in which every container has its lines.
    pub fn detect() -> Result<Self, CgroupError> {
        Self::below(Path::new(MOUNT_POINT), |path| {
            let found = rustix::fs::statfs(path)?;
            Ok(match found.f_type {
                CGROUP_SUPER_MAGIC => Some(FileSystem::Legacy),
                CGROUP2_SUPER_MAGIC => Some(FileSystem::Unified),
                _ => None,
            })
        })
    }

    /// From the directory that holds them all, or is the only one, and what is mounted at a path.
    fn below(top: &Path, mounted: impl Fn(&Path) -> io::Result<Option<FileSystem>>) -> Result<Self, CgroupError> {
        let kind = |mount: &Path, name: &str| {
            let found = match mounted(mount) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                found => found.map_err(|source| CgroupError::Read { path: mount.to_owned(), source })?,
            };
            Ok(match found {
                Some(FileSystem::Unified) => {
                    let controllers = read(&mount.join("cgroup.controllers")).unwrap_or_default();
                    Some(Kind::Unified(controllers.split_whitespace().map(str::to_owned).collect()))
                }
                Some(FileSystem::Legacy) => {
                    let wanted = |controller: &&str| V1_CONTROLLERS.contains(controller) || *controller == SYSTEMD;
                    let controllers: Vec<_> = name.split(',').filter(wanted).map(str::to_owned).collect();
                    (!controllers.is_empty()).then_some(Kind::Legacy(controllers))
                }
                None => None,
            })
        };
        let mut hierarchies = Vec::new();
        if let Some(kind) = kind(top, "")? {
            hierarchies.push(Hierarchy { mount: top.to_owned(), kind });
        } else {
            for entry in std::fs::read_dir(top).map_err(|_| CgroupError::NotMounted)?.flatten() {
                // A symbolic link is another name of a hierarchy with several controllers.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let mount = entry.path();
                    let kind = kind(&mount, &entry.file_name().to_string_lossy())?;
                    hierarchies.extend(kind.map(|kind| Hierarchy { mount, kind }));
                }
            }
        }
        hierarchies.sort_unstable_by(|one, other| one.mount.cmp(&other.mount));
        if hierarchies.is_empty() { Err(CgroupError::NotMounted) } else { Ok(Self { hierarchies }) }
    }

    /// Whether every controller sits on the v2 tree.
    pub fn is_unified(&self) -> bool {
        self.hierarchies.iter().all(Hierarchy::is_unified)
    }

    pub(super) fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies.iter()
    }

    pub(super) fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| match &hierarchy.kind {
            Kind::Legacy(controllers) | Kind::Unified(controllers) => controllers.iter().any(|known| known == controller),
        })
    }

    /// The v2 tree, with or without controllers.
    pub(super) fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.is_unified())
    }

    /// The directory below `/sys/fs/cgroup` where programs look for it; empty for v2 alone, which is mounted there itself.
    pub(super) fn name_of(&self, hierarchy: &Hierarchy) -> String {
        hierarchy.mount.strip_prefix(MOUNT_POINT).unwrap_or(&hierarchy.mount).to_string_lossy().into_owned()
    }

    /// Makes the parent of all containers exist in every hierarchy, with controllers handed down and devices restricted.
    pub(super) fn ensure_instance(&self, instance: &Path) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.mount.join(instance);
            create_directory(&directory)?;
            match &hierarchy.kind {
                Kind::Unified(controllers) => {
                    hand_down(&hierarchy.mount, controllers)?;
                    hand_down(&directory, controllers)?;
                    // A hybrid host has the v1 controller for it.
                    if self.with_controller("devices").is_none() {
                        devices::restrict_unified(&directory)?;
                    }
                }
                Kind::Legacy(controllers) if controllers.iter().any(|name| name == "devices") => devices::restrict_legacy(&directory)?,
                Kind::Legacy(_) => {}
            }
        }
        Ok(())
    }
}

impl Hierarchy {
    pub(super) fn is_unified(&self) -> bool {
        matches!(self.kind, Kind::Unified(_))
    }
}

/// Turns controllers on for the children of a v2 group, those that it has itself and that are not on yet.
fn hand_down(directory: &Path, available: &[String]) -> Result<(), CgroupError> {
    let control = directory.join("cgroup.subtree_control");
    let on = read(&control)?;
    let is_missing = |name: &&str| available.iter().any(|known| known == name) && !on.split_whitespace().any(|known| known == *name);
    let missing: Vec<_> = V2_CONTROLLERS.into_iter().filter(is_missing).map(|name| format!("+{name}")).collect();
    if missing.is_empty() { Ok(()) } else { write(&control, &missing.join(" ")) }
}

#[cfg(test)]
impl Layout {
    /// A v2 host whose tree is a plain directory.
    pub(super) fn imitation(mount: &Path) -> Self {
        Self {
            hierarchies: vec![Hierarchy {
                mount: mount.to_owned(),
                kind: Kind::Unified(["cpu", "memory", "pids"].map(str::to_owned).into()),
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_controllers_are_handed_down() {
        let tree = tempfile::tempdir().unwrap();
        let control = tree.path().join("cgroup.subtree_control");
        let available = ["cpu", "memory", "pids", "misc"].map(str::to_owned);
        for (before, after) in [("", "+cpu +memory +pids"), ("memory cpu", "+pidsy cpu"), ("cpu memory pids", "cpu memory pids")] {
            std::fs::write(&control, before).unwrap();
            hand_down(tree.path(), &available).unwrap();
            assert_eq!(std::fs::read_to_string(&control).unwrap(), after, "a plain file keeps what is not written over");
        }
    }

    /// The layout of a tree of directories, of which these are v1 hierarchies, and these v2.
    fn layout(directories: &[&str], links: &[(&str, &str)], legacy: &[&str], unified: &[&str]) -> Result<Vec<String>, CgroupError> {
        let tree = tempfile::tempdir().unwrap();
        for directory in directories {
            std::fs::create_dir(tree.path().join(directory)).unwrap();
        }
        for (link, target) in links {
            std::os::unix::fs::symlink(target, tree.path().join(link)).unwrap();
        }
        for name in unified {
            std::fs::write(tree.path().join(name).join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        }
        let layout = Layout::below(tree.path(), |path| {
            let name = path.strip_prefix(tree.path()).unwrap().to_str().unwrap();
            let is_in = |names: &[&str]| names.contains(&name);
            Ok(if is_in(legacy) { Some(FileSystem::Legacy) } else { is_in(unified).then_some(FileSystem::Unified) })
        })?;
        let name = |hierarchy: &Hierarchy| hierarchy.mount.strip_prefix(tree.path()).unwrap().to_str().unwrap().to_owned();
        Ok(layout.hierarchies().map(|hierarchy| format!("{} {:?}", name(hierarchy), hierarchy.kind)).collect())
    }

    #[test]
    fn v2_alone_is_mounted_at_the_top() {
        let found = layout(&["host-agent", "system.slice"], &[], &[], &[""]).unwrap();
        assert_eq!(found, [r#" Unified(["cpu", "memory", "pids"])"#]);
    }

    #[test]
    fn co_mounted_v1_controllers_are_one_hierarchy() {
        let directories = ["cpu,cpuacct", "perf_event", "systemd", "other"];
        let found = layout(&directories, &[("cpu", "cpu,cpuacct")], &["cpu,cpuacct", "perf_event", "systemd"], &[]).unwrap();
        assert_eq!(found, [r#"cpu,cpuacct Legacy(["cpu", "cpuacct"])"#, r#"systemd Legacy(["systemd"])"#]);
    }

    #[test]
    fn a_hybrid_host_has_a_v2_tree_beside_its_v1_controllers() {
        let found = layout(&["memory", "unified"], &[], &["memory"], &["unified"]).unwrap();
        assert_eq!(found, [r#"memory Legacy(["memory"])"#, r#"unified Unified(["cpu", "memory", "pids"])"#]);
    }

    #[test]
    fn a_host_without_any_is_told_so() {
        let error = layout(&["plain"], &[], &[], &[]).unwrap_err();
        assert_eq!(error.to_string(), "no cgroup file system is mounted");
    }
}
