//! Why a request to a registry failed, and whether it is worth another attempt.

use super::credentials::CredentialsError;
use super::http::REDIRECTS_MAX;
use super::retry::WAIT_MAX;
use super::settings::Identity;
pub(super) use crate::cause::chain;
use std::time::Duration;
use ureq::http::StatusCode;

/// A request for a part of an image that failed for good.
#[derive(Debug, thiserror::Error)]
#[error("{}", told(*.wish, .what, .repository, .registry))]
pub struct RequestFailed {
    /// What was to be done with the part.
    pub wish: Wish,
    /// `manifest latest`, `blob sha256:…`.
    pub what: String,
    /// The repository.
    pub repository: String,
    /// The registry.
    pub registry: String,
    /// Why not.
    pub source: RequestError,
}

/// What is to be done with a part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To have it.
    Get,
    /// To put it there.
    Put,
}

fn told(wish: Wish, what: &str, repository: &str, registry: &str) -> String {
    match wish {
        Wish::Get => format!("get {what} of {repository} from registry {registry}"),
        Wish::Put => format!("put {what} into {repository} of registry {registry}"),
    }
}

impl RequestFailed {
    /// Whether the registry says that there is no such thing.
    pub(super) fn is_absence(&self) -> bool {
        self.source.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Whether the registry does not know what is wanted of it.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.source.status(), Some(StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED))
    }
}

/// Why a request did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The registry said no.
    #[error("it answered {status}{message}: {hint}{}", asked_for(*.retry_after))]
    Status {
        /// HTTP status.
        status: StatusCode,
        /// What it said, in parentheses, or nothing.
        message: String,
        /// What to do.
        hint: &'static str,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// No connection, or none that could be trusted.
    #[error("reach it{hint}")]
    Transport {
        /// What to do, in parentheses, or nothing.
        hint: &'static str,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The connection broke while the content came.
    #[error("read its answer")]
    Body(#[source] std::io::Error),
    /// Whoever asked does not want it any more.
    #[error("broken off: it is not wanted any more")]
    Unwanted,
    /// A redirect that leads astray.
    #[error("it redirects to {0:?}, which is not followed: only https, or plain HTTP to registries that may use it, {REDIRECTS_MAX} times")]
    Redirect(String),
    /// No way to authenticate.
    #[error("authenticate: {0}")]
    Authentication(String),
    /// The token service failed.
    #[error("ask its token service {service}")]
    TokenService {
        /// Where that is.
        service: String,
        /// What it said.
        #[source]
        source: Box<RequestError>,
    },
    /// The passwords could not be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Larger than a document of its kind may be.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

impl RequestError {
    /// Whether the same request may succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Transport { source, .. } => {
                tls_error(source).is_none() && !matches!(**source, ureq::Error::Tls(_) | ureq::Error::BadUri(_))
            }
            Self::Body(_) => true,
            Self::TokenService { source, .. } => source.is_passing(),
            Self::Redirect(_) | Self::Authentication(_) | Self::Credentials(_) | Self::TooLarge { .. } | Self::Unwanted => false,
        }
    }

    /// Whether nobody is there: the name leads nowhere, or nothing listens. A registry that has never answered will not in a second.
    pub(super) fn is_nobody(&self) -> bool {
        let Self::Transport { source, .. } = self else { return false };
        match &**source {
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Timeout(ureq::Timeout::Connect) => true,
            ureq::Error::Io(error) => {
                use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
                is_lookup(error) || [ConnectionRefused, HostUnreachable, NetworkUnreachable].contains(&error.kind())
            }
            _ => false,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::TokenService { source, .. } => source.retry_after(),
            Self::Transport { .. }
            | Self::Body(_)
            | Self::Unwanted
            | Self::Redirect(_)
            | Self::Authentication(_)
            | Self::Credentials(_)
            | Self::TooLarge { .. } => None,
        }
    }

    /// Whether no connection came about in a way that another scheme may cure: not a name that leads nowhere, not silence.
    pub(super) fn is_other_scheme(&self) -> bool {
        let Self::Transport { source, .. } = self else { return false };
        let is_lookup = matches!(&**source, ureq::Error::Io(error) if is_lookup(error));
        !is_lookup && !matches!(**source, ureq::Error::HostNotFound | ureq::Error::Timeout(_))
    }

    /// The status the server answered with, if it did.
    pub(super) fn status(&self) -> Option<StatusCode> {
        if let Self::Status { status, .. } = self { Some(*status) } else { None }
    }

    /// A connection that did not come about; `identity` is what this host showed, or would have.
    pub(super) fn transport(source: ureq::Error, identity: Option<&Identity>) -> Self {
        use rustls::AlertDescription as Alert;
        use rustls::CertificateError as Certificate;
        let hint = match (&source, tls_error(&source)) {
            (ureq::Error::HostNotFound, _) => NAME_HINT,
            (ureq::Error::Io(error), None) if is_lookup(error) => NAME_HINT,
            (ureq::Error::Io(error), None) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                " (nothing listens there: check the port, and whether the registry runs)"
            }
            (_, Some(rustls::Error::InvalidCertificate(Certificate::UnknownIssuer))) => {
                " (no authority this host trusts vouches for its certificate: name the right one as ca in registries.yaml, \
                 or install the package ca-certificates)"
            }
            (_, Some(rustls::Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }))) => {
                " (its certificate is for another name: call the registry by a name that the certificate has, \
                 or have one issued for this name)"
            }
            (_, Some(rustls::Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }))) => {
                " (its certificate has expired: whoever runs the registry has to renew it; or this host's clock is wrong)"
            }
            (_, Some(rustls::Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }))) => {
                " (its certificate is not valid yet: this host's clock is wrong, or that of whoever issued it)"
            }
            // Servers do not agree on which of them a missing certificate is.
            (
                _,
                Some(rustls::Error::AlertReceived(
                    Alert::CertificateRequired
                    | Alert::HandshakeFailure
                    | Alert::BadCertificate
                    | Alert::UnknownCA
                    | Alert::CertificateUnknown
                    | Alert::CertificateExpired
                    | Alert::AccessDenied,
                )),
            ) => match identity {
                None => " (it may want a certificate of this host: name it as client in registries.yaml)",
                Some(_) => " (it does not take the certificate of this host: the one named as client in registries.yaml)",
            },
            (_, Some(rustls::Error::InvalidCertificate(_))) | (ureq::Error::Tls(_), None) => " (its certificate is not trusted here)",
            (_, Some(rustls::Error::InvalidMessage(_))) => " (it does not speak TLS; insecure: true in registries.yaml allows plain HTTP)",
            _ => "",
        };
        Self::Transport { hint, source: Box::new(source) }
    }
}

/// A wait that is too long for anybody who waits now.
fn asked_for(retry_after: Option<Duration>) -> String {
    let long = retry_after.filter(|asked| *asked > WAIT_MAX);
    long.map_or_else(String::new, |asked| format!("; it asks to wait for {} s", asked.as_secs()))
}

/// For a name that leads nowhere.
const NAME_HINT: &str = " (check its name and this host's DNS)";

/// Whether a name could not be looked up: the standard library has no kind for that.
fn is_lookup(error: &std::io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

/// What went wrong with TLS, if it was that.
pub(super) fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}
