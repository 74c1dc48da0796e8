//! HTTPS with certificates of an authority that is made for the test. Which authorities are trusted is a matter of the process's
//! environment, so that the fetches happen in processes of their own.

use super::repository::{Habits, HttpServer, Place, source, told};
use crate::source::SourceOptions;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Not a test by itself: fetches once and says what came of it.
#[test]
fn child_that_fetches() {
    let (Some(url), Some(state)) = (std::env::var_os("URL_OF_A_CHILD"), std::env::var_os("STATE_OF_A_CHILD")) else { return };
    let spec = crate::source::SourceSpec::parse(url.to_str().unwrap(), SourceOptions::default()).unwrap();
    let source = crate::source::Source::open(spec, &PathBuf::from(state)).unwrap();
    match source.fetch() {
        Ok(checkout) => println!("\nfetched {}", checkout.revision),
        Err(error) => println!("\nrefused {}", told(&error)),
    }
}

fn openssl(directory: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    output.is_ok_and(|output| output.status.success())
}

/// An authority `ca.pem` and a server's `leaf.pem` for 127.0.0.1; false, loudly, where there is no openssl.
fn certificates(directory: &Path) -> bool {
    std::fs::write(directory.join("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let made = openssl(directory, &format!("{new} -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"))
        && openssl(directory, &format!("{new} -subj /CN=server -keyout leaf.key -out leaf.csr"))
        && openssl(directory, "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out leaf.pem");
    if !made {
        eprintln!("SKIPPED: no openssl to make certificates with; nothing about https was tested");
    }
    made
}

fn fetched(place: &Place, url: &str, authority: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::git::tests::tls::child_that_fetches", "--nocapture"])
        .env("URL_OF_A_CHILD", url)
        .env("STATE_OF_A_CHILD", place.state())
        .env("SSL_CERT_FILE", authority)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn https_is_trusted_by_certificate_alone() {
    let place = Place::new();
    let (ours, other) = (place.path().join("ours"), place.path().join("other"));
    for directory in [&ours, &other] {
        std::fs::create_dir(directory).unwrap();
        if !certificates(directory) {
            return;
        }
    }
    let certificate = CertificateDer::from_pem_file(ours.join("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(ours.join("leaf.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let server = HttpServer::start(place.path(), Habits { tls: Some(Arc::new(config)), ..Habits::default() });
    let told = fetched(&place, &server.url(), &other.join("ca.pem"));
    assert!(told.contains("refused reach https://127.0.0.1") && told.contains("certificate"), "{told}");
    let told = fetched(&place, &server.url(), &ours.join("ca.pem"));
    assert!(told.contains(" first"), "{told}");
    let plain = source(&place, &server.url().replace("https", "http"), SourceOptions::default());
    assert!(plain.fetch().is_err(), "a TLS port does not answer plain requests");
}
