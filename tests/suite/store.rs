//! The store as it is lived with: images leave it and come back the same, what nothing needs goes and nothing else, and whatever is
//! killed in the middle leaves it whole.

use anyhow::{Context as _, Result, ensure};
use spec::value::Digest;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::host::{Host, Ran, Running, eventually, is_root, program};

/// How often something is killed, and the number that decides what and when; other ones can be asked for by these variables.
const ROUNDS: u64 = 12;
const ROUNDS_VARIABLE: &str = "STORE_KILL_ROUNDS";
const SEED: u64 = 20_260_101;
const SEED_VARIABLE: &str = "STORE_KILL_SEED";
/// The latest moment at which something is killed: the longest of them takes about as long.
const LIFE_MS_MAX: u64 = 400;

/// A host with the image `box:latest` of two layers, and the directory it was built from.
fn host() -> Result<(Host, PathBuf)> {
    let host = Host::new()?;
    host.site("site", &[])?;
    let context = host.path().join("site/box");
    host.agent(&["image", "build", "--tag", "box", &context.to_string_lossy()]).ok()?;
    Ok((host, context))
}

fn json(host: &Host, arguments: &[&str]) -> Result<serde_json::Value> {
    let text = host.agent(arguments).ok()?;
    serde_json::from_str(&text).with_context(|| text)
}

#[test]
fn images_leave_and_come_back_the_same() -> Result<()> {
    if !is_root("images_leave_and_come_back_the_same") {
        return Ok(());
    }
    let (host, _) = host()?;
    host.agent(&["container", "run", "-d", "--name", "one", "box", "sleep", "1000"]).ok()?;
    host.agent(&["container", "exec", "one", "sh", "-c", "echo kept > /new; rm /bin/echo"]).ok()?;
    host.agent(&["container", "commit", "one", "snapshot:1", "-m", "by hand", "-c", "ENV HOW=committed"]).ok()?;
    // It was held still, and goes on.
    host.agent(&["container", "exec", "one", "true"]).ok()?;
    let shown = host.agent(&["container", "run", "--rm", "snapshot:1", "sh", "-c", "cat /new; echo $HOW; ls /bin/echo"]);
    ensure!(shown.stdout == "kept\ncommitted\n" && shown.code != 0, "{shown:?}");

    let archive = host.path().join("images.tar").display().to_string();
    host.agent(&["image", "save", "box", "snapshot:1", "-o", &archive]).ok()?;
    let before = (json(&host, &["image", "inspect", "box"])?, json(&host, &["image", "inspect", "snapshot:1"])?);
    ensure!(before.0[0]["RepoTags"][0] == "box:latest" && before.1[0]["Comment"] == "by hand", "{before:?}");
    host.agent(&["container", "rm", "--force", "one"]).ok()?;
    host.agent(&["system", "prune", "--all", "--force"]).ok()?;
    ensure!(host.agent(&["image", "ls", "--all", "--quiet"]).ok()?.is_empty());
    let loaded = host.agent(&["image", "load", "-i", &archive]).ok()?;
    ensure!(loaded == "Loaded image: box:latest\nLoaded image: snapshot:1\n", "{loaded}");
    let after = (json(&host, &["image", "inspect", "box"])?, json(&host, &["image", "inspect", "snapshot:1"])?);
    ensure!(before == after, "{before:?}\n{after:?}");
    host.agent(&["image", "verify"]).ok()?;
    // From a pipe, compressed as no layer may be, and into a budget that what is there already fills.
    fs::write(host.path().join("noise"), noise(1, 6_000_000))?;
    let other = host.path().join("other.tar").display().to_string();
    host.run("tar", &["-C", &host.path().display().to_string(), "-cf", &other, "noise"]).ok()?;
    host.agent(&["image", "import", &other, "unused:1"]).ok()?;
    host.agent(&["image", "rm", "box", "snapshot:1"]).ok()?;
    host.files(&[("config/agent.yaml", "store:\n  diskBudget: 9Mi\n")])?;
    host.run("xz", &["-0", "--keep", &archive]).ok()?;
    let pipe = fs::File::open(format!("{archive}.xz"))?;
    let loaded = host.command(program("agent")).args(["image", "load"]).stdin(pipe).output()?;
    let loaded = Ran::from(loaded);
    ensure!(loaded.code == 0 && loaded.stderr.contains("removed what nothing needs"), "{loaded:?}");
    fs::remove_file(host.places().config.join("agent.yaml"))?;

    // What skopeo makes of the file is the same image too.
    if Command::new("which").arg("skopeo").output().is_ok_and(|found| found.status.success()) {
        let one = host.path().join("one.tar").display().to_string();
        host.agent(&["image", "save", "box", "-o", &one]).ok()?;
        let id = before.0[0]["Id"].as_str().context("an id")?.to_owned();
        for kind in ["docker-archive", "oci-archive"] {
            let copy = host.path().join(kind).display().to_string();
            let to = format!("{kind}:{copy}:skopeo/copy:1");
            host.run("skopeo", &["copy", "--quiet", "--insecure-policy", &format!("{kind}:{one}"), &to]).ok()?;
            host.agent(&["image", "load", "-i", &copy]).ok()?;
            ensure!(host.agent(&["image", "inspect", &id]).code == 0, "{kind} has kept the image's id");
        }
    }
    Ok(())
}

#[test]
fn exports_and_imports_hold_the_files_and_what_was_said() -> Result<()> {
    if !is_root("exports_and_imports_hold_the_files_and_what_was_said") {
        return Ok(());
    }
    let (host, _) = host()?;
    host.agent(&["container", "run", "--name", "one", "box", "sh", "-c", "echo x > /made; rm -r /bin/echo"]).ok()?;
    let tar = host.path().join("one.tar").display().to_string();
    host.agent(&["container", "export", "one", "-o", &tar]).ok()?;
    let listed = host.run("tar", &["-tf", &tar]).ok()?;
    ensure!(listed.lines().any(|name| name == "made") && !listed.contains("echo") && !listed.contains(".wh."), "{listed}");
    host.agent(&["image", "import", &tar, "flat:1", "-c", "CMD [\"/bin/busybox\", \"cat\", \"/made\"]", "-m", "flattened"]).ok()?;
    ensure!(host.agent(&["container", "run", "--rm", "flat:1"]).ok()? == "x\n");
    let history = host.agent(&["image", "history", "flat:1"]).ok()?;
    ensure!(history.lines().count() == 2 && history.contains("flattened"), "{history}");
    let refused = host.agent(&["image", "import", &tar, "flat:2", "-c", "RUN true"]);
    ensure!(refused.code == 1 && refused.stderr.contains("change \"RUN true\" is not one of"), "{refused:?}");
    Ok(())
}

/// A container of which root is nobody on the host.
const MAPPED: &str = r#"apiVersion: agent/v1
kind: Container
metadata: {name: mapped}
spec:
  image: box
  command: [/bin/busybox, sh, -c, "echo own > /own; chown 33:44 /own; ln -s own link; rm /bin/echo; exec /bin/busybox sleep 1000"]
  networkMode: none
  userNamespace: true
  stopGracePeriod: 100ms
"#;

#[test]
fn files_of_a_user_namespace_leave_it_with_the_ids_they_have_inside() -> Result<()> {
    if !is_root("files_of_a_user_namespace_leave_it_with_the_ids_they_have_inside") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host.site("site", &[])?;
    host.files(&[("site/mapped.yaml", MAPPED)])?;
    host.agent(&["apply", &site]).ok()?;
    let changed = host.places().container(&"mapped@1".parse()?).join("upper/own");
    eventually("a file with ids of the host", || {
        ensure!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&changed)?) == 100_033);
        Ok(())
    })?;
    eventually("the last change", || {
        ensure!(host.agent(&["container", "exec", "mapped", "/bin/busybox", "ls", "/bin/echo"]).code != 0);
        Ok(())
    })?;
    let tar = host.path().join("mapped.tar").display().to_string();
    host.agent(&["image", "export", "mapped", "-o", &tar]).ok()?;
    let listed = host.run("tar", &["--numeric-owner", "-tvf", &tar]).ok()?;
    let owner = |name: &str| {
        listed.lines().find(|line| line.ends_with(name) && !line.contains("->")).and_then(|line| line.split_whitespace().nth(1))
    };
    ensure!(owner(" own") == Some("33/44") && owner(" bin/busybox") == Some("0/0") && !listed.contains("echo"), "{listed}");
    ensure!(listed.lines().all(|line| line.split_whitespace().nth(1) == Some("0/0") || line.ends_with(" own")), "{listed}");
    host.agent(&["image", "commit", "mapped", "unmapped:1"]).ok()?;
    let shown = host.agent(&["container", "run", "--rm", "unmapped:1", "sh", "-c", "stat -c %u:%g /own /bin; ls /bin/echo"]);
    ensure!(shown.stdout == "33:44\n0:0\n" && shown.code != 0, "{shown:?}");
    Ok(())
}

#[test]
fn what_a_site_needs_or_needed_stays_and_the_rest_is_shown_before_it_goes() -> Result<()> {
    if !is_root("what_a_site_needs_or_needed_stays_and_the_rest_is_shown_before_it_goes") {
        return Ok(());
    }
    let host = Host::new()?;
    let path = host.site("site", &[])?;
    let image = || -> Result<String> {
        let found = json(&host, &["image", "inspect", "box"])?;
        Ok(found[0]["Id"].as_str().context("an id")?.to_owned())
    };
    let page = host.path().join("site/box/page");
    let mut ids = Vec::new();
    fs::write(host.path().join("site/box/Dockerfile"), {
        let text = fs::read_to_string(host.path().join("site/box/Dockerfile"))?;
        format!("{text}\nCOPY page /page\n")
    })?;
    for number in 1..=5 {
        fs::write(&page, format!("{number}\n").repeat(10_000))?;
        host.agent(&["apply", &path]).ok()?;
        ids.push(image()?);
    }
    // What runs, and two steps back, whatever is pruned.
    let refused = host.agent(&["system", "prune", "--all"]);
    ensure!(refused.code == 1 && refused.stderr.contains("nobody is there to ask"), "{refused:?}");
    host.agent(&["system", "prune", "--all", "--volumes", "--force"]).ok()?;
    let there: Vec<bool> = ids.iter().map(|id| host.agent(&["image", "inspect", id]).code == 0).collect();
    ensure!(there == [false, false, true, true, true], "{there:?}");
    // The build cache is empty: what comes back is the image itself.
    fs::write(&page, "4\n".repeat(10_000))?;
    let again = host.agent(&["apply", &path]).ok()?;
    ensure!(image()? == ids[3] && !again.contains("COPY"), "{again}");
    // A budget that what is needed fills refuses more, with sizes and a way out.
    fs::create_dir_all(host.places().config)?;
    fs::write(host.places().config.join("agent.yaml"), "store:\n  diskBudget: 64Ki\n")?;
    fs::write(&page, "6\n".repeat(10_000))?;
    let full = host.agent(&["apply", &path]);
    let said = format!("{}{}", full.stdout, full.stderr);
    ensure!(full.code == 1 && said.contains("no room: ") && said.contains("of its budget of 64.0 KiB"), "{full:?}");
    host.agent(&["image", "verify"]).ok()?;
    Ok(())
}

/// Bytes of disk that the agent keeps, as du counts them.
fn disk(host: &Host) -> Result<u64> {
    let said = host.run("du", &["--summarize", "--block-size=1", &host.places().state.display().to_string()]).ok()?;
    Ok(said.split_whitespace().next().context("a number")?.parse()?)
}

/// What a verb would free, what it says it has freed, and what du says.
fn freed(host: &Host, verb: &[&str]) -> Result<(u64, u64, u64)> {
    let shown = json(host, &[&["--json"], verb, &["--dry-run"]].concat())?;
    let before = disk(host)?;
    let report = json(host, &[&["--json"], verb, &["--force"]].concat())?;
    let bytes = |document: &serde_json::Value| document["bytes"].as_u64().context("bytes");
    Ok((bytes(&shown)?, bytes(&report)?, before - disk(host)?))
}

#[test]
fn what_is_shown_is_what_is_freed_to_the_byte() -> Result<()> {
    if !is_root("what_is_shown_is_what_is_freed_to_the_byte") {
        return Ok(());
    }
    let (host, context) = host()?;
    // Enough files for the second layer to have most of them in common with the first.
    let mut dockerfile = fs::read_to_string(context.join("Dockerfile"))?;
    dockerfile.push_str("\nCOPY many /many\nRUN --mount=type=cache,target=/cache echo x > /cache/x\n");
    dockerfile.push_str("ADD http://127.0.0.1:8080/web /web\n");
    fs::write(context.join("Dockerfile"), dockerfile)?;
    fs::create_dir(context.join("many"))?;
    (0..400).try_for_each(|file| fs::write(context.join(format!("many/{file}")), noise(file, 9_000)))?;
    let context = context.display().to_string();
    host.files(&[("www/web", "from the web")])?;
    let www = host.path().join("www").display().to_string();
    let _web = host.spawn("/bin/busybox", &["httpd", "-f", "-p", "127.0.0.1:8080", "-h", &www])?;
    eventually("a web server", || host.run("curl", &["--fail", "--silent", "http://127.0.0.1:8080/web"]).ok())?;
    host.agent(&["image", "build", "--tag", "many", &context]).ok()?;
    let usage = |row: &str| -> Result<u64> {
        let listed = host.agent(&["--json", "system", "df"]).ok()?;
        let rows = listed.lines().map(serde_json::from_str::<serde_json::Value>).collect::<Result<Vec<_>, _>>()?;
        rows.iter().find(|found| found["type"] == row).and_then(|found| found["sizeBytes"].as_u64()).context("a size")
    };
    let once = usage("Images")?;
    fs::write(host.path().join("site/box/many/7"), "another")?;
    host.agent(&["image", "build", "--tag", "more", &context]).ok()?;
    ensure!(usage("Images")? < once + once / 4, "a file of two layers counts once");
    // Its files stay with the other image.
    host.agent(&["image", "rm", "many"]).ok()?;
    let listed = host.agent(&["--json", "system", "df"]).ok()?;
    let reclaimable = |line: &str| Some(serde_json::from_str::<serde_json::Value>(line).ok()?["reclaimableBytes"].as_u64()?);
    let promised: u64 = listed.lines().filter_map(reclaimable).sum();
    let (shown, said, real) = freed(&host, &["system", "prune", "--all"])?;
    ensure!(shown == said && said == real && real > 3_000_000, "{shown} {said} {real}");
    // But for the records of names, images and steps.
    ensure!(promised <= real && real - promised < 100_000, "{promised} {real}\n{listed}");
    ensure!(host.agent(&["image", "ls", "--all", "--quiet"]).ok()?.is_empty());

    // Containers, and what came lately.
    host.agent(&["image", "build", "--tag", "box", &context]).ok()?;
    host.agent(&["container", "run", "-d", "--name", "two", "box", "sleep", "1000"]).ok()?;
    host.agent(&["container", "run", "--name", "one", "box", "sh", "-c", "echo x > /made"]).ok()?;
    // A layer that a step left empty is nobody's, whenever it came.
    host.agent(&["image", "prune", "--force"]).ok()?;
    for (verb, nothing) in [
        (&["system", "prune", "--all", "--filter", "until=1h"][..], true),
        (&["image", "prune", "--all", "--filter", "until=2020-01-01T00:00:00Z"], true),
        (&["system", "prune", "--all", "--volumes"], false),
    ] {
        let (shown, said, real) = freed(&host, verb)?;
        ensure!(shown == said && said == real && (real == 0) == nothing, "{verb:?}: {shown} {said} {real}");
    }
    let left = host.agent(&["container", "ps", "--all", "--quiet"]).ok()?;
    ensure!(left.lines().count() == 1, "what runs, runs on: {left}");
    host.agent(&["image", "verify"]).ok()?;

    // The words of Docker's users.
    host.agent(&["image", "build", "--tag", "box", &context]).ok()?;
    host.agent(&["builder", "prune", "--all", "--force", "--filter", "until=1h"]).ok()?;
    ensure!(host.agent(&["builder", "ls"]).ok()?.lines().count() == 2, "a cache mount that has served lately stays");
    host.agent(&["builder", "prune", "--all", "--force"]).ok()?;
    ensure!(host.agent(&["builder", "ls"]).ok()?.lines().count() == 1);
    ensure!(!host.agent(&["image", "build", "--tag", "box", &context]).stderr.contains("CACHED"));
    Ok(())
}

const REGISTRY: &str = "127.0.0.1:5000";
const REMOTE: &str = "127.0.0.1:5000/remote:1";

/// A registry on the same host, from a store of its own that has [`REMOTE`]: layers in an order and form that are not ours.
struct Registry {
    places: [String; 4],
    _server: Running,
}

impl Registry {
    fn start(host: &Host) -> Result<Self> {
        let directory = |name| host.path().join("registry").join(name).display().to_string();
        let places = ["--state-dir".to_owned(), directory("state"), "--run-dir".to_owned(), directory("run")];
        write_layout(host)?;
        let image = host.path().join("remote").display().to_string();
        run_in(&places, host, &["image", "import", &image, REMOTE])?;
        let serve = ["registry", "serve", "--writable", "--listen", REGISTRY];
        let server = host.spawn_agent(&[&places.each_ref().map(String::as_str)[..], &serve].concat())?;
        eventually("a registry", || host.run("curl", &["--fail", "--silent", &format!("http://{REGISTRY}/v2/")]).ok())?;
        Ok(Self { places, _server: server })
    }

    fn agent(&self, host: &Host, arguments: &[&str]) -> Result<String> {
        run_in(&self.places, host, arguments)
    }
}

fn run_in(places: &[String; 4], host: &Host, arguments: &[&str]) -> Result<String> {
    host.agent(&[&places.each_ref().map(String::as_str)[..], arguments].concat()).ok()
}

/// Writes an OCI layout with a layer whose entries are in an order that is not ours.
fn write_layout(host: &Host) -> Result<()> {
    let place = host.path().join("remote");
    fs::create_dir_all(place.join("blobs/sha256"))?;
    let mut packing = vec!["-cf".to_owned(), "layer.tar".to_owned()];
    for file in (0..40).rev() {
        fs::write(place.join(format!("file-{file}")), noise(file, 200_000))?;
        packing.push(format!("file-{file}"));
    }
    let tar = host.command("tar").current_dir(&place).args(packing).output()?;
    ensure!(tar.status.success(), "{tar:?}");
    let put = |bytes: &[u8]| -> Result<serde_json::Value> {
        let digest = Digest::of(bytes);
        fs::write(place.join("blobs/sha256").join(digest.hex()), bytes)?;
        Ok(serde_json::json!({"digest": digest, "size": bytes.len()}))
    };
    let typed = |mut descriptor: serde_json::Value, kind: &str| {
        descriptor["mediaType"] = format!("application/vnd.oci.image.{kind}").into();
        descriptor
    };
    let layer = typed(put(&fs::read(place.join("layer.tar"))?)?, "layer.v1.tar");
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": [layer["digest"]]});
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs});
    let config = typed(put(config.to_string().as_bytes())?, "config.v1+json");
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = typed(put(manifest.to_string().as_bytes())?, "manifest.v1+json");
    fs::write(place.join("index.json"), serde_json::json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())?;
    Ok(fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?)
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    (0..length).map(|_| next(&mut state) as u8).collect()
}

/// A number from the last one (Knuth's MMIX).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_is_killed_leaves_a_store_that_is_whole() -> Result<()> {
    if !is_root("whatever_is_killed_leaves_a_store_that_is_whole") {
        return Ok(());
    }
    let (host, context) = host()?;
    let mut dockerfile = fs::read_to_string(context.join("Dockerfile"))?;
    dockerfile.push_str("\nCOPY many /many\nRUN cat /many/* > /all && rm /many/1*\n");
    fs::write(context.join("Dockerfile"), dockerfile)?;
    fs::create_dir(context.join("many"))?;
    for file in 0..300 {
        fs::write(context.join(format!("many/{file}")), vec![b'x'; 3_000])?;
    }
    let context = context.display().to_string();
    let archive = host.path().join("box.tar").display().to_string();
    host.agent(&["image", "build", "--tag", "kept", &context]).ok()?;
    host.agent(&["image", "save", "kept", "-o", &archive]).ok()?;
    let registry = Registry::start(&host)?;
    let started = Instant::now();
    let mut seed = number(SEED_VARIABLE, SEED);
    for round in 0..number(ROUNDS_VARIABLE, ROUNDS) {
        fs::write(host.path().join("site/box/many/changing"), format!("{}", next(&mut seed)))?;
        let verb: &[&str] = match next(&mut seed) % 8 {
            0 | 1 => &["image", "build", "--tag", "built", &context],
            2 => &["image", "load", "-i", &archive],
            3 => &["system", "prune", "--all", "--force"],
            4 => &["image", "import", &archive, "imported:1"],
            5 | 6 => {
                // Else there is nothing to fetch.
                host.agent(&["image", "rm", "--force", REMOTE]);
                &["image", "pull", REMOTE]
            }
            _ => {
                host.agent(&["image", "tag", "built", &format!("{REGISTRY}/built:1")]);
                &["image", "push", "127.0.0.1:5000/built:1"]
            }
        };
        let life = Duration::from_millis(next(&mut seed) % LIFE_MS_MAX);
        let agent = host.spawn_agent(verb)?;
        std::thread::sleep(life);
        drop(agent);
        let found = host.agent(&["image", "verify"]);
        ensure!(found.code == 0, "round {round}: {verb:?} killed after {} ms\n{}{}", life.as_millis(), found.stdout, found.stderr);
    }
    registry.agent(&host, &["image", "verify"])?;
    crate::measure("kills and verifications", started);
    // And everything still works.
    host.agent(&["image", "load", "-i", &archive]).ok()?;
    host.agent(&["image", "build", "--tag", "built", &context]).ok()?;
    ensure!(host.agent(&["container", "run", "--rm", "built", "sh", "-c", "cat /all | wc -c"]).ok()?.trim().parse::<u64>()? >= 900_000);
    host.agent(&["system", "prune", "--all", "--force"]).ok()?;
    host.agent(&["image", "verify"]).ok()?;
    Ok(())
}
