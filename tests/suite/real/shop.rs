//! Real software: a Debian root file system, packages installed in it by `apt-get`, a site in a Git repository served over HTTP.
//!
//! Only the first builds need the package mirror, the one this machine is configured with: they run in the machine's own network and
//! fill the cache. Everything else happens on a host of its own, where there is no way out.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::host::{Host, Ran, eventually, is_root, program};
use tests::repository::{HttpServer, Repository};

const SITE: &str = r#"
apiVersion: agent/v1
kind: Image
metadata: {name: debian}
spec: {archive: ./debian.tar.zst}
---
apiVersion: agent/v1
kind: Image
metadata: {name: web}
spec: {build: ./web}
---
apiVersion: agent/v1
kind: Image
metadata: {name: redis}
spec: {build: ./redis}
---
apiVersion: agent/v1
kind: Network
metadata: {name: shop}
---
apiVersion: agent/v1
kind: Volume
metadata: {name: shop-data}
---
apiVersion: agent/v1
kind: Container
metadata: {name: redis}
spec:
  image: redis
  env: {GENERATION: "1"}
  networks: [shop]
  volumes: ["shop-data:/var/lib/redis"]
  resources: {memory: 128Mi, pids: 64}
  healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, timeout: 5s, retries: 20}
---
apiVersion: agent/v1
kind: Container
metadata: {name: web}
spec:
  image: web
  ports: ["8080:80"]
  networks: [shop]
  dependsOn: {redis: healthy}
  resources: {memory: 128Mi, pids: 64}
"#;

const WEB: &str = r#"FROM debian
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light redis-tools \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY index.html /var/www/html/
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
"#;

const REDIS: &str = r#"FROM debian
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER redis
CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--appendonly", "yes", "--dir", "/var/lib/redis"]
"#;

/// What apt says when the mirror is the problem, and not we.
const MIRROR_IS_AWAY: &[&str] =
    &["Could not resolve", "Temporary failure resolving", "Could not connect", "Unable to connect", "Connection failed", "Failed to fetch"];

#[test]
fn a_web_server_and_a_database_from_debian_packages_follow_a_git_repository() -> Result<()> {
    if !is_root("real: nginx and redis from Debian packages") {
        return Ok(());
    }
    let Some(rootfs) = rootfs()? else { return Ok(()) };
    let host = Host::new()?;
    let repository = Repository::new(&host)?;
    write(&repository, "site.yaml", SITE)?;
    write(&repository, "web/Dockerfile", WEB)?;
    write(&repository, "web/index.html", "page one\n")?;
    write(&repository, "redis/Dockerfile", REDIS)?;
    fs::copy(&rootfs, repository.work().join("hosts/shop/debian.tar.zst"))?;
    repository.push("first")?;
    if install_packages(&host, &repository.work().join("hosts/shop"))? == Mirror::Away {
        return Ok(());
    }

    let server = HttpServer::start(&host, &repository)?;
    let url = server.url();
    let watch = host.spawn_agent(&["watch", &url, "--path", "hosts/shop", "--interval", "1s"])?;
    let first = converged(&host, "page one").with_context(|| watch.output())?;

    // By name, over the network of the two.
    redis(&host, &["set", "kept", "in the volume"])?;
    ensure!(redis(&host, &["get", "kept"])? == "in the volume");

    write(&repository, "web/index.html", "page two\n")?;
    repository.push("another page")?;
    let second = converged(&host, "page two").with_context(|| watch.output())?;
    ensure!(second.redis == first.redis, "a page does not concern redis: {first:?}, {second:?}");
    ensure!(second.web != first.web, "the page is part of the image of web: {first:?}, {second:?}");

    write(&repository, "site.yaml", &SITE.replace(r#"GENERATION: "1""#, r#"GENERATION: "2""#))?;
    repository.push("another redis")?;
    let third = eventually("redis is replaced", || {
        let now = Processes::of(&host)?;
        if now.redis == second.redis { bail!("still {now:?}") } else { Ok(now) }
    });
    let third = third.with_context(|| watch.output())?;
    ensure!(third.web == second.web, "redis changed, not web: {second:?}, {third:?}");
    let kept = eventually("the new redis answers", || redis(&host, &["get", "kept"]))?;
    ensure!(kept == "in the volume", "the volume outlives its container: {kept:?}");

    eventually("the first redis is gone", || {
        let all = host.agent(&["container", "ps", "-aq"]).ok()?;
        if all == "redis@2\nweb@2\n" { Ok(()) } else { bail!("{all}") }
    })
    .with_context(|| watch.output())?;
    watch.signal("TERM")?;
    ensure!(watch.wait()? == 0);
    ensure!(Processes::of(&host)? == third, "the containers outlive the agent");
    let plan = host.agent(&["plan", &url, "--path", "hosts/shop"]);
    ensure!(plan.code == 0, "after convergence there is nothing to plan: {plan:?}");
    Ok(())
}

/// Writes a file of the site in the clone.
fn write(repository: &Repository, path: &str, text: &str) -> Result<()> {
    let path = repository.work().join("hosts/shop").join(path);
    fs::create_dir_all(path.parent().context("a file has a parent")?)?;
    Ok(fs::write(path, text)?)
}

/// A Debian root file system of this machine's own release and mirror; `None`, loudly, if it cannot be made here. Kept below the
/// target directory for the next run.
fn rootfs() -> Result<Option<PathBuf>> {
    let target = program("").ancestors().nth(1).context("the programs lie in target/<profile>")?.join("test-rootfs");
    let release = fs::read_to_string("/etc/os-release")?;
    let Some(suite) = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")) else {
        return skip("this is no Debian or Ubuntu with a code name");
    };
    let made = target.join(format!("{suite}.tar.zst"));
    if made.exists() {
        return Ok(Some(made));
    }
    let apt = Path::new("/etc/apt");
    let sources = ["sources.list.d/debian.sources", "sources.list.d/ubuntu.sources", "sources.list"].map(|name| apt.join(name));
    let Some(sources) = sources.iter().find(|path| path.exists()) else { return skip("no apt sources are configured here") };
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
        Err(error) => return skip(&format!("mmdebstrap cannot be run: {error}")),
    };
    if output.code != 0 {
        // Absent if mmdebstrap has not come so far.
        let _ = fs::remove_file(&staging);
        return skip(&format!("mmdebstrap made no root file system, is the mirror reachable?\n{}", output.stderr));
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

fn skip<T>(why: &str) -> Result<Option<T>> {
    eprintln!("SKIPPED real: nginx and redis from Debian packages: {why}");
    Ok(None)
}

#[derive(Debug, PartialEq, Eq)]
enum Mirror {
    There,
    Away,
}

/// Builds both images where the mirror is, so that the site's own builds find their layers in the cache.
fn install_packages(host: &Host, site: &Path) -> Result<Mirror> {
    let agent = |arguments: &[&str]| -> Result<Ran> { Ok(host.command_outside(program("agent")).args(arguments).output()?.into()) };
    let archive = site.join("debian.tar.zst");
    agent(&["image", "import", &archive.to_string_lossy(), "--tag", "debian"])?.ok()?;
    let (web, redis) = (site.join("web"), site.join("redis"));
    let (web, redis) = std::thread::scope(|scope| {
        let web = scope.spawn(|| agent(&["image", "build", &web.to_string_lossy()]));
        (agent(&["image", "build", &redis.to_string_lossy()]), web.join().expect("a build does not panic"))
    });
    for built in [web?, redis?] {
        if built.code != 0 && MIRROR_IS_AWAY.iter().any(|complaint| built.stderr.contains(complaint)) {
            skip::<()>(&format!("the package mirror cannot be reached from a build\n{}", built.stderr))?;
            return Ok(Mirror::Away);
        }
        built.ok()?;
    }
    Ok(Mirror::There)
}

/// The processes of the two containers: another process is another start.
#[derive(Debug, PartialEq, Eq)]
struct Processes {
    web: u64,
    redis: u64,
}

impl Processes {
    fn of(host: &Host) -> Result<Self> {
        let process = |name: &str| -> Result<u64> {
            let known: Value = serde_json::from_str(&host.agent(&["container", "inspect", name]).ok()?)?;
            known[0]["state"]["phase"]["process"]["pid"].as_u64().with_context(|| format!("{name} does not run"))
        };
        Ok(Self { web: process("web")?, redis: process("redis")? })
    }
}

/// Waits until the page comes through the published port, and tells who then runs.
fn converged(host: &Host, page: &str) -> Result<Processes> {
    eventually(page, || {
        let found = host.run("curl", &["-sS", "--max-time", "2", "http://127.0.0.1:8080/"]).ok()?;
        if found.trim() == page { Ok(()) } else { bail!("the page is {found:?}") }
    })?;
    eventually("both run, once each", || Processes::of(host))
}

/// `redis-cli` inside the container of the web server.
fn redis(host: &Host, arguments: &[&str]) -> Result<String> {
    let command = [&["container", "exec", "web", "redis-cli", "-h", "redis"], arguments].concat();
    Ok(host.agent(&command).ok()?.trim().to_owned())
}
