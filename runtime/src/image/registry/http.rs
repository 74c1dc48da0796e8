//! Plain HTTP exchanges with registries: connections, redirects, limits. Knows nothing of images.

use super::access::Access;
use super::authentication::Authorization;
use super::error::RequestError;
use super::patience::{Patience, Steady};
use super::retry;
use super::settings::{Endpoint, Identity, Proof, Trust, is_loopback};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use ureq::SendBody;
use ureq::http::{HeaderName, Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Redirects in a row; registries need one, to where the blobs are.
pub(super) const REDIRECTS_MAX: usize = 5;
/// Most of an answer that is not content: an error document or a token.
pub(super) const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Shown of what a registry says about an error.
const MESSAGE_CHARACTERS_MAX: usize = 300;

/// A body as it comes in, which must make progress.
pub(super) type BodyReader = Steady<ureq::BodyReader<'static>>;

/// A small document: a manifest, a configuration, a token.
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    /// Media type it came with, without parameters.
    pub(super) media_type: Option<String>,
}

/// What is sent. It can be sent again as it is.
pub(super) struct Message<'a> {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Content<'a>,
}

/// The body of a message.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// Part of a file, of which so many bytes must be there; `sent` is told how far into the file was read.
    Part {
        file: &'a File,
        from: u64,
        length: u64,
        sent: &'a (dyn Fn(u64) + Sync),
    },
}

impl Message<'_> {
    /// Without a body.
    pub(super) fn bare(method: Method) -> Self {
        Self { method, headers: Vec::new(), body: Content::None }
    }
}

/// Reads a part of a file without moving its position.
struct PartReader<'a> {
    file: &'a File,
    position: u64,
    end: u64,
    sent: &'a (dyn Fn(u64) + Sync),
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..left], self.position)?;
        self.position += count as u64;
        (self.sent)(self.position);
        Ok(count)
    }
}

/// An answer, and whether it is the registry's own: what another host says, where a redirect led, is no challenge to us.
pub(super) struct Answer {
    pub(super) response: Response<ureq::Body>,
    pub(super) is_first_hand: bool,
}

/// Connections to an endpoint and the hosts it leads to: token services, stores of blobs.
pub(super) struct Http<'a> {
    access: &'a Access,
    endpoint: &'a Endpoint,
    /// By scheme and host.
    agents: Mutex<Vec<(String, ureq::Agent)>>,
    hang_ups: AtomicUsize,
}

impl<'a> Http<'a> {
    pub(super) fn new(access: &'a Access, endpoint: &'a Endpoint) -> Self {
        super::install_crypto_provider();
        Self { access, endpoint, agents: Mutex::default(), hang_ups: AtomicUsize::new(0) }
    }

    /// Sends and follows redirects by hand: credentials go to the first host only, and TLS is never left. A message with a body is
    /// not sent elsewhere.
    pub(super) fn exchange(
        &self,
        first: &Uri,
        message: &Message<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Answer, RequestError> {
        let mut target = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let is_first_hand = (target.scheme(), target.authority()) == (first.scheme(), first.authority());
            let response = self.send(&target, message, authorization.filter(|_| is_first_hand))?;
            let is_read = message.method == Method::GET || message.method == Method::HEAD;
            // 304 is an answer, not a way to one.
            if !is_read || !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(Answer { response, is_first_hand });
            }
            target = self.next(first, &target, &response)?;
        }
        Err(RequestError::Redirect(without_query(&target.to_string())))
    }

    /// Where a redirect leads, if it may be followed.
    fn next(&self, first: &Uri, from: &Uri, response: &Response<ureq::Body>) -> Result<Uri, RequestError> {
        let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
        let target = resolve(from, location).ok_or_else(|| RequestError::Redirect(without_query(location)))?;
        let follows = match target.scheme_str() {
            Some("https") => true,
            Some("http") => first.scheme_str() == Some("http") && self.may_use_http(&target),
            _ => false,
        };
        if follows { Ok(target) } else { Err(RequestError::Redirect(without_query(location))) }
    }

    /// One message to one place, nothing followed. Any status is an answer.
    pub(super) fn send(
        &self,
        target: &Uri,
        message: &Message<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response<ureq::Body>, RequestError> {
        let mut request = Request::builder().method(message.method.clone()).uri(target);
        for (name, value) in &message.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization.header());
        }
        let unusable = |error: ureq::http::Error| RequestError::transport(ureq::Error::Http(error), None);
        let agent = self.agent_for(target);
        let answered = match message.body {
            Content::None => agent.run(request.body(()).map_err(unusable)?),
            Content::Bytes(bytes) => agent.run(request.body(bytes).map_err(unusable)?),
            Content::Part { file, from, length, sent } => {
                let mut reader = PartReader { file, position: from, end: from + length, sent };
                let body = SendBody::from_reader(&mut reader);
                agent.run(request.header(header::CONTENT_LENGTH, length).body(body).map_err(unusable)?)
            }
        };
        answered.map_err(|error| RequestError::transport(error, self.proof_for(host_of(target)).identity.as_ref()))
    }

    /// Plain HTTP is for loopback and for the registries that the operator named.
    pub(super) fn may_use_http(&self, target: &Uri) -> bool {
        let host = host_of(target);
        is_loopback(host)
            || (host == self.endpoint.host && self.endpoint.may_use_http())
            || matches!(self.access.settings.proof_of_host(host).trust, Trust::Nothing)
    }

    /// The body of an answer that counts.
    pub(super) fn body(&self, response: Response<ureq::Body>) -> BodyReader {
        Steady::new(response.into_body().into_reader(), self.access.patience)
    }

    /// Reads a small document whole.
    pub(super) fn document(&self, response: Response<ureq::Body>, limit: u64) -> Result<Fetched, RequestError> {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
        let mut bytes = Vec::new();
        self.body(response).take(limit + 1).read_to_end(&mut bytes).map_err(RequestError::Body)?;
        if bytes.len() as u64 > limit {
            return Err(RequestError::TooLarge { limit });
        }
        Ok(Fetched { bytes, media_type })
    }

    /// Interrupts all that is under way, whoever waits for it. What comes after has connections of its own.
    pub(super) fn hang_up(&self) {
        self.hang_ups.fetch_add(1, Ordering::SeqCst);
        let agents = std::mem::take(&mut *self.agents.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, agent) in agents {
            agent.shutdown();
        }
    }

    /// How often that was done: what broke meanwhile may have been broken off.
    pub(super) fn hang_ups(&self) -> usize {
        self.hang_ups.load(Ordering::SeqCst)
    }

    fn proof_for(&self, host: &str) -> Proof {
        match self.access.settings.proof_of_host(host) {
            _ if host == self.endpoint.host => self.endpoint.proof.clone(),
            Proof { trust: Trust::System, identity } if is_loopback(host) => Proof { trust: Trust::Nothing, identity },
            proof => proof,
        }
    }

    fn agent_for(&self, target: &Uri) -> ureq::Agent {
        let (scheme, host) = (target.scheme_str().unwrap_or_default(), host_of(target));
        let key = format!("{scheme}://{host}");
        // A thread that panicked has pushed a whole entry or none.
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, agent)) = agents.iter().find(|(known, _)| *known == key) {
            return agent.clone();
        }
        let agent = agent(&self.proof_for(host), &self.access.patience, self.access.proxies.find(scheme, host));
        agents.push((key, agent.clone()));
        agent
    }
}

fn agent(proof: &Proof, patience: &Patience, proxy: Option<ureq::Proxy>) -> ureq::Agent {
    let tls = match &proof.trust {
        Trust::System => TlsConfig::builder().root_certs(RootCerts::PlatformVerifier),
        Trust::Authorities(own) => TlsConfig::builder().root_certs(RootCerts::new_with_certs(&with_system(own))),
        Trust::Nothing => TlsConfig::builder().disable_verification(true),
    };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.silence))
        .timeout_per_write(Some(patience.silence))
        .timeout_recv_response(Some(patience.silence))
        .user_agent(concat!("host-agent/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity") // what is hashed must be what was sent
        .proxy(proxy)
        .tls_config(tls.client_cert(proof.identity.as_ref().map(Identity::certificate)).build());
    config.build().new_agent()
}

/// These authorities and the system's, as Docker takes them: a registry whose certificate changes to one that everybody trusts is
/// still reached. What of the system's cannot be read vouches for nobody.
fn with_system(own: &[Certificate<'static>]) -> Vec<Certificate<'static>> {
    let system = rustls_native_certs::load_native_certs().certs;
    system.iter().map(|it| Certificate::from_der(it).to_owned()).chain(own.iter().cloned()).collect()
}

/// `host[:port]` of a URL.
fn host_of(target: &Uri) -> &str {
    target.authority().map(|authority| authority.as_str()).unwrap_or_default()
}

/// Where a `Location` leads: absolute, or a path on the same host.
pub(super) fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let target = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?)
    } else {
        location.to_owned()
    };
    let target: Uri = target.parse().ok()?;
    // A user and password in a URL would be sent as credentials.
    (target.scheme().is_some() && !target.authority()?.as_str().contains('@')).then_some(target)
}

/// Queries of blob stores are signatures that grant access, and what stands before an @ is a password: not for messages.
pub(super) fn without_query(location: &str) -> String {
    let path = location.split('?').next().unwrap_or_default();
    match path.rsplit_once('@') {
        Some((before, after)) => {
            format!("{}***@{after}", before.split_inclusive("://").next().filter(|it| it.ends_with("://")).unwrap_or_default())
        }
        None => path.to_owned(),
    }
}

/// Turns every status but success into an error that says what to do.
pub(super) fn accepted(mut response: Response<ureq::Body>) -> Result<Response<ureq::Body>, RequestError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| retry::asked(value.to_str().ok()?, SystemTime::now()));
    let mut body = Vec::new();
    // The message is a courtesy; without it the status must do.
    let _ = response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body);
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "check that the image is public or log in (agent image login)",
        StatusCode::NOT_FOUND => "check the name and the tag",
        StatusCode::RANGE_NOT_SATISFIABLE => "it has fewer bytes than the manifest says",
        StatusCode::TOO_MANY_REQUESTS => "its rate limit is used up: try again later, or log in",
        status if status.is_server_error() => "the registry has a problem: try again later",
        _ => "is this a container registry?",
    };
    Err(RequestError::Status { status, message: message(&body), hint, retry_after })
}

/// What an error document says (distribution specification, "Error Codes").
fn message(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let first = &document["errors"][0];
    let said = first["message"].as_str().or_else(|| first["code"].as_str()).unwrap_or_default();
    let clean: String = said.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARACTERS_MAX).collect();
    if clean.is_empty() { clean } else { format!(" ({clean})") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn tls_is_never_left() {
        let access = Access::default();
        let reference: spec::value::ImageReference = "registry.example/a".parse().unwrap();
        let endpoint = &access.settings.sources(&reference)[0];
        let http = Http::new(&access, endpoint);
        let leads = |first: &str, location: &str| {
            let response = Response::builder().status(307).header(header::LOCATION, location).body(ureq::Body::builder().data("")).unwrap();
            let first = first.parse().unwrap();
            http.next(&first, &first, &response).is_ok()
        };
        assert!(leads("https://registry.example/v2/", "https://blobs.example/x"));
        assert!(!leads("https://registry.example/v2/", "http://registry.example/x"));
        assert!(!leads("https://registry.example/v2/", "http://127.0.0.1/x"), "not even to loopback");
        assert!(leads("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/x"));
        assert!(!leads("http://127.0.0.1:5000/v2/", "http://blobs.example/x"));
    }

    #[test]
    fn messages_quote_no_secrets_of_a_location() {
        for (location, expected) in [
            ("https://b.example/blob?sig=s3cret", "https://b.example/blob"),
            ("https://user:s3cret@b.example/blob", "https://***@b.example/blob"),
            ("/blob", "/blob"),
        ] {
            assert_eq!(without_query(location), expected);
        }
    }

    #[test]
    fn an_error_document_is_quoted_without_control_characters() {
        let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no \\u001b[31mway\"}]}";
        assert_eq!(message(body.as_bytes()), " (no [31mway)");
        assert_eq!(message(b"<html>"), "");
    }
}
