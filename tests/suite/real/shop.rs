//! A web server and a database from Debian packages, in a site in a Git repository served over HTTP.

use super::{Mirror, base, build_all};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use tests::host::{Host, eventually, is_root};
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
spec: {build: {context: ./web, network: host}}
---
apiVersion: agent/v1
kind: Image
metadata: {name: redis}
spec: {build: {context: ./redis, network: host}}
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

#[test]
fn a_web_server_and_a_database_from_debian_packages_follow_a_git_repository() -> Result<()> {
    if !is_root("real: nginx and redis from Debian packages") {
        return Ok(());
    }
    let Some(rootfs) = base("nginx and redis")? else { return Ok(()) };
    let host = Host::new()?;
    let repository = Repository::new(&host)?;
    write(&repository, "site.yaml", SITE)?;
    write(&repository, "web/Dockerfile", WEB)?;
    write(&repository, "web/index.html", "page one\n")?;
    write(&repository, "redis/Dockerfile", REDIS)?;
    fs::copy(&rootfs, repository.work().join("hosts/shop/debian.tar.zst"))?;
    repository.push("first")?;
    if build_all(&host, &repository.work().join("hosts/shop"), &["web", "redis"], "nginx and redis")? == Mirror::Away {
        return Ok(());
    }

    let server = HttpServer::start(&host, &repository)?;
    let url = server.url();
    let watch = host.spawn_agent(&["watch", &url, "--path", "hosts/shop", "--interval", "1s"])?;
    // Each for itself: on a loaded machine a base of some fifty megabytes takes its time to be fetched, and again to be unpacked.
    for step in ["site read", "import image debian", "start web@1"] {
        eventually(step, || if watch.output().contains(step) { Ok(()) } else { bail!("not yet") }).with_context(|| watch.output())?;
    }
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
