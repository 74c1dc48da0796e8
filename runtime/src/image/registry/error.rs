//! Why a request to a registry failed, and whether it is worth another attempt.

use super::credentials::CredentialsError;
use super::http::REDIRECTS_MAX;
use std::time::Duration;
use ureq::http::StatusCode;

/// Why a request did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The registry said no.
    #[error("it answered {status}{message}: {hint}")]
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
        !matches!(**source, ureq::Error::HostNotFound | ureq::Error::Timeout(_))
    }

    /// The status the server answered with, if it did.
    pub(super) fn status(&self) -> Option<StatusCode> {
        if let Self::Status { status, .. } = self { Some(*status) } else { None }
    }

    /// A connection that did not come about.
    pub(super) fn transport(source: ureq::Error) -> Self {
        use rustls::CertificateError as Certificate;
        let hint = match (&source, tls_error(&source)) {
            (ureq::Error::HostNotFound, _) => " (check its name and this host's DNS)",
            (_, Some(rustls::Error::InvalidCertificate(Certificate::UnknownIssuer))) => {
                " (no authority this host trusts vouches for its certificate: name the right one as ca in registries.yaml, \
                 or install the package ca-certificates)"
            }
            (_, Some(rustls::Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }))) => {
                " (its certificate is for another name)"
            }
            (_, Some(rustls::Error::InvalidCertificate(_))) | (ureq::Error::Tls(_), None) => " (its certificate is not trusted here)",
            (_, Some(rustls::Error::InvalidMessage(_))) => " (it does not speak TLS; insecure: true in registries.yaml allows plain HTTP)",
            _ => "",
        };
        Self::Transport { hint, source: Box::new(source) }
    }
}

/// What went wrong with TLS, if it was that.
pub(super) fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
