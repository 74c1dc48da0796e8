//! Passwords for registries, where Docker and podman keep them: files and helper programs.

mod file;
mod keeper;

#[cfg(test)]
mod tests;

pub use file::{Kept, erase, store};
pub use keeper::HelperError;

use crate::store::FileError;
use spec::value::Secret;
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

/// What the environment says of where passwords are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialPlaces {
    /// `$DOCKER_CONFIG`; `~/.docker` if not said.
    pub docker_config: Option<PathBuf>,
    /// `$REGISTRY_AUTH_FILE`, in place of podman's file of this boot.
    pub auth_file: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`; `~/.config` if not said.
    pub config_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

/// Files to look for passwords in, in order; those that are absent are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialFiles(pub Vec<PathBuf>);

impl CredentialFiles {
    /// Docker's file, then podman's two (containers-auth.json(5)): the one of this boot and the one that lasts.
    pub fn usual(places: CredentialPlaces) -> Self {
        let CredentialPlaces { docker_config, auth_file, runtime_dir, config_home, home } = places;
        let docker = docker_config.or_else(|| home.as_ref().map(|home| home.join(".docker"))).map(|it| it.join("config.json"));
        let podman = auth_file.or_else(|| runtime_dir.map(|it| it.join("containers/auth.json")));
        let lasting = config_home.or_else(|| home.map(|home| home.join(".config"))).map(|it| it.join("containers/auth.json"));
        Self(docker.into_iter().chain(podman).chain(lasting).collect())
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
