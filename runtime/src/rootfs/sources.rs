//! Everything of the host that goes into a container, opened by the starter as detached mounts; the init stage sees no path of the host.

use super::etc::{self, EtcFile};
use super::{make_read_only, overlay};
use crate::cgroup::Cgroup;
use crate::container::config::{ContainerConfig, MountConfig, NetworkConfig};
use crate::process::{During, StartError, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The root file system.
    Root,
    /// The container's own group in one hierarchy: its name below `/sys/fs/cgroup`.
    Cgroup(String),
    /// The host's sysfs, for a user namespace that may not mount its own.
    Sysfs,
    /// A device node of the host, for a user namespace that may not make its own.
    Device(&'static str),
    /// A generated file.
    Etc(EtcFile),
    /// The bind mount at this place of the configuration's list.
    Bind(usize),
}

/// Detached mounts by what they are for.
#[derive(Debug)]
pub(crate) struct Sources(BTreeMap<Role, OwnedFd>);

impl Sources {
    /// Opens them all. With a user namespace, files appear as owned by its ids.
    pub(crate) fn open(
        config: &ContainerConfig,
        directory: &Path,
        cgroup: &Cgroup,
        user_namespace: Option<BorrowedFd<'_>>,
    ) -> Result<Self, StartError> {
        let open = |(role, path): (Role, PathBuf)| {
            let mount = match role {
                Role::Root => overlay::mount(&config.layers, directory, config.user_namespace.zip(user_namespace))
                    .during(Step::Overlay, path.display())?,
                Role::Cgroup(_) | Role::Sysfs => overlay::kernel_copy(&path).during(Step::OpenSource, path.display())?,
                Role::Device(_) => overlay::private_copy(&path, None).during(Step::OpenSource, path.display())?,
                Role::Etc(_) => overlay::private_copy(&path, user_namespace).during(Step::OpenSource, path.display())?,
                Role::Bind(index) => open_bind(&config.mounts[index], &path, user_namespace)?,
            };
            Ok((role, mount))
        };
        roles(config, directory, cgroup).into_iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// As they are sent to an init stage that could not inherit them, in the order of [`roles`].
    pub(crate) fn into_descriptors(self) -> Vec<OwnedFd> {
        self.0.into_values().collect()
    }

    /// Given their meaning again on the other side.
    pub(crate) fn from_descriptors(
        config: &ContainerConfig,
        directory: &Path,
        cgroup: &Cgroup,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let mut wanted: Vec<_> = roles(config, directory, cgroup).into_iter().map(|(role, _)| role).collect();
        wanted.sort();
        if wanted.len() != descriptors.len() {
            return Err(io::Error::other(format!("{} mounts came of {}", descriptors.len(), wanted.len())));
        }
        Ok(Self(wanted.into_iter().zip(descriptors).collect()))
    }

    /// Hands one out.
    pub(super) fn take(&mut self, role: &Role) -> io::Result<OwnedFd> {
        self.0.remove(role).ok_or_else(|| io::Error::other(format!("no source for {role:?}")))
    }

    /// The names of the cgroup hierarchies that came along.
    pub(super) fn cgroup_names(&self) -> Vec<String> {
        let name = |role: &Role| if let Role::Cgroup(name) = role { Some(name.clone()) } else { None };
        self.0.keys().filter_map(name).collect()
    }
}

/// Writes the generated files; done before they are opened.
pub(crate) fn prepare(config: &ContainerConfig, directory: &Path) -> Result<(), StartError> {
    etc::write(directory, config).map_err(|(file, source)| StartError {
        step: Step::WriteFile,
        object: directory.join(file.name()).display().to_string(),
        source,
    })
}

/// Whether the container may mount a sysfs of its own: it must own its network namespace.
pub(super) fn owns_network(config: &ContainerConfig) -> bool {
    config.user_namespace.is_none() || config.network == NetworkConfig::None
}

fn roles(config: &ContainerConfig, directory: &Path, cgroup: &Cgroup) -> Vec<(Role, PathBuf)> {
    let mut roles = vec![(Role::Root, directory.to_owned())];
    roles.extend(cgroup.views().into_iter().map(|(name, path)| (Role::Cgroup(name), path)));
    roles.extend(EtcFile::ALL.map(|file| (Role::Etc(file), directory.join(file.name()))));
    if config.user_namespace.is_some() {
        roles.extend(super::device::NODES.map(|(name, ..)| (Role::Device(name), Path::new("/dev").join(name))));
    }
    if !owns_network(config) {
        roles.push((Role::Sysfs, "/sys".into()));
    }
    for (index, mount) in config.mounts.iter().enumerate() {
        match mount {
            MountConfig::Bind { source, .. } => roles.push((Role::Bind(index), source.clone())),
            MountConfig::Layers { path, .. } => roles.push((Role::Bind(index), path.into())),
            MountConfig::Tmpfs { .. } => {}
        }
    }
    roles
}

fn open_bind(mount: &MountConfig, source: &Path, user_namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd, StartError> {
    let opened = match mount {
        MountConfig::Layers { layers, path, changes, .. } => overlay::part(layers, path, changes.as_deref()),
        MountConfig::Bind { .. } | MountConfig::Tmpfs { .. } => overlay::private_copy(source, user_namespace),
    };
    let opened = opened.during(Step::OpenSource, source.display())?;
    match mount {
        // A volume that is still to be filled is made read-only afterwards.
        MountConfig::Bind { read_only: true, copy_up: false, .. } | MountConfig::Layers { changes: None, .. } => {
            make_read_only(opened.as_fd()).during(Step::OpenSource, source.display())?;
        }
        MountConfig::Bind { .. } | MountConfig::Layers { .. } | MountConfig::Tmpfs { .. } => {}
    }
    Ok(opened)
}
