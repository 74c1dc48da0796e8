//! Trying a password out at a registry, before it is kept.

use super::access::Access;
use super::client::Client;
use super::credentials::Credential;
use super::error::RequestError;
use super::http::{Message, accepted};
use ureq::http::Method;

/// Why a registry does not take a password.
#[derive(Debug, thiserror::Error)]
#[error("log in at {registry}")]
pub struct LoginError {
    /// The registry.
    pub registry: String,
    /// What it said.
    #[source]
    pub source: Box<RequestError>,
}

/// Asks the registry for the root of its API with this credential. A registry that asks for none takes any.
pub fn verify_login(access: &Access, registry: &str, credential: &Credential) -> Result<(), LoginError> {
    let endpoint = access.settings.origin(registry, "");
    let client = Client::new(&endpoint, Vec::new(), access, &|_| {}).with_credential(credential);
    let answered = client.request("", &Message::bare(Method::GET)).and_then(accepted);
    answered.map(drop).map_err(|source| LoginError { registry: registry.to_owned(), source: Box::new(source) })
}
