//! What the operator of this host decided, `<config-dir>/agent.yaml`. Read when it is needed, so that a change needs no restart.

use runtime::image::store::Limits;
use spec::diagnostic::Diagnostic;
use spec::settings::{GENERATIONS, StoreSettings, parse_settings};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file's name in the configuration directory.
const FILE: &str = "agent.yaml";
/// The build cache may hold this share of the file system alone where nobody says how much.
const CACHE_SHARE: u64 = 10;

/// The settings of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What the image store is held to.
    pub limits: Limits,
    /// Generations of each site whose images are kept.
    pub generations: u32,
    cache_bytes: Option<u64>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("read {path:?}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says what cannot be.
    #[error("{}", .0.iter().map(|it| format!("{}: {}", it.place.location, it.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Diagnostic>),
}

impl Settings {
    /// Reads them; without a file nothing was decided.
    pub fn read(config: &Path) -> Result<Self, SettingsError> {
        let path = config.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        let StoreSettings { disk_budget, keep_free, build_cache, generations } =
            parse_settings(&path.display().to_string(), &bytes).map_err(SettingsError::Invalid)?.store;
        Ok(Self {
            limits: Limits { budget: disk_budget.map(|size| size.bytes()), floor: keep_free.map(|size| size.bytes()) },
            generations: generations.unwrap_or(GENERATIONS),
            cache_bytes: build_cache.map(|size| size.bytes()),
        })
    }

    /// Most bytes the build cache holds alone, on the file system of `directory`.
    pub fn cache_bytes(&self, directory: &Path) -> u64 {
        let share = || rustix::fs::statvfs(directory).map_or(u64::MAX, |found| found.f_blocks.saturating_mul(found.f_frsize) / CACHE_SHARE);
        self.cache_bytes.unwrap_or_else(share)
    }
}
