//! How this host reaches registries: `<config-dir>/registries.yaml` with the files it names, Docker's and podman's directories of
//! certificates, proxies, and where passwords are kept.

use runtime::image::registry::settings::{Identity, Mirror, PolicyRule, Rule, Trust, certificates};
use runtime::image::registry::signature::PublicKey;
use runtime::image::registry::{Access, CredentialFiles, CredentialPlaces, Proxies, ProxyError, Settings};
use runtime::places::Places;
use spec::Diagnostic;
use spec::manifest::TextOrMap;
use spec::registries::{self, Client, Registry};
use spec::value::{ImagePrefix, RegistryLocation};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The file in the configuration directory.
const FILE: &str = "registries.yaml";
/// Where Docker and podman look for certificates, each registry in a directory of its name: authorities end in `.crt`, certificates
/// of this host in `.cert` with the key beside them in `.key` (containers-certs.d(5)).
const CERTIFICATE_DIRECTORIES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];

/// Why the settings of registries cannot be used. Nothing is pulled then: the file may forbid it.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// A file that cannot be read.
    #[error("read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Problems, each with its place.
    #[error("{}", List(.0))]
    Invalid(Vec<Diagnostic>),
    /// A file it names is not what it should be.
    #[error("{path:?}, which {FILE} names for {prefix}")]
    Named {
        /// The file.
        path: PathBuf,
        /// Under which prefix.
        prefix: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file among Docker's and podman's certificates.
    #[error("{path:?}, a certificate for connections to {registry}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The registry that its directory is named after.
        registry: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The environment.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Problems as lines.
struct List<'a>(&'a [Diagnostic]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let at = &problem.place.location;
            let help = problem.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{}:{}: {}{help}", at.file, at.line, at.column, problem.message)?;
        }
        Ok(())
    }
}

/// What is needed to speak to registries. An absent file sets nothing.
pub fn registry_access(places: &Places) -> Result<Access, RegistriesError> {
    let variable = |name: &str| [name.to_owned(), name.to_ascii_lowercase()].into_iter().find_map(|name| std::env::var(name).ok());
    let [https, http, direct] = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"].map(variable);
    let proxies = Proxies::new(https.as_deref(), http.as_deref(), direct.as_deref())?;
    let mut access = Access::new(registry_settings(&places.config)?, credential_files());
    access.proxies = proxies;
    Ok(access)
}

/// The settings of a configuration directory, with the certificates and keys they name.
pub fn registry_settings(config: &Path) -> Result<Settings, RegistriesError> {
    let mut rules = written_rules(config)?;
    for directory in CERTIFICATE_DIRECTORIES {
        add_certificates(&mut rules, Path::new(directory))?;
    }
    Ok(Settings::new(rules))
}

type Rules = BTreeMap<ImagePrefix, Rule>;

fn written_rules(config: &Path) -> Result<Rules, RegistriesError> {
    let path = config.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Rules::new()),
        Err(source) => return Err(RegistriesError::Read { path, source }),
    };
    let read = registries::parse_registries(&path.to_string_lossy(), &bytes).map_err(RegistriesError::Invalid)?;
    let rules = read.into_iter().map(|(prefix, registry)| {
        let rule = rule(config, &prefix, &registry)?;
        Ok((prefix, rule))
    });
    rules.collect()
}

/// Adds what a directory of certificates has for registries of which nothing is said yet.
fn add_certificates(rules: &mut Rules, directory: &Path) -> Result<(), RegistriesError> {
    for place in listed(directory)? {
        let registry = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Other tools put up with other names there: none of them is a registry's.
        let Ok(prefix) = registry.parse::<ImagePrefix>() else { continue };
        let named = |path: &Path, source| RegistriesError::Certificate { path: path.to_owned(), registry: registry.clone(), source };
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| named(path, Box::new(error)));
        let (mut authorities, mut identity) = (Vec::new(), None);
        for path in listed(&place)? {
            match path.extension().and_then(|end| end.to_str()) {
                Some("crt") => authorities.extend(certificates(&read(&path)?).map_err(|error| named(&path, Box::new(error)))?),
                Some("cert") if identity.is_none() => {
                    let (certificate, key) = (read(&path)?, read(&path.with_extension("key"))?);
                    identity = Some(Identity::from_pem(&certificate, &key).map_err(|error| named(&path, Box::new(error)))?);
                }
                _ => {}
            }
        }
        let rule = rules.entry(prefix).or_default();
        rule.trust = rule.trust.take().or((!authorities.is_empty()).then_some(Trust::Authorities(authorities)));
        rule.identity = rule.identity.take().or(identity);
    }
    Ok(())
}

/// What is in a directory, sorted; nothing if there is none.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, RegistriesError> {
    let failed = |source| RegistriesError::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Where Docker and podman keep passwords.
pub fn credential_files() -> CredentialFiles {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A service of the system has no HOME; what root logged in to counts for it all the same. So it is with podman's file.
    let of_root = |path: &str| rustix::process::geteuid().is_root().then(|| path.into());
    let runtime_dir = path("XDG_RUNTIME_DIR");
    CredentialFiles::usual(CredentialPlaces {
        docker_config: path("DOCKER_CONFIG"),
        auth_file: path("REGISTRY_AUTH_FILE").or_else(|| runtime_dir.is_none().then(|| of_root("/run/containers/0/auth.json")).flatten()),
        runtime_dir,
        config_home: path("XDG_CONFIG_HOME"),
        home: path("HOME").or_else(|| of_root("/root")),
    })
}

fn rule(config: &Path, prefix: &ImagePrefix, registry: &Registry) -> Result<Rule, RegistriesError> {
    let named = Named { config, prefix };
    let mirrors = registry.mirrors.as_ref().map(|mirrors| mirrors.iter().map(|mirror| named.mirror(mirror)).collect());
    let policy = registry.policy.clone().unwrap_or_default();
    let keys = policy.cosign_keys.map(|files| files.iter().map(|file| named.key(file)).collect());
    Ok(Rule {
        mirrors: mirrors.transpose()?,
        trust: named.trust(registry.insecure, registry.ca.as_deref())?,
        identity: registry.client.as_ref().map(|client| named.identity(client)).transpose()?,
        blocked: registry.blocked,
        policy: PolicyRule { allowed: policy.allowed, digest_required: policy.digest_required, keys: keys.transpose()? },
    })
}

/// Files named for a prefix.
struct Named<'a> {
    config: &'a Path,
    prefix: &'a ImagePrefix,
}

impl Named<'_> {
    fn mirror(&self, mirror: &TextOrMap<RegistryLocation, registries::Mirror>) -> Result<Mirror, RegistriesError> {
        Ok(match mirror {
            TextOrMap::Short(location) => Mirror { location: location.clone(), trust: None, identity: None },
            TextOrMap::Long(mirror) => Mirror {
                location: mirror.url.clone(),
                trust: self.trust(mirror.insecure, mirror.ca.as_deref())?,
                identity: mirror.client.as_ref().map(|client| self.identity(client)).transpose()?,
            },
        })
    }

    fn identity(&self, client: &Client) -> Result<Identity, RegistriesError> {
        let key = self.read(&client.key, |text| Ok::<_, std::convert::Infallible>(text.to_owned()))?;
        self.read(&client.certificate, |certificate| Identity::from_pem(certificate, &key))
    }

    /// `None` if nothing is said.
    fn trust(&self, insecure: Option<bool>, ca: Option<&str>) -> Result<Option<Trust>, RegistriesError> {
        match (ca, insecure) {
            (Some(file), _) => self.read(file, |text| certificates(text).map(Trust::Authorities)).map(Some),
            (None, Some(true)) => Ok(Some(Trust::Nothing)),
            (None, Some(false)) => Ok(Some(Trust::System)),
            (None, None) => Ok(None),
        }
    }

    fn key(&self, file: &str) -> Result<PublicKey, RegistriesError> {
        self.read(file, PublicKey::from_pem)
    }

    fn read<T, E>(&self, file: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, RegistriesError>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let path = self.config.join(file);
        let failed = |source| RegistriesError::Named { path: path.clone(), prefix: self.prefix.to_string(), source };
        let text = std::fs::read_to_string(&path).map_err(|error| failed(Box::new(error)))?;
        parse(&text).map_err(|error| failed(Box::new(error)))
    }
}
