//! Requests to one repository of one registry: authentication, redirects, retries and limits.

use super::authentication::{Authorization, Challenge, CredentialsError, find_credentials, parse_challenges};
use super::{Progress, PullError, PullOptions, install_crypto_provider};
use crate::image::manifest::media_type;
use serde::Deserialize;
use spec::value::{Digest, ImageReference};
use std::io::Read;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};

/// A host that does not answer a SYN within this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence on a connection before it counts as broken. Never a limit on a whole layer: those may take an hour.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects in a row; registries need one, to where the blobs are.
const REDIRECTS_MAX: usize = 5;
/// Most of an answer that is not content: an error document or a token.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Shown of what a registry says about an error.
const MESSAGE_CHARACTERS_MAX: usize = 300;

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
    /// A redirect that leads astray.
    #[error("it redirects to {0:?}, which is not followed: only https, or plain HTTP to registries that may use it, {REDIRECTS_MAX} times")]
    Redirect(String),
    /// No way to authenticate.
    #[error("authenticate: {0}")]
    Authentication(String),
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
    fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Transport { source, .. } => !matches!(**source, ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::BadUri(_)),
            Self::Body(_) => true,
            Self::Redirect(_) | Self::Authentication(_) | Self::Credentials(_) | Self::TooLarge { .. } => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }
}

/// A small document: a manifest, a configuration.
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    /// Media type it came with, without parameters.
    pub(super) media_type: Option<String>,
}

/// One repository.
pub(super) struct Client<'a> {
    agent: ureq::Agent,
    options: &'a PullOptions<'a>,
    reference: &'a ImageReference,
    /// Found by the first challenge, then sent with every request to the registry itself.
    authorization: Mutex<Option<Authorization>>,
}

impl<'a> Client<'a> {
    pub(super) fn new(reference: &'a ImageReference, options: &'a PullOptions<'a>) -> Self {
        install_crypto_provider();
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .timeout_per_write(Some(SILENCE_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .user_agent(concat!("host-agent/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity") // what is hashed must be what was sent
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build());
        if is_loopback(reference.registry()) {
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), options, reference, authorization: Mutex::new(None) }
    }

    pub(super) fn tell(&self, progress: Progress<'_>) {
        (self.options.progress)(progress);
    }

    /// Gets a document whole, with retries. `what` is for the error.
    pub(super) fn document(&self, path: &str, what: &str, limit: u64) -> Result<Fetched, PullError> {
        let mut failures = 0;
        loop {
            let attempt = self.get(path, 0).and_then(|response| read_document(response, limit));
            let outcome = match attempt {
                Ok(fetched) => return Ok(fetched),
                Err(error) => {
                    failures += 1;
                    self.wait_or_give_up(what, failures, error)
                }
            };
            outcome.map_err(|source| PullError::Request {
                registry: self.reference.registry().to_owned(),
                repository: self.reference.repository().to_owned(),
                what: what.to_owned(),
                source: Box::new(source),
            })?;
        }
    }

    /// Begins to get a blob, from `position` if the server can; returns where the body really begins.
    pub(super) fn blob(&self, digest: &Digest, position: u64) -> Result<(ureq::BodyReader<'static>, u64), RequestError> {
        let response = self.get(&format!("blobs/{digest}"), position)?;
        let begins_at = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
                match first {
                    Some(first) if first == position => position,
                    _ => return Err(RequestError::Body(std::io::Error::other("it sent another range than it was asked for"))),
                }
            }
            _ => 0,
        };
        Ok((response.into_body().into_reader(), begins_at))
    }

    /// Waits before the next attempt, or returns the error if another one makes no sense.
    pub(super) fn wait_or_give_up(&self, what: &str, failures: u32, error: RequestError) -> Result<(), RequestError> {
        match self.options.retry.wait(failures, error.retry_after()) {
            Some(wait) if error.is_passing() => {
                self.tell(Progress::Retrying { what, reason: &chain(&error), wait });
                std::thread::sleep(wait);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// One GET below the repository, authenticated as needed, redirects followed. Anything but success is an error.
    fn get(&self, path: &str, position: u64) -> Result<Response<ureq::Body>, RequestError> {
        let registry = self.reference.registry();
        let (scheme, host) = match registry {
            "docker.io" => ("https", "registry-1.docker.io"),
            other if self.may_use_http(other) => ("http", other),
            other => ("https", other),
        };
        let url = format!("{scheme}://{host}/v2/{}/{path}", self.reference.repository());
        let known = self.authorization();
        let response = self.follow(&url, known.as_ref(), position)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return accepted(response);
        }
        // A token may have run out meanwhile: once more with a new one.
        let authorization = self.authenticate(&response)?;
        if let Ok(mut slot) = self.authorization.lock() {
            *slot = Some(authorization.clone());
        }
        accepted(self.follow(&url, Some(&authorization), position)?)
    }

    fn authorization(&self) -> Option<Authorization> {
        self.authorization.lock().ok()?.clone()
    }

    /// Follows redirects by hand: credentials go to the first host only, and TLS is never left.
    fn follow(&self, url: &str, authorization: Option<&Authorization>, position: u64) -> Result<Response<ureq::Body>, RequestError> {
        let first: Uri = url.parse().map_err(|_| RequestError::Redirect(url.to_owned()))?;
        let mut target = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let same_origin = (target.scheme(), target.authority()) == (first.scheme(), first.authority());
            let response = self.send(&target, authorization.filter(|_| same_origin), position)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
            let astray = || RequestError::Redirect(without_query(location));
            target = resolve(&target, location).ok_or_else(astray)?;
            let host = target.authority().map(|authority| authority.as_str()).unwrap_or_default();
            let follows = match target.scheme_str() {
                Some("https") => true,
                Some("http") => first.scheme_str() == Some("http") && self.may_use_http(host),
                _ => false,
            };
            if !follows {
                return Err(astray());
            }
        }
        Err(RequestError::Redirect(without_query(&target.to_string())))
    }

    fn send(&self, target: &Uri, authorization: Option<&Authorization>, position: u64) -> Result<Response<ureq::Body>, RequestError> {
        use media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST, "*/*"].join(", ");
        let mut request = self.agent.get(target).header(header::ACCEPT, accept);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization.header());
        }
        if position > 0 {
            request = request.header(header::RANGE, format!("bytes={position}-"));
        }
        request.call().map_err(transport)
    }

    /// Answers a challenge: a token from the realm it names, anonymous or with our password, else the password itself.
    fn authenticate(&self, response: &Response<ureq::Body>) -> Result<Authorization, RequestError> {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<_> = headers.iter().filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect();
        let password = match &self.options.credentials {
            Some(config) => find_credentials(config, self.reference.registry())?,
            None => None,
        };
        for challenge in &challenges {
            match challenge {
                Challenge::Bearer { realm, service, scope } => {
                    let asked = format!("repository:{}:pull", self.reference.repository());
                    return self.token(realm, service.as_deref(), scope.as_deref().unwrap_or(&asked), password.as_ref());
                }
                Challenge::Basic => {
                    if let Some(password) = password {
                        return Ok(password);
                    }
                }
            }
        }
        let what = if challenges.is_empty() { "it refuses us without saying how to authenticate" } else { "it asks for a password" };
        let file = self.options.credentials.as_ref().map_or_else(|| "Docker's config.json".to_owned(), |path| format!("{path:?}"));
        Err(RequestError::Authentication(format!("{what}, and there is none for it under \"auths\" in {file}")))
    }

    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        password: Option<&Authorization>,
    ) -> Result<Authorization, RequestError> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let target: Uri = realm.parse().map_err(|_| RequestError::Authentication(format!("its token service {realm:?} is not a URL")))?;
        let host = target.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if target.scheme_str() != Some("https") && !self.may_use_http(host) {
            return Err(RequestError::Authentication(format!("its token service {realm:?} is not under https")));
        }
        let mut request = self.agent.get(&target).query("scope", scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(password) = password {
            request = request.header(header::AUTHORIZATION, password.header());
        }
        let response = accepted(request.call().map_err(transport)?)?;
        let fetched = read_document(response, ANSWER_BYTES_MAX)?;
        let answer: Token = serde_json::from_slice(&fetched.bytes)
            .map_err(|_| RequestError::Authentication(format!("its token service {realm:?} gave no token")))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| RequestError::Authentication(format!("its token service {realm:?} gave no token")))?;
        Ok(Authorization::bearer(&token))
    }

    /// Plain HTTP is for loopback and for the registries that the operator named.
    fn may_use_http(&self, host: &str) -> bool {
        is_loopback(host) || self.options.plain_http.contains(host)
    }
}

/// Whether `host[:port]` never leaves this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where a `Location` leads: absolute, or a path on the same host.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let target = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?)
    } else {
        location.to_owned()
    };
    let target: Uri = target.parse().ok()?;
    // A user and password in a URL would be sent as credentials.
    (target.scheme().is_some() && !target.authority()?.as_str().contains('@')).then_some(target)
}

/// Queries of blob stores are signatures that grant access: not for messages.
fn without_query(location: &str) -> String {
    location.split('?').next().unwrap_or_default().to_owned()
}

/// Turns every status but success into an error that says what to do.
fn accepted(mut response: Response<ureq::Body>) -> Result<Response<ureq::Body>, RequestError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut body = Vec::new();
    // The message is a courtesy; without it the status must do.
    let _ = response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body);
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "check that the image is public or that a password for it is configured",
        StatusCode::NOT_FOUND => "check the name and the tag",
        StatusCode::RANGE_NOT_SATISFIABLE => "it has fewer bytes than the manifest says",
        StatusCode::TOO_MANY_REQUESTS => "its rate limit is used up: try again later, or log in",
        status if status.is_server_error() => "the registry has a problem: try again later",
        _ => "is this a container registry?",
    };
    Err(RequestError::Status { status, message: message(&body), hint, retry_after: retry_after.map(Duration::from_secs) })
}

/// What an error document says (distribution specification, "Error Codes").
fn message(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let first = &document["errors"][0];
    let said = first["message"].as_str().or_else(|| first["code"].as_str()).unwrap_or_default();
    let clean: String = said.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARACTERS_MAX).collect();
    if clean.is_empty() { clean } else { format!(" ({clean})") }
}

fn read_document(response: Response<ureq::Body>, limit: u64) -> Result<Fetched, RequestError> {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
    let mut bytes = Vec::new();
    response.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes).map_err(RequestError::Body)?;
    if bytes.len() as u64 > limit {
        return Err(RequestError::TooLarge { limit });
    }
    Ok(Fetched { bytes, media_type })
}

fn transport(source: ureq::Error) -> RequestError {
    let hint = match &source {
        ureq::Error::HostNotFound => " (check its name and this host's DNS)",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => " (its certificate is not trusted here; is the package ca-certificates installed?)",
        _ => "",
    };
    RequestError::Transport { hint, source: Box::new(source) }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts() {
        for (host, expected) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("localhost:80", true),
            ("[::1]:5000", true),
            ("127.0.0.1.example:5000", false),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn redirect_targets() {
        let from: Uri = "https://a.example:444/v2/x".parse().unwrap();
        for (location, expected) in [
            ("/blob?x=1", Some("https://a.example:444/blob?x=1")),
            ("https://b.example/blob", Some("https://b.example/blob")),
            ("https://user:pw@b.example/blob", None),
            ("//b.example/blob", None),
            ("blob", None),
            ("", None),
        ] {
            assert_eq!(resolve(&from, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn an_error_document_is_quoted_without_control_characters() {
        let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no \\u001b[31mway\"}]}";
        assert_eq!(message(body.as_bytes()), " (no [31mway)");
        assert_eq!(message(b"<html>"), "");
    }
}
