//! A small site to try things on: a web server with a page of its own, a counter that prints, a volume, a network.

use crate::host::Host;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the web server is published.
pub const PORT: u16 = 8080;

const IMAGES: &str = r#"apiVersion: agent/v1
kind: Image
metadata: {name: tools}
spec: {build: {context: ./tools}}
---
apiVersion: agent/v1
kind: Image
metadata: {name: page}
spec: {build: {context: ./page}}
"#;

const NETWORK: &str = r#"apiVersion: agent/v1
kind: Network
metadata: {name: shop}
---
apiVersion: agent/v1
kind: Volume
metadata: {name: data}
"#;

/// The web server.
pub const WEB: &str = r#"apiVersion: agent/v1
kind: Container
metadata: {name: web}
spec:
  image: page
  command: [/bin/busybox, httpd, -f, -p, "80", -h, /www]
  ports: ["8080:80"]
  networks: [shop]
  restart: always
  stopGracePeriod: 100ms
"#;

/// Prints 0, 1, 2 and so on, twenty numbers a second.
pub const COUNTER: &str = r#"apiVersion: agent/v1
kind: Container
metadata: {name: counter}
spec:
  image: tools
  command: [/bin/busybox, sh, -c, "i=0; while :; do echo $i; i=$((i+1)); /bin/busybox sleep 0.05; done"]
  networks: [shop]
  volumes: ["data:/data"]
  restart: always
  stopGracePeriod: 100ms
  resources: {memory: 64Mi, cpus: 0.5, pids: 20}
"#;

/// Writes the site into a directory of the host, and gives its path.
pub fn write(host: &Host, directory: &str) -> Result<PathBuf> {
    host.busybox(&format!("{directory}/tools/busybox"))?;
    let files = [
        ("images.yaml", IMAGES),
        ("network.yaml", NETWORK),
        ("web.yaml", WEB),
        ("counter.yaml", COUNTER),
        ("tools/Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\n"),
        ("page/Dockerfile", "FROM tools\nCOPY index.html /www/index.html\n"),
        ("page/index.html", "one"),
    ];
    let site = host.path().join(directory);
    for (name, text) in files {
        put(&site.join(name), text)?;
    }
    Ok(site)
}

/// Writes one file as an editor does: beside, then renamed into place.
pub fn put(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().expect("a file of a site has a directory"))?;
    let beside = path.with_extension("swp~");
    fs::write(&beside, text)?;
    fs::rename(beside, path)?;
    Ok(())
}
