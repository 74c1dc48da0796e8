//! Who may ask what of whom: passwords, tokens, mirrors.

use super::{Answer, Fixture, Host, Server, chain};
use crate::image::manifest::media_type;
use crate::image::registry::client::Client;
use crate::image::registry::http::{Content, Message};
use crate::image::registry::settings::{Mirror, PolicyRule, Rule, Trust};
use crate::image::registry::token::Scope;
use crate::image::registry::{Access, Credential, Progress, Proxies, PullOptions, Settings, pull, verify_login};
use crate::image::tests::is_root;
use spec::value::{Digest, Secret};
use std::sync::atomic::{AtomicUsize, Ordering};
use ureq::http::Method;

/// `me:s3cret`
const ENTRY: &str = r#"{"auth":"bWU6czNjcmV0"}"#;
const BASIC: &str = "Basic bWU6czNjcmV0";

fn settings(rules: Vec<(&str, Rule)>) -> Settings {
    Settings::new(rules.into_iter().map(|(prefix, rule)| (prefix.parse().unwrap(), rule)).collect())
}

fn mirrors(servers: &[&Server]) -> Rule {
    let mirror = |server: &&Server| Mirror { location: format!("{}/copy", server.address).parse().unwrap(), trust: None, identity: None };
    Rule { mirrors: Some(servers.iter().map(mirror).collect()), ..Rule::default() }
}

fn challenge(realm: &str) -> Answer {
    Answer::new(401, "").with("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="svc""#))
}

#[test]
fn a_challenge_from_where_a_redirect_led_is_not_answered() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::small(), Host::new());
    let elsewhere = Server::start(|request, _| challenge(&format!("http://{}/token", request.headers["host"])));
    let other = elsewhere.address.clone();
    let served = fixture.clone();
    let registry = Server::start(move |request, _| match request.header("authorization") {
        Some(BASIC) if served.is_layer(request) => Answer::new(307, "").with("Location", format!("http://{other}/blob?signature=s1gned")),
        Some(BASIC) => served.answer(request),
        _ => Answer::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
    });
    host.log_in(&registry.address, ENTRY);
    let error = host.pull(&registry).unwrap_err();
    assert!(chain(&error).contains("401"), "{}", chain(&error));
    for request in elsewhere.seen() {
        assert_eq!(request.header("authorization"), None);
        assert!(!request.path.starts_with("/token"), "the password went to {}", request.path);
    }
    assert!(host.is_empty());
}

#[test]
fn a_token_that_runs_out_in_the_middle_is_renewed_once() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::small(), Host::new());
    let served = fixture.clone();
    let issued = AtomicUsize::new(0);
    let registry = Server::start(move |request, _| {
        if request.path.starts_with("/token") {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return Answer::new(200, format!(r#"{{"access_token":"t{number}","expires_in":1}}"#));
        }
        let good = if served.is_layer(request) { "Bearer t2" } else { "Bearer t1" };
        match request.header("authorization") {
            Some(token) if token == good => served.answer(request),
            _ => challenge(&format!("http://{}/token", request.headers["host"])),
        }
    });
    assert_eq!(host.pull(&registry).unwrap(), fixture.id());
    let tokens = registry.seen().iter().filter(|request| request.path.starts_with("/token")).count();
    assert_eq!(tokens, 2);
    assert_eq!(registry.seen().iter().filter(|request| fixture.is_layer(request)).count(), 2, "refused once, then given");
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::small(), Host::new());
    let served = fixture.clone();
    let registry = Server::start(move |request, _| {
        if request.path == "/token" {
            let asked =
                "grant_type=refresh_token&refresh_token=s3cret&service=svc&client_id=host-agent&scope=repository%3Atest%2Fimage%3Apull";
            let fits = request.method == "POST" && request.body == asked;
            return if fits { Answer::new(200, r#"{"access_token":"t"}"#) } else { Answer::new(400, "") };
        }
        match request.header("authorization") {
            Some("Bearer t") => served.answer(request),
            _ => challenge(&format!("http://{}/token", request.headers["host"])),
        }
    });
    host.log_in(&registry.address, r#"{"auth":"bWU6","identitytoken":"s3cret"}"#);
    assert_eq!(host.pull(&registry).unwrap(), fixture.id());
}

#[test]
fn no_failure_shows_a_password() {
    if !is_root() {
        return;
    }
    type Fault = fn(&str) -> Answer;
    let cases: [(Fault, &str); 6] = [
        (|_| Answer::new(401, "").with("WWW-Authenticate", "Basic realm=x"), "refuses the user, password or token"),
        (|own| challenge(&format!("http://{own}/token401")), "refuses the user or password"),
        (|own| challenge(&format!("http://{own}/token500")), "answered 500"),
        (|own| challenge(&format!("http://{own}/token200")), "gave no token"),
        (|own| challenge(&format!("http://{own}/token307")), "redirects elsewhere"),
        (|_| challenge("http://10.0.0.1/token"), "is not under https"),
    ];
    for (fault, expected) in cases {
        let host = Host::new();
        let registry = Server::start(move |request, _| {
            let own = &request.headers["host"];
            match request.path.split('?').next().unwrap() {
                "/token401" => Answer::new(401, ""),
                "/token500" => Answer::new(500, ""),
                "/token200" => Answer::new(200, r#"{"token":"s3cret\r\nX: y"}"#),
                "/token307" => Answer::new(307, "").with("Location", format!("http://{own}/v2/?s3cret")),
                _ => fault(own),
            }
        });
        host.log_in(&registry.address, ENTRY);
        let access = host.access();
        let error = pull(&host.store, &registry.reference(), &PullOptions::new(&access)).unwrap_err();
        let shown = format!("{} {error:?} {access:?}", chain(&error));
        assert!(shown.contains(expected), "{expected}: {shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("bWU6"), "{expected}: {shown}");
        assert!(host.is_empty());
    }
}

#[test]
fn a_password_is_tried_before_it_is_kept() {
    let registry = Server::start(|request, _| match (request.path.as_str(), request.header("authorization")) {
        ("/v2/", Some("Bearer good")) => Answer::new(200, "{}"),
        ("/token?service=svc", Some(BASIC)) => Answer::new(200, r#"{"token":"good"}"#),
        ("/token?service=svc", _) => Answer::new(401, ""),
        _ => challenge(&format!("http://{}/token", request.headers["host"])),
    });
    let credential = |password: &str| Credential::Password { user: "me".into(), password: Secret::new(password) };
    verify_login(&Access::default(), &registry.address, &credential("s3cret")).unwrap();
    let error = verify_login(&Access::default(), &registry.address, &credential("wrong")).unwrap_err();
    assert!(chain(&error).contains("refuses the user or password"), "{}", chain(&error));
}

#[test]
fn mirrors_are_asked_in_order_and_get_nobody_elses_password() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::small();
    let absent = Server::start(|_, _| Answer::new(404, r#"{"errors":[{"message":"manifest unknown"}]}"#));
    let (lies, honest) = (fixture.clone(), fixture.clone());
    let liar = Server::start(move |request, _| {
        let mut answer = lies.answer(request);
        if lies.is_layer(request) {
            answer.body[4] ^= 1;
        }
        answer
    });
    let registry = Server::start(move |request, _| match request.header("authorization") {
        Some(BASIC) => honest.answer(request),
        _ => Answer::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
    });
    let host = Host::new();
    host.log_in(&registry.address, ENTRY);
    let access = Access { settings: settings(vec![(&registry.address, mirrors(&[&absent, &liar]))]), ..host.access() };
    let reference = registry.reference();
    assert_eq!(pull(&host.store, &reference, &PullOptions::new(&access)).unwrap(), fixture.id());
    assert!(absent.seen()[0].path.starts_with("/v2/copy/test/image/manifests/1"), "{:?}", absent.seen());
    assert_eq!(absent.seen().len(), 1, "a mirror is not waited for");
    for request in absent.seen().iter().chain(&liar.seen()) {
        assert_eq!(request.header("authorization"), None);
    }

    let host = Host::new();
    let access = Access { settings: settings(vec![(&registry.address, mirrors(&[&absent, &liar]))]), ..host.access() };
    let text = chain(&pull(&host.store, &reference, &PullOptions::new(&access)).unwrap_err());
    for part in [
        format!("mirror {}: get manifest 1 of copy/test/image", absent.address),
        format!("mirror {}: layer", liar.address),
        format!("registry {}: get manifest 1", registry.address),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    assert!(host.is_empty());
}

#[test]
fn what_the_policy_refuses_is_not_asked_for() {
    let host = Host::new();
    let registry = Server::start(|_, _| Answer::new(500, ""));
    let rule = |policy| Rule { policy, ..Rule::default() };
    let cases = [
        (rule(PolicyRule { allowed: Some(false), ..PolicyRule::default() }), "does not allow images of *"),
        (rule(PolicyRule { digest_required: Some(true), ..PolicyRule::default() }), "named by digest"),
        (Rule { blocked: Some(true), ..Rule::default() }, "blocks registry"),
    ];
    for (rule, expected) in cases {
        let access = Access { settings: settings(vec![("*", rule)]), ..host.access() };
        let text = chain(&pull(&host.store, &registry.reference(), &PullOptions::new(&access)).unwrap_err());
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(registry.seen().is_empty());
}

#[test]
fn an_insecure_registry_without_tls_is_spoken_to_in_the_clear() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::small(), Host::new());
    let served = fixture.clone();
    let registry = Server::start(move |request, _| served.answer(request));
    let insecure = Rule { trust: Some(Trust::Nothing), ..Rule::default() };
    let access = Access { settings: settings(vec![(&registry.address, insecure)]), ..host.access() };
    assert_eq!(pull(&host.store, &registry.reference(), &PullOptions::new(&access)).unwrap(), fixture.id());
    assert!(registry.seen().iter().any(|request| request.path.contains(&Digest::of(&fixture.config).to_string())));
    assert!(registry.seen().iter().any(|request| request.header("accept").is_some_and(|accept| accept.contains(media_type::OCI_INDEX))));
}

#[test]
fn a_part_of_a_file_is_sent_with_its_length() {
    let registry = Server::start(|request, _| match request.header("authorization") {
        Some(BASIC) => Answer::new(201, ""),
        _ => Answer::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
    });
    let host = Host::new();
    host.log_in(&registry.address, ENTRY);
    let path = host.directory.path().join("blob");
    std::fs::write(&path, "0123456789").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let access = host.access();
    let endpoint = access.settings.origin(&registry.address, "test/image");
    let client = Client::new(&endpoint, vec![Scope::push("test/image")], &access, &|_| {});
    let part = Content::Part { file: &file, from: 2, length: 5, sent: &|_| {} };
    let response = client.request("blobs/uploads/1", &Message { method: Method::PUT, headers: Vec::new(), body: part }).unwrap();
    assert_eq!(response.status(), 201);
    let seen = registry.seen();
    assert_eq!(seen.len(), 2, "refused once, then sent again");
    for request in seen {
        assert_eq!((request.method.as_str(), request.header("content-length"), request.body.as_str()), ("PUT", Some("5"), "23456"));
    }
}

#[test]
fn nobody_is_waited_for_who_never_answered() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (name, expected) in [(gone.to_string(), "nothing listens there"), ("registry.invalid".to_owned(), "check its name")] {
        let host = Host::new();
        let retries = AtomicUsize::new(0);
        let progress = |event: Progress<'_>| {
            if matches!(event, Progress::Retrying { .. }) {
                retries.fetch_add(1, Ordering::SeqCst);
            }
        };
        let access = host.access();
        let options = PullOptions { progress: &progress, ..PullOptions::new(&access) };
        let text = chain(&pull(&host.store, &format!("{name}/a:1").parse().unwrap(), &options).unwrap_err());
        assert!(text.contains(expected), "{text}");
        assert_eq!(retries.load(Ordering::SeqCst), 0, "{name}");
    }
}

#[test]
fn connections_go_through_the_proxy_that_the_environment_names() {
    let proxy = Server::start(|_, _| Answer::new(407, ""));
    let host = Host::new();
    let address = format!("http://me:pw@{}", proxy.address);
    let pulled = |direct: &str| {
        let access = Access { proxies: Proxies::new(Some(&address), None, Some(direct)).unwrap(), ..host.access() };
        chain(&pull(&host.store, &"registry.invalid/a:1".parse().unwrap(), &PullOptions::new(&access)).unwrap_err())
    };
    pulled("other.invalid");
    let seen = proxy.seen();
    assert!(
        !seen.is_empty() && seen.iter().all(|request| request.method == "CONNECT" && request.path == "registry.invalid:443"),
        "{seen:?}"
    );
    assert_eq!(seen[0].header("proxy-authorization"), Some("Basic bWU6cHc="));
    let text = pulled("invalid");
    assert!(text.contains("check its name"), "{text}");
    assert_eq!(proxy.seen().len(), seen.len(), "reached directly");
}
