//! What can go wrong with the verbs on containers.

use spec::value::ContainerId;
use std::io;
use std::path::PathBuf;

/// Why a verb did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// There is no such container.
    #[error("container {id} does not exist")]
    NotFound {
        /// Which.
        id: ContainerId,
    },
    /// `create` found one of that identity.
    #[error("container {id} already exists")]
    AlreadyExists {
        /// Which.
        id: ContainerId,
    },
    /// `remove` was not forced.
    #[error("container {id} is running")]
    StillRunning {
        /// Which.
        id: ContainerId,
    },
    /// The verb needs a running process.
    #[error("container {id} is not running")]
    NotRunning {
        /// Which.
        id: ContainerId,
    },
    /// Another process holds the container's lock for too long.
    #[error("container {id} is being changed by another process for more than {waited_s} s")]
    Locked {
        /// Which.
        id: ContainerId,
        /// How long was waited.
        waited_s: u64,
    },
    /// A file operation failed.
    #[error("{action} {path}")]
    File {
        /// Such as `write` or `create directory`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not valid")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The shim could not be started at all.
    #[error("run {path}")]
    ShimUnusable {
        /// The shim's executable.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The shim says why the container did not start.
    #[error("start container {id}: {problem}")]
    StartFailed {
        /// Which.
        id: ContainerId,
        /// The failed step, its object and the system's reason.
        problem: String,
    },
    /// The shim refused a request.
    #[error("container {id}: {problem}")]
    Refused {
        /// Which.
        id: ContainerId,
        /// Its words.
        problem: String,
    },
    /// The shim did not answer in time.
    #[error("the shim of container {id} did not answer within {waited_s} s")]
    Silent {
        /// Which.
        id: ContainerId,
        /// How long was waited.
        waited_s: u64,
    },
    /// The connection to the shim broke.
    #[error("talk to the shim of container {id}")]
    Shim {
        /// Which.
        id: ContainerId,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// An operation of the kernel on the container's process, cgroup or mounts failed.
    #[error("{action} of container {id}")]
    Kernel {
        /// Which.
        id: ContainerId,
        /// What was tried.
        action: &'static str,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
}

impl ContainerError {
    /// A [`ContainerError::File`] for `map_err`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// A [`ContainerError::Kernel`] for `map_err`.
    pub(crate) fn kernel(action: &'static str, id: &ContainerId) -> impl FnOnce(io::Error) -> Self {
        let id = id.clone();
        move |source| Self::Kernel { id, action, source }
    }
}
