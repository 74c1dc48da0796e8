//! A certificate authority of one's own, made with openssl: for servers that speak TLS.

use crate::host::Ran;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority and what it signed, in a directory.
pub struct Authority {
    directory: PathBuf,
}

/// A certificate and its key.
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, in a new directory.
    pub fn new(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let authority = Self { directory: directory.to_owned() };
        let (key, certificate) = (authority.path("ca.key"), authority.path("ca.pem"));
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let subject = format!("/CN=authority {name}");
        openssl(
            &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", &subject],
            &["-keyout", &key, "-out", &certificate],
        )?;
        Ok(authority)
    }

    /// The certificate that servers are checked against.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A certificate for a server at an address.
    pub fn sign(&self, address: &str) -> Result<Identity> {
        self.issue("server", &format!("subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth\n"), "2")
    }

    /// The same, out of date since yesterday.
    pub fn sign_expired(&self, address: &str) -> Result<Identity> {
        self.issue("expired", &format!("subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth\n"), "-1")
    }

    /// A certificate for a client.
    pub fn sign_client(&self) -> Result<Identity> {
        self.issue("client", "extendedKeyUsage=clientAuth\n", "2")
    }

    fn issue(&self, name: &str, extensions: &str, days: &str) -> Result<Identity> {
        let [key, request, certificate, file] = ["key", "csr", "pem", "ext"].map(|end| self.path(&format!("{name}.{end}")));
        let new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", &format!("/CN={name}")];
        openssl(&new, &["-keyout", &key, "-out", &request])?;
        fs::write(&file, format!("{extensions}basicConstraints=CA:FALSE\n"))?;
        let (authority, authority_key) = (self.path("ca.pem"), self.path("ca.key"));
        openssl(
            &["x509", "-req", "-days", days, "-CAcreateserial"],
            &["-in", &request, "-CA", &authority, "-CAkey", &authority_key, "-extfile", &file, "-out", &certificate],
        )?;
        Ok(Identity { certificate: certificate.into(), key: key.into() })
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}

/// Runs openssl; its output if it ended well.
pub fn openssl(command: &[&str], more: &[&str]) -> Result<String> {
    Ran::from(Command::new("openssl").args(command).args(more).output()?).ok()
}
