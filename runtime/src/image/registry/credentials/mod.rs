//! Passwords for registries, where Docker and podman keep them: files and helper programs.

mod file;
mod keeper;

#[cfg(test)]
mod tests;

pub use file::{Kept, erase, store};
pub use keeper::HelperError;

use super::secret::Secret;
use crate::store::FileError;
use std::path::PathBuf;

/// What proves to a registry who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password, or a token in its place.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// What the registry's token service takes for a token (OAuth 2 refresh token).
    IdentityToken(Secret),
    /// A token for the registry itself.
    RegistryToken(Secret),
}

/// Why passwords could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file operation.
    #[error("registry passwords: {0}")]
    File(#[source] FileError),
    /// It is not what Docker writes. The parser's own error would quote what is written there.
    #[error("{path:?} is not a Docker configuration with passwords{place}")]
    Format {
        /// The file.
        path: PathBuf,
        /// `: registry …`, or nothing.
        place: String,
    },
    /// The program that keeps them.
    #[error("ask for the password of {registry}")]
    Helper {
        /// Whose password.
        registry: String,
        /// Why there is none.
        #[source]
        source: HelperError,
    },
}

/// Files to look for passwords in, in order; those that are absent are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialFiles(pub Vec<PathBuf>);

impl CredentialFiles {
    /// Docker's file, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, then podman's,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`.
    pub fn usual(docker_config: Option<PathBuf>, home: Option<PathBuf>, runtime_dir: Option<PathBuf>) -> Self {
        let docker = docker_config.or_else(|| home.map(|home| home.join(".docker"))).map(|directory| directory.join("config.json"));
        let podman = runtime_dir.map(|directory| directory.join("containers/auth.json"));
        Self(docker.into_iter().chain(podman).collect())
    }

    /// What proves who we are to a registry, for one of its repositories; `None` if no file knows it.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialsError> {
        for path in &self.0 {
            if let Some(found) = file::find(path, registry, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
