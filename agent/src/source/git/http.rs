//! Smart HTTP (gitprotocol-http(5)): one GET for what there is, one POST for the pack.

use super::metered::{ADVERTISEMENT_BYTES_MAX, CONNECT_TIME, Metered, PACK_BYTES_MAX, explain};
use super::packet::{self, Packet, malformed};
use super::upload_pack::{Advertisement, read_advertisement};
use crate::source::FetchError;
use crate::source::address::{Access, GitAddress};
use crate::source::time_limit::TimeLimit;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use spec::value::Secret;
use std::fs;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use ureq::ResponseExt as _;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// Redirects of the first request: a moved repository takes one, a login page takes us nowhere.
const REDIRECTS_MAX: u32 = 5;
/// Silence after which a connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest password file; tokens have some hundred bytes.
const PASSWORD_BYTES_MAX: u64 = 16 * 1024;

/// A server that has told what it has.
pub(super) struct Session {
    agent: ureq::Agent,
    /// Base address after redirects.
    base: String,
    authorization: Option<String>,
    repository: String,
    limit: TimeLimit,
}

/// The part of an address that is about HTTP.
pub(super) struct Server<'a> {
    pub(super) tls: bool,
    pub(super) authority: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
}

/// Asks a server what it has.
pub(super) fn connect(
    address: &GitAddress,
    server: &Server<'_>,
    access: &Access,
    limit: TimeLimit,
) -> Result<(Advertisement, Session), FetchError> {
    let repository = address.to_string();
    let agent = agent(server.tls, limit);
    let authorization = authorization(server, access)?;
    let mut request = agent
        .get(format!("{repository}/info/refs?service=git-upload-pack"))
        .header("accept", "application/x-git-upload-pack-advertisement, */*")
        .header("pragma", "no-cache");
    if let Some(value) = &authorization {
        request = request.header("authorization", value);
    }
    let response = request.call().map_err(|error| unreachable(error, &repository, limit))?;
    check_status(response.status().as_u16(), &repository, authorization.is_some())?;
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type != "application/x-git-upload-pack-advertisement" {
        let detail = format!("it answers with {content_type:?} and does not speak smart HTTP");
        return Err(FetchError::NotARepository { repository, detail });
    }
    let base = redirected(&response.get_uri().to_string(), server)
        .map_err(|problem| FetchError::Protocol { repository: repository.clone(), problem })?;
    // After a redirect to another host the credentials are not ours to give.
    let authorization = authorization.filter(|_| base.starts_with(&origin(server)));
    let mut body = Metered::new(response.into_body().into_reader(), ADVERTISEMENT_BYTES_MAX, limit);
    let advertisement = read_preface(&mut body)
        .and_then(|()| read_advertisement(&mut body))
        .map_err(|error| explain(error, &repository, ADVERTISEMENT_BYTES_MAX, limit))?;
    Ok((advertisement, Session { agent, base, authorization, repository, limit }))
}

impl Session {
    /// Sends a request and returns the stream of the answer.
    pub(super) fn send(self, body: &[u8]) -> Result<Box<dyn Read>, FetchError> {
        let mut request = self
            .agent
            .post(format!("{}/git-upload-pack", self.base))
            .header("content-type", "application/x-git-upload-pack-request")
            .header("accept", "application/x-git-upload-pack-result");
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let response =
            request.config().max_redirects(0).build().send(body).map_err(|error| unreachable(error, &self.repository, self.limit))?;
        check_status(response.status().as_u16(), &self.repository, self.authorization.is_some())?;
        Ok(Box::new(Metered::new(response.into_body().into_reader(), PACK_BYTES_MAX, self.limit)))
    }
}

fn agent(tls: bool, limit: TimeLimit) -> ureq::Agent {
    // The provider is named here so that nothing depends on which one the process has installed.
    let tls_config = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls_config)
        .https_only(tls)
        .http_status_as_error(false)
        .max_redirects(REDIRECTS_MAX)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .user_agent(concat!("git/host-agent-", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIME))
        .timeout_per_read(Some(SILENCE_MAX))
        .timeout_per_write(Some(SILENCE_MAX))
        .timeout_global(Some(limit.left()))
        .build()
        .new_agent()
}

/// `Basic …` from the URL and the password file; forges take a token as the password of any user.
fn authorization(server: &Server<'_>, access: &Access) -> Result<Option<String>, FetchError> {
    let from_file = match &access.password_file {
        Some(path) => {
            let mut text = String::new();
            fs::File::open(path)
                .and_then(|file| file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
                .map_err(FetchError::local("read the password file", path))?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        None => None,
    };
    let password = from_file.as_deref().or(server.password.map(Secret::reveal));
    if server.user.is_none() && password.is_none() {
        return Ok(None);
    }
    let pair = format!("{}:{}", server.user.unwrap_or("git"), password.unwrap_or_default());
    Ok(Some(format!("Basic {}", STANDARD.encode(pair))))
}

fn origin(server: &Server<'_>) -> String {
    format!("{}://{}/", if server.tls { "https" } else { "http" }, server.authority)
}

/// The repository's address after redirects: they may change host and path, not the kind of the request, and never lead to
/// plain HTTP on another host.
fn redirected(uri: &str, server: &Server<'_>) -> Result<String, String> {
    let base = uri
        .strip_suffix("/info/refs?service=git-upload-pack")
        .ok_or_else(|| format!("it redirects to {uri}, which is not a repository"))?;
    if base.starts_with("http://") && !base.starts_with(&origin(server)) {
        return Err(format!("it redirects to {base}, which is not encrypted"));
    }
    Ok(base.to_owned())
}

/// `# service=git-upload-pack`, then the end of that section.
fn read_preface(reader: &mut impl Read) -> io::Result<()> {
    match packet::read(reader)? {
        Packet::Data(line) if packet::text(&line) == "# service=git-upload-pack" => {}
        other => return Err(malformed(format!("{other:?} where the service should be named"))),
    }
    match packet::read(reader)? {
        Packet::Flush => Ok(()),
        other => Err(malformed(format!("{other:?} where a section should end"))),
    }
}

fn check_status(status: u16, repository: &str, authorized: bool) -> Result<(), FetchError> {
    let repository = repository.to_owned();
    match status {
        200 => Ok(()),
        401 | 403 => {
            let detail = format!("HTTP status {status}");
            let remedy = match authorized {
                true => "the user or token is not accepted: renew it, and check that it may read the repository",
                false => "give a token: --password-file FILE, and the user in the address if it matters",
            };
            Err(FetchError::Authentication { repository, detail, remedy: remedy.into() })
        }
        404 | 410 => Err(FetchError::NotARepository { repository, detail: format!("HTTP status {status}") }),
        429 | 500.. => Err(FetchError::Unreachable { repository, source: format!("HTTP status {status}").into() }),
        _ => Err(FetchError::Protocol { repository, problem: format!("HTTP status {status}") }),
    }
}

fn unreachable(error: ureq::Error, repository: &str, limit: TimeLimit) -> FetchError {
    let repository = repository.to_owned();
    match error {
        ureq::Error::Timeout(_) if limit.is_over() => FetchError::TimedOut { repository, limit: limit.span },
        error => FetchError::Unreachable { repository, source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_encrypted_and_keep_the_request() {
        let server = Server { tls: false, authority: "127.0.0.1:80", user: None, password: None };
        let to = |base: &str| redirected(&format!("{base}/info/refs?service=git-upload-pack"), &server);
        assert_eq!(to("https://other/x").as_deref(), Ok("https://other/x"));
        assert_eq!(to("http://127.0.0.1:80/y").as_deref(), Ok("http://127.0.0.1:80/y"));
        assert!(to("http://other/x").is_err());
        assert!(redirected("https://other/login", &server).is_err());
    }
}
