//! Where images come from and which may be used, per prefix of their names. Pure: plain values, filled in by the caller.
//!
//! Each setting counts by itself: of the prefixes that cover a name and state it, the longest wins. So a rule for `docker.io` that
//! only adds a mirror leaves in force what `*` says about signatures.

use super::signature::PublicKey;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use spec::value::{ImagePrefix, ImageReference, RegistryLocation, Scheme};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

/// Where Docker Hub serves what is called `docker.io`.
const HUB_HOST: &str = "registry-1.docker.io";
/// What Docker Hub is called in names.
const HUB: &str = "docker.io";

/// How registries are reached, by prefix of the images' names.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    rules: BTreeMap<ImagePrefix, Rule>,
}

/// What is said for one prefix; `None` leaves it to shorter prefixes.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Where to ask before the registry itself, in order. The prefix is replaced by the mirror's location.
    pub mirrors: Option<Vec<Mirror>>,
    /// How the registry proves who it is.
    pub trust: Option<Trust>,
    /// How this host proves to it who it is, before any password.
    pub identity: Option<Identity>,
    /// Nothing is pulled from it or pushed to it.
    pub blocked: Option<bool>,
    /// Which images may be used.
    pub policy: PolicyRule,
}

/// What is said about the images of one prefix; `None` leaves it to shorter prefixes.
#[derive(Debug, Clone, Default)]
pub struct PolicyRule {
    /// Whether they may be used at all.
    pub allowed: Option<bool>,
    /// Whether they must be named by digest.
    pub digest_required: Option<bool>,
    /// One of these must have signed them; none: no signature is asked for.
    pub keys: Option<Vec<PublicKey>>,
}

/// A place that has the same images.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Where it is.
    pub location: RegistryLocation,
    /// How it proves who it is; `None`: as its own rule says, if it has one.
    pub trust: Option<Trust>,
    /// How this host proves who it is; `None`: as its own rule says.
    pub identity: Option<Identity>,
}

/// How a server proves who it is.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// By a certificate that this host's authorities vouch for.
    #[default]
    System,
    /// By a certificate that one of these authorities vouches for, or one of this host's.
    Authorities(Vec<Certificate<'static>>),
    /// Not at all: TLS without verification, else plain HTTP, as Docker's `insecure-registries`.
    Nothing,
}

/// A certificate of this host for TLS, with the key to it.
#[derive(Clone)]
pub struct Identity(ClientCert);

/// How both ends of a connection prove who they are.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof {
    pub(super) trust: Trust,
    pub(super) identity: Option<Identity>,
}

/// What the policy says about one image.
#[derive(Debug, Clone)]
pub struct Policy<'a> {
    /// Whether it may be used.
    pub allowed: bool,
    /// Whether it must be named by digest.
    pub digest_required: bool,
    /// One of these must have signed it; empty: no signature is asked for.
    pub keys: &'a [PublicKey],
    /// The prefix that says so, for messages.
    pub prefix: &'a ImagePrefix,
}

/// One repository at one of the places where it can be had.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Whose passwords count, and what it is called in messages: `docker.io`, `mirror.example:5000`.
    pub(super) registry: String,
    /// Where requests go: `registry-1.docker.io`.
    pub(super) host: String,
    /// The repository as it is called there.
    pub(super) repository: String,
    pub(super) proof: Proof,
    /// What to try, in order; the first that the server speaks is kept.
    pub(super) schemes: &'static [Scheme],
    /// Whether another place is asked if this one fails.
    pub(super) is_mirror: bool,
}

impl Settings {
    /// From the rules for each prefix.
    pub fn new(rules: BTreeMap<ImagePrefix, Rule>) -> Self {
        Self { rules }
    }

    /// Whether nothing may be pulled from there or pushed to there.
    pub fn is_blocked(&self, reference: &ImageReference) -> bool {
        self.stated(reference.registry(), reference.repository(), |rule| rule.blocked.as_ref()).is_some_and(|(_, blocked)| *blocked)
    }

    /// What the policy says about an image; `None` where nothing is said at all.
    pub fn policy(&self, reference: &ImageReference) -> Option<Policy<'_>> {
        let (registry, repository) = (reference.registry(), reference.repository());
        let allowed = self.stated(registry, repository, |rule| rule.policy.allowed.as_ref());
        let digest = self.stated(registry, repository, |rule| rule.policy.digest_required.as_ref());
        let keys = self.stated(registry, repository, |rule| rule.policy.keys.as_ref());
        let prefixes = [allowed.map(|(prefix, _)| prefix), digest.map(|(prefix, _)| prefix), keys.map(|(prefix, _)| prefix)];
        let prefix = prefixes.into_iter().flatten().max_by_key(|prefix| prefix.length())?;
        Some(Policy {
            allowed: allowed.is_none_or(|(_, allowed)| *allowed),
            digest_required: digest.is_some_and(|(_, required)| *required),
            keys: keys.map_or(&[], |(_, keys)| keys.as_slice()),
            prefix,
        })
    }

    /// Where to pull from: the mirrors in order, then the registry itself.
    pub(super) fn sources(&self, reference: &ImageReference) -> Vec<Endpoint> {
        let (registry, repository) = (reference.registry(), reference.repository());
        let mirrors = self.stated(registry, repository, |rule| rule.mirrors.as_ref());
        let mirrors = mirrors.into_iter().flat_map(|(prefix, mirrors)| {
            let rest = prefix.rest(registry, repository).unwrap_or_default();
            mirrors.iter().map(move |mirror| self.mirror(mirror, &rest))
        });
        mirrors.chain(std::iter::once(self.origin(registry, repository))).collect()
    }

    /// A mirror's part of what is called `rest` below the prefix that it stands in for.
    fn mirror(&self, mirror: &Mirror, rest: &str) -> Endpoint {
        let (host, path) = (mirror.location.host(), mirror.location.path());
        let repository = [path, rest].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let Proof { trust, identity } = self.proof(host, &repository);
        let proof = Proof { trust: mirror.trust.clone().unwrap_or(trust), identity: mirror.identity.clone().or(identity) };
        Endpoint { is_mirror: true, ..Endpoint::new(host, host, &repository, proof, mirror.location.scheme()) }
    }

    /// The registry itself: where to push to and log in at.
    pub(super) fn origin(&self, registry: &str, repository: &str) -> Endpoint {
        let host = if registry == HUB { HUB_HOST } else { registry };
        Endpoint::new(registry, host, repository, self.proof(registry, repository), None)
    }

    /// How a server beside the registry proves who it is, and we to it: a token service, a store of blobs.
    pub(super) fn proof_of_host(&self, host: &str) -> Proof {
        self.proof(host, "")
    }

    fn proof(&self, registry: &str, repository: &str) -> Proof {
        let trust = self.stated(registry, repository, |rule| rule.trust.as_ref());
        let identity = self.stated(registry, repository, |rule| rule.identity.as_ref());
        Proof { trust: trust.map(|(_, trust)| trust.clone()).unwrap_or_default(), identity: identity.map(|(_, it)| it.clone()) }
    }

    /// What the longest prefix says that covers the name and says anything.
    fn stated<'a, T>(
        &'a self,
        registry: &str,
        repository: &str,
        setting: impl Fn(&'a Rule) -> Option<&'a T>,
    ) -> Option<(&'a ImagePrefix, &'a T)> {
        let covering = self.rules.iter().filter(|(prefix, _)| prefix.covers(registry, repository));
        covering.filter_map(|(prefix, rule)| Some((prefix, setting(rule)?))).max_by_key(|(prefix, _)| prefix.length())
    }
}

impl Endpoint {
    fn new(registry: &str, host: &str, repository: &str, proof: Proof, scheme: Option<Scheme>) -> Self {
        use Scheme::{Http, Https};
        let Proof { trust, identity } = proof;
        let (trust, schemes): (_, &'static [Scheme]) = match (trust, scheme) {
            (trust, Some(Https)) => (trust, &[Https]),
            (trust, Some(Http)) => (trust, &[Http]),
            (Trust::Nothing, None) => (Trust::Nothing, &[Https, Http]),
            // As with Docker nothing is asked of loopback. Most registries there have no TLS.
            (Trust::System, None) if is_loopback(host) => (Trust::Nothing, &[Http, Https]),
            (trust @ (Trust::System | Trust::Authorities(_)), None) => (trust, &[Https]),
        };
        let (registry, host, repository) = (registry.to_owned(), host.to_owned(), repository.to_owned());
        Self { registry, host, repository, proof: Proof { trust, identity }, schemes, is_mirror: false }
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> String {
        if self.is_mirror { format!("mirror {}", self.host) } else { format!("registry {}", self.registry) }
    }

    /// Whether plain HTTP may be spoken here.
    pub(super) fn may_use_http(&self) -> bool {
        self.schemes.contains(&Scheme::Http)
    }
}

/// Why a file holds no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// Not PEM.
    #[error("it is not a certificate in PEM form")]
    Pem(#[source] ureq::Error),
    /// PEM of something else.
    #[error("there is no certificate in it")]
    None,
    /// No key to a certificate.
    #[error("there is no private key in it, or one in a form that is not read: PKCS #8, PKCS #1 and SEC 1 are, unencrypted")]
    NoKey,
    /// The key of another certificate, or a kind of key that TLS does not use.
    #[error("the private key is not that of the certificate")]
    OtherKey(#[source] rustls::Error),
}

impl Identity {
    /// From a certificate with its chain and its key, both PEM; in one text or two.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CertificatesError> {
        let chain = certificates(certificate)?;
        let no_key = |_| CertificatesError::NoKey;
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(no_key)?;
        // Here, for the connection would panic on it.
        let first = chain.iter().map(|it| CertificateDer::from(it.der().to_owned())).collect();
        CertifiedKey::from_der(first, der, &Arc::new(rustls::crypto::ring::default_provider())).map_err(CertificatesError::OtherKey)?;
        let key = PrivateKey::from_pem(key.as_bytes()).map_err(|_| CertificatesError::NoKey)?;
        Ok(Self(ClientCert::new_with_certs(&chain, key)))
    }

    pub(super) fn certificate(&self) -> ClientCert {
        self.0.clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

/// The certificates of a PEM file.
pub fn certificates(text: &str) -> Result<Vec<Certificate<'static>>, CertificatesError> {
    let items = parse_pem(text.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(CertificatesError::Pem)?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None, // a private key beside it, for instance
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() { Err(CertificatesError::None) } else { Ok(certificates) }
}

/// Whether `host[:port]` never leaves this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rules: Vec<(&str, Rule)>) -> Settings {
        Settings::new(rules.into_iter().map(|(prefix, rule)| (prefix.parse().unwrap(), rule)).collect())
    }

    fn mirror(location: &str) -> Mirror {
        Mirror { location: location.parse().unwrap(), trust: None, identity: None }
    }

    fn places(settings: &Settings, reference: &str) -> Vec<String> {
        let sources = settings.sources(&reference.parse().unwrap());
        sources.iter().map(|it| format!("{}://{}/{}", it.schemes[0].as_str(), it.host, it.repository)).collect()
    }

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
    fn mirrors_come_first_and_take_the_place_of_the_prefix() {
        let of = |mirrors: &[&str]| Rule { mirrors: Some(mirrors.iter().map(|it| mirror(it)).collect()), ..Rule::default() };
        let settings = settings(vec![
            ("docker.io", of(&["m.example", "http://n.example:5000/hub"])),
            ("docker.io/library", of(&["l.example/official"])),
        ]);
        assert_eq!(
            places(&settings, "team/app"),
            ["https://m.example/team/app", "http://n.example:5000/hub/team/app", "https://registry-1.docker.io/team/app"]
        );
        assert_eq!(places(&settings, "nginx"), ["https://l.example/official/nginx", "https://registry-1.docker.io/library/nginx"]);
        assert_eq!(places(&settings, "127.0.0.1:5000/a"), ["http://127.0.0.1:5000/a"]);
    }

    #[test]
    fn of_each_setting_the_longest_prefix_wins() {
        let closed = Rule { policy: PolicyRule { allowed: Some(false), ..PolicyRule::default() }, ..Rule::default() };
        let open = PolicyRule { allowed: Some(true), digest_required: Some(true), ..PolicyRule::default() };
        let settings = settings(vec![
            ("*", closed),
            ("r.example", Rule { mirrors: Some(vec![mirror("m.example")]), blocked: Some(true), ..Rule::default() }),
            ("r.example/team", Rule { policy: open, blocked: Some(false), ..Rule::default() }),
        ]);
        let said = |name: &str| {
            let reference = name.parse().unwrap();
            let policy = settings.policy(&reference).unwrap();
            (policy.allowed, policy.digest_required, settings.is_blocked(&reference))
        };
        assert_eq!(said("nginx"), (false, false, false));
        assert_eq!(said("r.example/other"), (false, false, true), "a rule that says nothing of it leaves it as it is");
        assert_eq!(said("r.example/team/app"), (true, true, false));
        assert!(Settings::default().policy(&"nginx".parse().unwrap()).is_none());
    }
}
