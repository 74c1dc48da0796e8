//! Control groups: one per container, `<instance>/<container id>` below the root of every hierarchy we use, on v1, v2 and both at once.
//!
//! Everything is read and written as files. Device rules sit on the instance's own group, above all containers.

mod devices;
mod freeze;
mod kill;
mod layout;
mod limits;
mod stats;

pub use layout::Layout;
pub use limits::{Groups, LIMIT_FILES, settled};
pub use stats::Stats;

use crate::container::config::ResourceLimits;
use crate::places::Places;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use spec::value::ContainerId;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a group that still has dying processes is waited for: a killed process is gone within milliseconds, a core dump or a
/// hung disk may take longer.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a group that is not yet empty.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The control group of one container, whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    layout: Layout,
    /// `host-agent/web@1`, relative to the root of each hierarchy.
    path: PathBuf,
}

/// What went wrong with a control group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy at all.
    #[error("no cgroup file system is mounted")]
    NotMounted,
    /// A limit asks for a controller that the host has not.
    #[error("the {controller} controller is not available on this host")]
    NoController {
        /// Which.
        controller: &'static str,
    },
    /// A directory.
    #[error("create control group {}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory.
    #[error("remove control group {}", path.display())]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A control file.
    #[error("write {value:?} to {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A control file.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The device program of cgroup v2.
    #[error("restrict devices of {}", path.display())]
    Devices {
        /// Of which group.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Processes that SIGKILL does not end.
    #[error("processes are left in {}", path.display())]
    StillBusy {
        /// Where.
        path: PathBuf,
    },
}

/// How a new process comes into the group without waiting for anybody.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// The cgroup v2 directory, for CLONE_INTO_CGROUP.
    pub(crate) unified: Option<OwnedFd>,
    /// `tasks` of each v1 hierarchy: a single-threaded process moves itself by writing `0`, and needs no RCU grace period.
    pub(crate) tasks: Vec<OwnedFd>,
}

impl Entrance {
    /// Steps into the v1 groups: for the new process itself, while it has one thread.
    pub(crate) fn enter_tasks(&self) -> io::Result<()> {
        self.tasks.iter().try_for_each(|tasks| Ok(rustix::io::write(tasks, b"0").map(drop)?))
    }
}

impl Cgroup {
    /// The group of a container of this instance, on this host's layout.
    pub fn of_container(places: &Places, id: &ContainerId) -> Result<Self, CgroupError> {
        Self::named(places, &id.to_string())
    }

    /// The group of all shims of this instance. They are not left where whoever spawned them runs: a service or session takes its own
    /// along when it ends.
    pub(crate) fn of_shims(places: &Places) -> Result<Self, CgroupError> {
        // No container's: an id has an `@`.
        Self::named(places, "shims")
    }

    /// A group of this instance by a name of one path component: build steps use it.
    pub fn named(places: &Places, name: &str) -> Result<Self, CgroupError> {
        Ok(Self { layout: Layout::detect()?, path: Path::new(&places.instance()).join(name) })
    }

    /// Makes it and its parent exist and sets the limits. Does nothing that is already done.
    pub fn ensure(&self, limits: &ResourceLimits) -> Result<(), CgroupError> {
        self.ensure_unlimited()?;
        self.apply(limits)
    }

    /// Makes it and its parent exist.
    pub(crate) fn ensure_unlimited(&self) -> Result<(), CgroupError> {
        self.layout.ensure_instance(self.instance())?;
        self.layout.hierarchies().try_for_each(|hierarchy| create_directory(&hierarchy.mount.join(&self.path)).map(drop))
    }

    /// Whether it exists in the hierarchy that counts its processes.
    pub fn exists(&self) -> bool {
        self.layout.hierarchies().any(|hierarchy| hierarchy.mount.join(&self.path).is_dir())
    }

    /// Removes it from every hierarchy, with groups that were made inside. Fine if absent. Its processes must be dead or dying:
    /// waits up to five seconds for those.
    pub fn remove(&self) -> Result<(), CgroupError> {
        self.layout.hierarchies().try_for_each(|hierarchy| remove_tree(&hierarchy.mount.join(&self.path)))
    }

    /// Removes the parent of all containers' groups of this instance. Fine if absent; all containers must be gone.
    pub fn remove_instance(places: &Places) -> Result<(), CgroupError> {
        Layout::detect()?.hierarchies().try_for_each(|hierarchy| remove_tree(&hierarchy.mount.join(places.instance())))
    }

    /// Every process in it, by its number in the caller's pid namespace.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let Some(directory) = self.layout.hierarchies().map(|hierarchy| hierarchy.mount.join(&self.path)).next() else {
            return Ok(Vec::new());
        };
        kill::processes(&directory)
    }

    /// The doors for a process that is about to be made.
    pub(crate) fn entrance(&self) -> Result<Entrance, CgroupError> {
        let mut entrance = Entrance { unified: None, tasks: Vec::new() };
        for hierarchy in self.layout.hierarchies() {
            let directory = hierarchy.mount.join(&self.path);
            if hierarchy.is_unified() {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                entrance.unified = Some(open(&directory, flags)?);
            } else {
                entrance.tasks.push(open(&directory.join("tasks"), OFlags::WRONLY | OFlags::CLOEXEC)?);
            }
        }
        Ok(entrance)
    }

    /// Where the container sees what: the name below `/sys/fs/cgroup` (empty for pure v2) and our directory on the host.
    pub(crate) fn views(&self) -> Vec<(String, PathBuf)> {
        self.layout.hierarchies().map(|hierarchy| (self.layout.name_of(hierarchy), hierarchy.mount.join(&self.path))).collect()
    }

    fn instance(&self) -> &Path {
        self.path.parent().expect("the path has two components")
    }

    /// Our directory in the hierarchy that has this controller.
    fn directory(&self, controller: &str) -> Option<PathBuf> {
        self.layout.with_controller(controller).map(|hierarchy| hierarchy.mount.join(&self.path))
    }
}

fn create_directory(path: &Path) -> Result<bool, CgroupError> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(source) => Err(CgroupError::Create { path: path.to_owned(), source: source.into() }),
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, CgroupError> {
    rustix::fs::open(path, flags, Mode::empty()).map_err(|source| CgroupError::Read { path: path.to_owned(), source: source.into() })
}

fn read(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    // Control files exist; opening without O_CREAT keeps a missing one an error instead of EPERM.
    let write = || std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(path)?, value.as_bytes());
    write().map_err(|source| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source })
}

fn remove_tree(path: &Path) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Remove { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if waited < REMOVE_PATIENCE => {
                std::thread::sleep(POLL_INTERVAL);
                waited += POLL_INTERVAL;
            }
            Err(source) => return Err(failed(source.into())),
        }
    }
}
