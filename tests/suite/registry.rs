//! Images from a real registry: Debian's `docker-registry` on loopback, filled by `skopeo`.
//!
//! The rule for tags is Compose's: what is here is used, what is not here is fetched, and only `agent image pull` asks what a tag
//! stands for now.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::host::{Host, Ran, Running, eventually, is_root};

const ADDRESS: &str = "127.0.0.1:5000";

#[test]
fn images_of_every_format_and_way_to_name_them_are_pulled_and_run() -> Result<()> {
    let Some(registry) = Registry::start("registry: formats")? else { return Ok(()) };
    registry.push("oci:1", "oci, gzip", &["--format", "oci"])?;
    registry.push("docker:1", "docker v2s2", &["--format", "v2s2"])?;
    registry.push("pinned:1", "pinned", &["--format", "oci"])?;
    let digest = registry.digest("pinned:1")?;
    registry.push("pinned:1", "not what was pinned", &[])?;
    let site = registry.site(&format!(
        "{}{}{}{}",
        image("by-manifest", &format!("{ADDRESS}/oci:1")),
        container("oci", "by-manifest"),
        container("docker", &format!("{ADDRESS}/docker:1")),
        container("pinned", &format!("{ADDRESS}/pinned@{digest}")),
    ))?;
    registry.host.agent(&["apply", &site]).ok()?;
    for (name, page) in [("oci", "oci, gzip"), ("docker", "docker v2s2"), ("pinned", "pinned")] {
        ensure!(registry.page(name)? == page, "{name}: {:?}", registry.page(name));
    }
    ensure!(registry.host.agent(&["plan", &site]).code == 0);
    // What no manifest names any more goes with its image.
    registry.site(&container("docker", &format!("{ADDRESS}/docker:1")))?;
    registry.host.agent(&["apply", &site]).ok()?;
    let images = registry.host.agent(&["image", "ls", "--json"]).ok()?;
    ensure!(images.contains("/docker:1") && !images.contains("pinned") && !images.contains("by-manifest"), "{images}");
    ensure!(images.lines().count() == 1, "one image: {images}");
    Ok(())
}

#[test]
fn bytes_that_are_not_the_pinned_ones_are_refused_and_what_runs_stays() -> Result<()> {
    let Some(registry) = Registry::start("registry: digests")? else { return Ok(()) };
    registry.push("web:1", "good", &[])?;
    registry.push("web:2", "tampered with", &["--format", "oci"])?;
    let site = registry.site(&container("web", &format!("{ADDRESS}/web:1")))?;
    registry.host.agent(&["apply", &site]).ok()?;
    let before = (registry.process("web")?, registry.host.agent(&["image", "ls", "--json"]).ok()?);

    let absent = format!("sha256:{}", "0".repeat(64));
    let tampered = registry.digest("web:2")?;
    registry.tamper("web:2")?;
    let wrong = [
        (format!("{ADDRESS}/web@{absent}"), "404"),
        (format!("{ADDRESS}/web@{tampered}"), ": layer sha256:"),
        (format!("{ADDRESS}/nothing:1"), "404"),
    ];
    for (reference, complaint) in wrong {
        registry.site(&container("web", &reference))?;
        let applied = registry.host.agent(&["apply", &site]);
        ensure!(applied.code == 1, "{reference}: {applied:?}");
        let said = format!("{}{}", applied.stdout, applied.stderr);
        ensure!(said.contains(complaint) && said.contains(&reference), "{reference}: {said}");
        ensure!(registry.page("web")? == "good");
        ensure!((registry.process("web")?, registry.host.agent(&["image", "ls", "--json"]).ok()?) == before, "after {reference}");
    }
    Ok(())
}

#[test]
fn a_registry_that_is_away_stops_nothing_and_is_named() -> Result<()> {
    let Some(mut registry) = Registry::start("registry: away")? else { return Ok(()) };
    registry.push("web:1", "one", &[])?;
    registry.push("web:2", "two", &[])?;
    let site = registry.site(&container("web", &format!("{ADDRESS}/web:1")))?;
    registry.host.agent(&["apply", &site]).ok()?;
    let before = registry.process("web")?;
    registry.stop();

    // What is here needs no registry.
    ensure!(registry.host.agent(&["plan", &site]).code == 0);
    registry.host.agent(&["apply", &site]).ok()?;
    registry.site(&container("web", &format!("{ADDRESS}/web:2")))?;
    let planned = registry.host.agent(&["plan", &site]);
    ensure!(planned.code == 2 && planned.stdout.contains("known after pull"), "{planned:?}");
    let applied = registry.host.agent(&["apply", &site]);
    let said = format!("{}{}", applied.stdout, applied.stderr);
    ensure!(applied.code == 1 && said.contains("refused") && said.contains(&format!("pull {ADDRESS}/web:2")), "{applied:?}");
    ensure!(registry.process("web")? == before, "the failed pull stopped nothing");

    registry.serve()?;
    registry.host.agent(&["apply", &site]).ok()?;
    ensure!(registry.page("web")? == "two");
    Ok(())
}

#[test]
fn a_tag_that_moved_is_followed_when_asked_and_not_before() -> Result<()> {
    let Some(registry) = Registry::start("registry: tags")? else { return Ok(()) };
    let reference = format!("{ADDRESS}/web:latest");
    registry.push("web:latest", "one", &[])?;
    let manifests = [image("named", &reference), container("by-name", "named"), container("by-reference", &reference)].concat();
    let site = registry.site(&manifests)?;
    registry.host.agent(&["apply", &site]).ok()?;

    registry.push("web:latest", "two", &[])?;
    registry.site(&format!("{manifests}{}", container("later", "named")))?;
    registry.host.agent(&["apply", &site]).ok()?;
    for name in ["by-name", "by-reference", "later"] {
        ensure!(registry.page(name)? == "one", "{name} has what this host knows the tag by");
    }

    let pulled = registry.host.agent(&["image", "pull", &reference]);
    ensure!(pulled.code == 0 && pulled.stderr.contains("image/named"), "{pulled:?}");
    let planned = registry.host.agent(&["plan", &site]);
    ensure!(planned.code == 2 && planned.stdout.contains("3 to replace"), "{planned:?}");
    registry.host.agent(&["apply", &site]).ok()?;
    for name in ["by-name", "by-reference", "later"] {
        ensure!(registry.page(name)? == "two", "{name} follows");
    }
    Ok(())
}

fn image(name: &str, reference: &str) -> String {
    format!("---\napiVersion: agent/v1\nkind: Image\nmetadata: {{name: {name}}}\nspec: {{pull: \"{reference}\"}}\n")
}

fn container(name: &str, image: &str) -> String {
    format!(
        "---\napiVersion: agent/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  image: \"{image}\"\n  \
         command: [/bin/busybox, sleep, \"3600\"]\n  networkMode: none\n  stopSignal: KILL\n"
    )
}

#[test]
fn a_build_cache_goes_through_a_registry() -> Result<()> {
    let Some(registry) = Registry::start("registry: build cache")? else { return Ok(()) };
    let host = &registry.host;
    host.busybox("context/busybox")?;
    let text = "FROM scratch AS box\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo $RANDOM > /random\"]\n\
                FROM scratch\nCOPY --from=box /random /\n";
    fs::write(host.path().join("context/Dockerfile"), text)?;
    let context = registry_path(host, "context");
    let name = format!("type=registry,ref={ADDRESS}/cache:1");
    let first = host.agent(&["image", "build", "--cache-to", &format!("{name},mode=max"), &context]).ok()?;
    // An instance of its own that knows nothing.
    let (state, run) = (registry_path(host, "other-state"), registry_path(host, "other-run"));
    let other = |arguments: &[&str]| host.agent(&[&["--state-dir", &state, "--run-dir", &run], arguments].concat());
    let second = other(&["image", "build", "--cache-from", &name, &context]);
    let again =
        other(&["image", "build", "--cache-from", &format!("{ADDRESS}/none:1"), "--cache-to", "type=inline", "--no-cache", &context]);
    other(&["system", "reset", "--force"]).ok()?;
    ensure!(second.stdout == first && second.stderr.matches(" CACHED").count() == 3, "{second:?}");
    ensure!(again.code == 0 && again.stderr.contains("no cache from") && again.stdout != first, "{again:?}");
    Ok(())
}

/// A host with a registry on its loopback.
struct Registry {
    // Ends before its host does.
    server: Option<Running>,
    host: Host,
}

impl Registry {
    /// `None`, loudly, where it cannot be tested.
    fn start(test: &str) -> Result<Option<Self>> {
        let missing = |program: &&str| Command::new("which").arg(program).output().is_ok_and(|found| !found.status.success());
        if !is_root(test) {
            return Ok(None);
        }
        if let Some(program) = ["docker-registry", "skopeo"].iter().find(|program| missing(program)) {
            eprintln!("SKIPPED {test}: {program} is not installed");
            return Ok(None);
        }
        let mut registry = Self { host: Host::new()?, server: None };
        let root = registry.blobs();
        fs::create_dir_all(&root)?;
        let config = format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {ADDRESS}\n", root.display());
        fs::write(registry.host.path().join("registry.yml"), config)?;
        registry.serve()?;
        Ok(Some(registry))
    }

    fn serve(&mut self) -> Result<()> {
        let config = registry_path(&self.host, "registry.yml");
        self.server = Some(self.host.spawn("docker-registry", &["serve", &config])?);
        let ready = || self.host.run("curl", &["-sSf", &format!("http://{ADDRESS}/v2/")]).ok();
        eventually("the registry answers", ready).map(drop)
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn blobs(&self) -> PathBuf {
        self.host.path().join("registry")
    }

    /// Makes an image of busybox and a page, and pushes it.
    fn push(&self, name: &str, page: &str, more: &[&str]) -> Result<()> {
        let root = self.host.path().join("root");
        fs::create_dir_all(root.join("www"))?;
        fs::write(root.join("www/index.html"), page)?;
        self.host.busybox("root/bin/busybox")?;
        let tar = registry_path(&self.host, "root.tar");
        self.host.run("tar", &["-cf", &tar, "-C", &root.to_string_lossy(), "bin", "www"]).ok()?;
        let mut arguments = vec!["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"];
        arguments.extend(more);
        let (from, to) = (format!("tarball:{tar}"), format!("docker://{ADDRESS}/{name}"));
        self.skopeo(&[&arguments[..], &[&from, &to]].concat()).map(drop)
    }

    fn digest(&self, name: &str) -> Result<String> {
        let found = self.skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{ADDRESS}/{name}")])?;
        Ok(found.trim().to_owned())
    }

    /// Changes a byte in the middle of an image's layer, in the registry's own files.
    fn tamper(&self, name: &str) -> Result<()> {
        let from = format!("docker://{ADDRESS}/{name}");
        let layer = self.skopeo(&["inspect", "--tls-verify=false", "--format", "{{index .Layers 0}}", &from])?;
        let hex = layer.trim().strip_prefix("sha256:").context("a layer's digest")?;
        let path = self.blobs().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(fs::write(path, bytes)?)
    }

    fn skopeo(&self, arguments: &[&str]) -> Result<String> {
        Ran::from(self.host.command("skopeo").args(arguments).env("TMPDIR", self.host.path()).output()?).ok()
    }

    /// Writes the whole site; its directory.
    fn site(&self, manifests: &str) -> Result<String> {
        Ok(self.host.files(&[("site/site.yaml", manifests)])?.to_string_lossy().into_owned())
    }

    /// The page in a container.
    fn page(&self, container: &str) -> Result<String> {
        self.host.agent(&["container", "exec", container, "/bin/busybox", "cat", "/www/index.html"]).ok()
    }

    /// The process of a container: another one is another start.
    fn process(&self, container: &str) -> Result<u64> {
        let known: serde_json::Value = serde_json::from_str(&self.host.agent(&["container", "inspect", container]).ok()?)?;
        match known[0]["state"]["phase"]["process"]["pid"].as_u64() {
            Some(process) => Ok(process),
            None => bail!("{container} does not run: {known}"),
        }
    }
}

fn registry_path(host: &Host, name: &str) -> String {
    Path::join(host.path(), name).to_string_lossy().into_owned()
}
