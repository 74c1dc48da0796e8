//! How this host reaches registries: `<config-dir>/registries.yaml` with the files it names, and where passwords are kept.

use runtime::image::registry::settings::{Mirror, PolicyRule, Rule, Trust, certificates};
use runtime::image::registry::signature::PublicKey;
use runtime::image::registry::{Access, CredentialFiles, Settings};
use runtime::places::Places;
use spec::Diagnostic;
use spec::manifest::TextOrMap;
use spec::registries::{self, Registry};
use spec::value::{ImagePrefix, RegistryLocation};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The file in the configuration directory.
const FILE: &str = "registries.yaml";

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
    Ok(Access::new(registry_settings(&places.config)?, credential_files()))
}

/// The settings of a configuration directory, with the certificates and keys they name.
pub fn registry_settings(config: &Path) -> Result<Settings, RegistriesError> {
    let path = config.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(source) => return Err(RegistriesError::Read { path, source }),
    };
    let read = registries::parse_registries(&path.to_string_lossy(), &bytes).map_err(RegistriesError::Invalid)?;
    let rules = read.into_iter().map(|(prefix, registry)| {
        let rule = rule(config, &prefix, &registry)?;
        Ok((prefix, rule))
    });
    Ok(Settings::new(rules.collect::<Result<BTreeMap<_, _>, RegistriesError>>()?))
}

/// Where Docker and podman keep passwords.
pub fn credential_files() -> CredentialFiles {
    let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A service of the system has no HOME; what root logged in to counts for it all the same.
    let home = directory("HOME").or_else(|| rustix::process::geteuid().is_root().then(|| "/root".into()));
    CredentialFiles::usual(directory("DOCKER_CONFIG"), home, directory("XDG_RUNTIME_DIR"))
}

fn rule(config: &Path, prefix: &ImagePrefix, registry: &Registry) -> Result<Rule, RegistriesError> {
    let named = Named { config, prefix };
    let mirrors = registry.mirrors.as_ref().map(|mirrors| mirrors.iter().map(|mirror| named.mirror(mirror)).collect());
    let policy = registry.policy.clone().unwrap_or_default();
    let keys = policy.cosign_keys.map(|files| files.iter().map(|file| named.key(file)).collect());
    Ok(Rule {
        mirrors: mirrors.transpose()?,
        trust: named.trust(registry.insecure, registry.ca.as_deref())?,
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
        let (location, trust) = match mirror {
            TextOrMap::Short(location) => (location, None),
            TextOrMap::Long(mirror) => (&mirror.url, self.trust(mirror.insecure, mirror.ca.as_deref())?),
        };
        Ok(Mirror { location: location.clone(), trust })
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
