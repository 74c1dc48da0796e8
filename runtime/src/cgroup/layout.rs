//! Which hierarchies the host has: v2 alone, v1 alone, or v1 controllers with a unified tree beside them (hybrid).

use super::{CgroupError, create_directory, devices, read, write};
use std::path::{Path, PathBuf};

/// v1 hierarchies that a container joins: those with one of these, and systemd's, so that a stop of our own service leaves
/// containers alone. The others (cpuset, blkio, perf_event, …) limit nothing here and would each cost a directory a start.
const V1_CONTROLLERS: [&str; 6] = ["memory", "cpu", "cpuacct", "pids", "devices", "freezer"];
/// The named hierarchy in which systemd keeps its services.
const SYSTEMD: &str = "name=systemd";
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
    /// A v1 hierarchy with these controllers, or `name=systemd`.
    Legacy(Vec<String>),
    /// The v2 tree with these controllers; none of them on a hybrid host.
    Unified(Vec<String>),
}

impl Layout {
    /// Reads this host's.
    pub fn detect() -> Result<Self, CgroupError> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::MountTable)?;
        Self::parse(&table, |mount| read(&mount.join("cgroup.controllers")).unwrap_or_default())
    }

    /// From a mount table, proc_pid_mountinfo(5), and a reader of `cgroup.controllers` of the v2 tree.
    pub(super) fn parse(table: &str, controllers: impl Fn(&Path) -> String) -> Result<Self, CgroupError> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            let kind = match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => Kind::Unified(controllers(&mount).split_whitespace().map(str::to_owned).collect()),
                (Some("cgroup"), Some(options)) => {
                    let wanted = |option: &&str| V1_CONTROLLERS.contains(option) || *option == SYSTEMD;
                    let found: Vec<_> = options.split(',').filter(wanted).map(str::to_owned).collect();
                    if found.is_empty() {
                        continue;
                    }
                    Kind::Legacy(found)
                }
                (Some(_), _) | (None, _) => continue,
            };
            // The same tree may be mounted again elsewhere, for another container of the host: the first one is the host's own.
            if mount.starts_with(MOUNT_POINT) && !hierarchies.iter().any(|known| known.kind == kind) {
                hierarchies.push(Hierarchy { mount, kind });
            }
        }
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
mod tests {
    use super::*;

    fn shown(table: &str) -> Vec<String> {
        let layout = Layout::parse(table, |_| "cpu memory pids\n".to_owned()).unwrap();
        layout.hierarchies().map(|hierarchy| format!("{} {:?}", layout.name_of(hierarchy), hierarchy.kind)).collect()
    }

    #[test]
    fn v2_alone_is_mounted_at_the_top() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(shown(table), [r#" Unified(["cpu", "memory", "pids"])"#]);
    }

    #[test]
    fn co_mounted_v1_controllers_are_one_hierarchy() {
        let table = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                     33 31 0:30 / /sys/fs/cgroup/perf_event rw,relatime - cgroup cgroup rw,perf_event\n\
                     34 31 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n";
        assert_eq!(shown(table), [r#"cpu,cpuacct Legacy(["cpu", "cpuacct"])"#, r#"systemd Legacy(["name=systemd"])"#]);
    }

    #[test]
    fn a_second_mount_of_the_same_tree_is_another_containers_view() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                     99 50 0:28 /x /var/lib/other/sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(shown(table).len(), 1);
    }

    #[test]
    fn a_host_without_any_is_told_so() {
        let error = Layout::parse("22 27 0:21 / /proc rw - proc proc rw\n", |_| String::new()).unwrap_err();
        assert_eq!(error.to_string(), "no cgroup file system is mounted");
    }
}
