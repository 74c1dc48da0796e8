//! What everybody needs who speaks to registries: settings, passwords, patience.

use super::credentials::CredentialFiles;
use super::patience::Patience;
use super::proxy::Proxies;
use super::retry::Retry;
use super::settings::Settings;
use super::token::Authorizations;

/// How registries are reached. One for each command or turn: the passwords and tokens it has seen stay with it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Mirrors, certificates and policies, by prefix.
    pub settings: Settings,
    /// Where passwords are kept.
    pub credentials: CredentialFiles,
    /// What connections go through.
    pub proxies: Proxies,
    /// How often to try again.
    pub retry: Retry,
    /// How long to wait.
    pub patience: Patience,
    pub(super) authorizations: Authorizations,
}

impl Access {
    /// With the usual number of attempts and time limits.
    pub fn new(settings: Settings, credentials: CredentialFiles) -> Self {
        Self { settings, credentials, ..Self::default() }
    }
}
