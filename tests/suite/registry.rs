//! Images from a real registry and to it: Debian's `docker-registry` on loopback, with `skopeo` as the second opinion.
//!
//! The rule for tags is Compose's: what is here is used, what is not here is fetched, and only `agent image pull` asks what a tag
//! stands for now.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
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

#[test]
fn a_site_publishes_what_it_builds_and_a_registry_that_is_refused_stops_nothing() -> Result<()> {
    let Some(registry) = Registry::start("registry: publish")? else { return Ok(()) };
    let rules = format!("apiVersion: agent/v1\nkind: Registries\nspec:\n  \"{ADDRESS}\": {{blocked: true}}\n");
    registry.host.files(&[
        ("config/registries.yaml", &rules),
        ("site/app/Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\nCOPY index.html /www/index.html\n"),
        ("site/app/index.html", "built here"),
    ])?;
    registry.host.busybox("site/app/busybox")?;
    let built = |push: &str| {
        let head = "---\napiVersion: agent/v1\nkind: Image\nmetadata: {name: app}\nspec:\n  build: ./app\n  push: ";
        format!("{head}{push}\n{}", container("web", "app"))
    };
    let site = registry.site(&built(&format!("{ADDRESS}/team/app:1")))?;
    let planned = registry.host.agent(&["plan", &site]);
    ensure!(planned.code == 2 && planned.stdout.contains(&format!("would publish as {ADDRESS}/team/app:1")), "{planned:?}");
    let applied = registry.host.agent(&["apply", &site]);
    ensure!(applied.code == 1 && format!("{}{}", applied.stdout, applied.stderr).contains("blocks registry"), "{applied:?}");
    ensure!(registry.page("web")? == "built here", "the container does not wait for the registry");
    let before = registry.process("web")?;

    fs::remove_file(registry.host.path().join("config/registries.yaml"))?;
    registry.host.agent(&["apply", &site]).ok()?;
    let digest = registry.digest("team/app:1")?;
    ensure!(registry.host.agent(&["plan", &site]).code == 0, "what was published is not published again");
    registry.site(&built(&format!("[\"{ADDRESS}/team/app:1\", {{repository: \"{ADDRESS}/other/app\", tags: [\"2\"]}}]")))?;
    let planned = registry.host.agent(&["plan", &site]);
    ensure!(planned.code == 2 && planned.stdout.contains("publish; nothing that runs is touched"), "{planned:?}");
    registry.host.agent(&["apply", &site]).ok()?;
    ensure!(registry.log().contains("mount=sha256"), "the blobs are taken from the repository that has them");
    ensure!(registry.digest("other/app:2")? == digest && registry.process("web")? == before);

    // By hand, read back by somebody else and by us.
    let said = registry.host.agent(&["image", "push", "app", &format!("{ADDRESS}/by/hand:3")]).ok()?;
    ensure!(said.contains(&digest), "{said}");
    let layout = registry_path(&registry.host, "layout");
    registry.skopeo(&[
        "copy",
        "--insecure-policy",
        "--src-tls-verify=false",
        &format!("docker://{ADDRESS}/by/hand:3"),
        &format!("oci:{layout}"),
    ])?;
    registry.host.agent(&["image", "import", &layout, "--tag", "back"]).ok()?;
    let id = |name: &str| registry.host.agent(&["image", "inspect", name]).ok();
    ensure!(id("app")? == id("back")?, "pushed and read back it is the same image");
    Ok(())
}

#[test]
fn a_pull_that_was_killed_goes_on_from_the_byte_reached() -> Result<()> {
    let Some(registry) = Registry::start("registry: killed")? else { return Ok(()) };
    let mut noise = vec![0; 48 << 20];
    fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
    fs::create_dir_all(registry.host.path().join("root/www"))?;
    fs::write(registry.host.path().join("root/www/noise"), noise)?;
    registry.push("noise:1", "whole", &[])?;
    let reference = format!("{ADDRESS}/noise:1");
    let partial = registry.host.places().images().join("partial");
    let reached = || fs::read_dir(&partial).ok()?.flatten().find_map(|entry| entry.metadata().ok()).map(|found| found.len());
    let pull = registry.host.spawn_agent(&["image", "pull", &reference])?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while reached().is_none_or(|bytes| bytes == 0) {
        ensure!(Instant::now() < deadline, "nothing came: {}", pull.output());
        std::thread::sleep(Duration::from_millis(1));
    }
    pull.signal("KILL")?;
    pull.wait()?;
    let before = reached().context("the beginning of the layer is kept")?;
    ensure!(before > 0 && before < 48 << 20, "killed after {before} bytes");
    registry.host.agent(&["image", "pull", &reference]).ok()?;
    ensure!(registry.log().contains("http.response.status=206"), "only the rest was asked for");
    ensure!(reached().is_none(), "nothing is left of it");
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
                FROM scratch\nCOPY --from=box /random /copied\n";
    fs::write(host.path().join("context/Dockerfile"), text)?;
    let context = registry_path(host, "context");
    let name = format!("type=registry,ref={ADDRESS}/cache:1");
    let first = host.agent(&["image", "build", "--cache-to", &format!("{name},mode=max"), &context]).ok()?;
    // An instance of its own that knows nothing.
    let (state, run) = (registry_path(host, "other-state"), registry_path(host, "other-run"));
    let other = |arguments: &[&str]| host.agent(&[&["--state-dir", &state, "--run-dir", &run], arguments].concat());
    let before = registry.blobs_given().len();
    let second = other(&["image", "build", "--cache-from", &name, &context]);
    let config = registry.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{ADDRESS}/cache:1")])?;
    let config = serde_json::from_str::<serde_json::Value>(&config)?["config"]["digest"].as_str().context("a configuration")?.to_owned();
    let given = registry.blobs_given().split_off(before);
    let [about, layer] = &given[..] else { bail!("of three layers one is needed: {given:?}") };
    ensure!(*about == config, "{given:?}");
    other(&["system", "reset", "--force"]).ok()?;
    ensure!(second.stdout == first && second.stderr.matches(" CACHED").count() == 3, "{second:?}");

    // What the registry has lost is made again, of what it has.
    let lost = layer.strip_prefix("sha256:").context("a digest")?;
    fs::remove_dir_all(registry.blobs().join(format!("docker/registry/v2/blobs/sha256/{}/{lost}", &lost[..2])))?;
    let third = other(&["image", "build", "--cache-from", &name, &context]);
    let again =
        other(&["image", "build", "--cache-from", &format!("{ADDRESS}/none:1"), "--cache-to", "type=inline", "--no-cache", &context]);
    other(&["system", "reset", "--force"]).ok()?;
    ensure!(third.stdout == first && third.stderr.contains("of the build cache: ") && third.stderr.contains("404"), "{third:?}");
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

    /// What the registry says it was asked.
    fn log(&self) -> String {
        self.server.as_ref().map(Running::output).unwrap_or_default()
    }

    /// Digests of the blobs that it was asked for and had, in that order.
    fn blobs_given(&self) -> Vec<String> {
        let log = self.log();
        let given = log.lines().filter(|line| line.contains("http.request.method=GET") && line.contains("http.response.status=200"));
        let digest = |line: &str| line.split("/blobs/").nth(1).map(|rest| rest.chars().take("sha256:".len() + 64).collect());
        given.filter_map(digest).collect()
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
