//! Real software, used by its real clients: a Debian root file system made here, packages installed in it in builds.
//!
//! Only the builds need the package mirror and the registries of languages, those this machine is configured with: they run in the
//! machine's own network (`--network host`, so that nothing of the machine's is changed for them) and fill the cache. Everything else
//! happens on a host of its own, where there is no way out. That a step's own network leads out is the network room's own case.

mod apps;
mod postgres;
mod shop;

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use tests::host::{Host, Ran, program};

/// What apt, pip and npm say when what they ask is the problem, and not we.
const MIRROR_IS_AWAY: &[&str] = &[
    "Could not resolve",
    "Temporary failure resolving",
    "Could not connect",
    "Unable to connect",
    "Connection failed",
    "Failed to fetch",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ETIMEDOUT",
];

/// Begins every image that has packages: no service is started by its installation.
const NO_SERVICES: &str = "RUN printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d\n";

/// A step that installs packages.
fn install(packages: &str) -> String {
    format!(
        "{NO_SERVICES}RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\\n \
         -o Dpkg::Options::=--force-confold {packages} && rm -rf /var/lib/apt/lists/* /var/cache/apt/*\n"
    )
}

/// The root file system that all begin from, made once however many cases ask at once.
fn base(what: &str) -> Result<Option<PathBuf>> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    rootfs(what)
}

/// A Debian root file system of this machine's own release and mirror; `None`, loudly, if it cannot be made here. Kept below the
/// target directory for the next run.
fn rootfs(what: &str) -> Result<Option<PathBuf>> {
    let target = program("").ancestors().nth(1).context("the programs lie in target/<profile>")?.join("test-rootfs");
    let release = fs::read_to_string("/etc/os-release")?;
    let Some(suite) = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")) else {
        return skip(what, "this is no Debian or Ubuntu with a code name");
    };
    let made = target.join(format!("{suite}.tar.zst"));
    if made.exists() {
        return Ok(Some(made));
    }
    let apt = Path::new("/etc/apt");
    let sources = ["sources.list.d/debian.sources", "sources.list.d/ubuntu.sources", "sources.list"].map(|name| apt.join(name));
    let Some(sources) = sources.iter().find(|path| path.exists()) else { return skip(what, "no apt sources are configured here") };
    fs::create_dir_all(&target)?;
    // Under a name of its own first: what a killed run leaves is not taken for a root file system.
    let staging = target.join(format!("{}-{suite}.tar.zst", std::process::id()));
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=apt", r#"--aptopt=Acquire::Languages "none""#, "--aptopt=Acquire::http::Timeout \"20\""]);
    for path in ["man", "doc", "locale", "info"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    command.args(apt_settings()?.iter().map(|setting| format!("--aptopt={setting}")));
    if Path::new(CERTIFICATES).exists() {
        command.arg(r#"--customize-hook=mkdir -p "$1/etc/ssl/certs""#);
        command.arg(format!("--customize-hook=upload {CERTIFICATES} {CERTIFICATES}"));
    }
    let output = match command.arg(suite).arg(&staging).arg(sources).output() {
        Ok(output) => Ran::from(output),
        Err(error) => return skip(what, &format!("mmdebstrap cannot be run: {error}")),
    };
    if output.code != 0 {
        // Absent if mmdebstrap has not come so far.
        let _ = fs::remove_file(&staging);
        return skip(what, &format!("mmdebstrap made no root file system, is the mirror reachable?\n{}", output.stderr));
    }
    fs::rename(staging, &made)?;
    Ok(Some(made))
}

/// Whom this machine trusts: a mirror behind TLS needs it inside, too.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What of this machine's apt settings decides whether the mirror can be reached.
fn apt_settings() -> Result<Vec<String>> {
    let prefixes = ["Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until", "Acquire::Check-Date"];
    let dump = Command::new("apt-config").arg("dump").output().context("apt-config dump")?;
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    let matters = |line: &&str| prefixes.iter().any(|prefix| line.starts_with(&format!("{prefix} ")));
    Ok(dump.lines().filter(matters).map(|line| line.trim_end_matches(';').to_owned()).collect())
}

fn skip<T>(what: &str, why: &str) -> Result<Option<T>> {
    eprintln!("SKIPPED real: {what}: {why}");
    Ok(None)
}

#[derive(Debug, PartialEq, Eq)]
enum Mirror {
    There,
    Away,
}

/// Imports the base beside the site as `debian` and builds these folders of it, each named as it is called, side by side and where the
/// mirror is, so that the site's own builds find their layers in the cache.
fn build_all(host: &Host, site: &Path, folders: &[&str], what: &str) -> Result<Mirror> {
    let agent = |arguments: &[&str]| -> Result<Ran> { Ok(host.command_outside(program("agent")).args(arguments).output()?.into()) };
    if !host.json(&["image", "ls"])?.iter().any(|image| image["name"] == "docker.io/library/debian:latest") {
        agent(&["image", "import", &site.join("debian.tar.zst").to_string_lossy(), "--tag", "debian"])?.ok()?;
    }
    let build = |folder: &str| agent(&["image", "build", "--network", "host", "--tag", folder, &site.join(folder).to_string_lossy()]);
    let built: Vec<Result<Ran>> = std::thread::scope(|scope| {
        let builds: Vec<_> = folders.iter().map(|folder| scope.spawn(move || build(folder))).collect();
        builds.into_iter().map(|it| it.join().expect("a build does not panic")).collect()
    });
    for built in built {
        let built = built?;
        if built.code != 0 && MIRROR_IS_AWAY.iter().any(|complaint| built.stderr.contains(complaint)) {
            skip::<()>(what, &format!("a mirror or registry cannot be reached from a build\n{}", built.stderr))?;
            return Ok(Mirror::Away);
        }
        built.ok()?;
    }
    Ok(Mirror::There)
}
