//! What the one-shot modes are told: a file of JSON, readable by its writer alone, that the helper removes when it has read it.
//! Not arguments: those are visible to everybody on the host, and environments hold secrets.

use super::Problem;
use crate::container::ContainerError;
use crate::container::config::ContainerConfig;
use crate::container::file::{self, Lasting};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spec::value::{ContainerId, UserSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// One process to run from a configuration, to its end: a build step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunBundle {
    /// State directory of the instance: with it the control group is named.
    pub state: PathBuf,
    /// What to run. `NetworkConfig::Bridged` needs `network_namespace`; without endpoints nothing is said of its links.
    pub config: ContainerConfig,
    /// Holds `upper` and `work`, made if absent: what the process changes is in `upper` afterwards.
    pub directory: PathBuf,
    /// Name of the control group, one path component, no container's id. Made for the run and removed after it.
    pub control_group: String,
    /// A network namespace to join, by a path that can be opened; names asked for there are looked up as the host does.
    pub network_namespace: Option<PathBuf>,
}

/// One more process in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecBundle {
    /// State directory of the instance.
    pub state: PathBuf,
    /// Run directory of the instance.
    pub run: PathBuf,
    /// Which container.
    pub id: ContainerId,
    /// What to run in it.
    pub command: ExecCommand,
}

/// What is run by an exec, where it differs from the container's own process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecCommand {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// Set besides, or instead of, the container's own environment.
    pub env: BTreeMap<String, String>,
    /// The container's own if `None`.
    pub working_dir: Option<String>,
    /// The container's own if `None`.
    pub user: Option<UserSpec>,
    /// Whether it gets a terminal.
    pub terminal: Terminal,
}

/// Whether a process gets a terminal of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Terminal {
    /// It gets the caller's files as they are.
    #[default]
    None,
    /// A new one inside the container, joined to the caller's.
    Allocate,
}

/// Writes a bundle into this directory, under a name of its own.
pub(crate) fn write<T: Serialize>(directory: &Path, bundle: &T) -> Result<PathBuf, ContainerError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("bundle-{}-{number}", std::process::id()));
    file::write(&path, bundle, Lasting::Passing)?;
    Ok(path)
}

/// Reads a bundle and removes its file.
pub(crate) fn take<T: DeserializeOwned>(path: &Path) -> Result<T, Problem> {
    let bundle = file::read(path).map_err(Problem::of("read bundle"))?;
    // Left behind it is only litter in the run directory.
    let _ = std::fs::remove_file(path);
    bundle.ok_or_else(|| Problem(format!("bundle {} does not exist", path.display())))
}
