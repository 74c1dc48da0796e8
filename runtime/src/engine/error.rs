//! What can go wrong with the verbs of the engine: one variant a room, each with its own words.

use crate::cgroup::CgroupError;
use crate::container::ContainerError;
use crate::image::store::StoreError;
use crate::network::NetworkError;
use crate::store::FileError;
use crate::volume::VolumeError;
use spec::value::ContainerId;

/// Why a verb did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A network, port or name.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// An image.
    #[error(transparent)]
    Image(#[from] StoreError),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The cgroups of the instance.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A file of the engine itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// A change of what an image says.
    #[error(transparent)]
    Change(#[from] crate::builder::ChangeError),
    /// A network that containers are connected to is to be removed.
    #[error("network {network} is in use by {}", .users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NetworkInUse {
        /// Which.
        network: spec::value::Name,
        /// By whom.
        users: Vec<ContainerId>,
    },
}
