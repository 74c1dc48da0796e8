//! This host as the registry of others: pulled from and pushed to by skopeo, by curl and by ourselves.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::process::Command;
use tests::authority::Authority;
use tests::host::{Host, Ran, Running, eventually, is_root};

const ADDRESS: &str = "127.0.0.1:5000";
/// `htpasswd -nB`: user `eve`, password `sesame`.
const USERS: &str = "# who may push\neve:$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O\n";

#[test]
fn images_are_served_to_every_client_and_nothing_is_taken() -> Result<()> {
    let Some(registry) = Serving::start("serve: pull", &[])? else { return Ok(()) };
    let host = &registry.host;
    registry.copy(&["--src-tls-verify=false", &docker("shop:1"), &registry.layout("pulled")])?;
    ensure!(registry.get("/v2/_catalog")?.contains("[\"busy\",\"shop\"]"), "{}", registry.get("/v2/_catalog")?);
    // Pages and what leads to the next one.
    let page = registry.curl(&["-i", &url("/v2/_catalog?n=1")])?;
    ensure!(page.contains("Link: </v2/_catalog?n=1&last=busy>; rel=\"next\"") && page.ends_with("[\"busy\"]}"), "{page}");
    ensure!(registry.get("/v2/_catalog?n=1&last=busy")?.ends_with("[\"shop\"]}"));
    ensure!(registry.get("/v2/shop/tags/list")?.ends_with("\"tags\":[\"1\",\"2\"]}"));
    ensure!(registry.get("/v2/shop/tags/list?last=1")?.ends_with("[\"2\"]}"));

    let head = registry.curl(&["-I", &url("/v2/shop/manifests/1")])?;
    let digest = header(&head, "Docker-Content-Digest")?;
    ensure!(
        header(&head, "ETag")? == format!("\"{digest}\"") && head.contains("Content-Type: application/vnd.oci.image.manifest"),
        "{head}"
    );
    let manifest: serde_json::Value = serde_json::from_str(&registry.get(&format!("/v2/shop/manifests/{digest}"))?)?;
    let layer = manifest["layers"][0]["digest"].as_str().context("a layer")?;
    let blob = url(&format!("/v2/shop/blobs/{layer}"));
    let range = registry.curl(&["-i", "-r", "2-3", "-o", "/dev/null", "-D", "-", &blob])?;
    ensure!(range.starts_with("HTTP/1.1 206") && header(&range, "Content-Range")?.starts_with("bytes 2-3/"), "{range}");
    let beyond = registry.curl(&["-i", "-r", "999999999-", &blob])?;
    ensure!(beyond.starts_with("HTTP/1.1 416") && header(&beyond, "Content-Range")?.starts_with("bytes */"), "{beyond}");
    let same = registry.curl(&["-i", "-H", &format!("If-None-Match: \"{layer}\""), &blob])?;
    ensure!(same.starts_with("HTTP/1.1 304"), "{same}");
    ensure!(registry.get(&format!("/v2/shop/referrers/{digest}"))?.contains("\"manifests\":[]"));

    let zeros = format!("sha256:{}", "0".repeat(64));
    for (arguments, path, status, code) in [
        (&[][..], "/v2/shop/manifests/9", "404", "MANIFEST_UNKNOWN"),
        (&[], "/v2/nothing/tags/list", "404", "NAME_UNKNOWN"),
        (&[], &format!("/v2/shop/blobs/{zeros}"), "404", "BLOB_UNKNOWN"),
        (&[], "/v2/shop/blobs/sha256:0", "400", "DIGEST_INVALID"),
        (&[], "/v2/shop/tags/list?n=x", "400", "PAGINATION_NUMBER_INVALID"),
        (&["-X", "POST"], "/v2/shop/blobs/uploads/", "405", "UNSUPPORTED"),
        (&["-X", "DELETE"], "/v2/shop/manifests/1", "405", "UNSUPPORTED"),
        (&["-X", "OPTIONS"], "/v2/", "405", "UNSUPPORTED"),
        (&["--path-as-is"], "/v2/../../etc/passwd/manifests/1", "404", "UNSUPPORTED"),
    ] {
        let answer = registry.curl(&[arguments, &["-i", &url(path)]].concat())?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code), "{path}: {answer}");
    }

    // Another host pulls by tag and by digest, and what it has is the same image.
    let other = Places::new(host);
    for reference in [format!("{ADDRESS}/shop:1"), format!("{ADDRESS}/shop@{digest}")] {
        other.agent(&["image", "pull", &reference])?;
    }
    let id = |listed: &str| listed.lines().nth(1).and_then(|line| line.split_whitespace().nth(2).map(str::to_owned));
    let here = host.agent(&["image", "ls"]).ok()?;
    let there = other.agent(&["image", "ls"])?;
    ensure!(here.contains(&id(&there).context("an image")?), "{here}\n{there}");

    registry.server.signal("TERM")?;
    ensure!(registry.server.wait()? == 0);
    Ok(())
}

#[test]
fn images_are_taken_from_those_with_a_password_over_tls() -> Result<()> {
    let arguments = ["--writable", "--htpasswd", "users", "--anonymous-pull", "--tls-cert", "cert", "--tls-key", "key"];
    let Some(registry) = Serving::start("serve: push", &arguments)? else { return Ok(()) };
    let eve = ["--dest-creds", "eve:sesame"];
    let certificates = format!("--dest-cert-dir={}", registry.certificates());
    let from_certificates = format!("--src-cert-dir={}", registry.certificates());
    registry.copy(&[&from_certificates, &docker("shop:1"), &registry.layout("pulled")])?;
    let push = |more: &[&str], to: &str| registry.copy(&[more, &[&certificates, &registry.layout("pulled"), &docker(to)]].concat());
    let refused = format!("{:#}", push(&["--dest-creds", "eve:open"], "team/app:1").expect_err("a wrong password"));
    ensure!(refused.contains("unauthorized") || refused.contains("authentication"), "{refused}");
    ensure!(push(&[], "team/app:1").is_err(), "no password");
    push(&eve, "team/app:1")?;
    push(&[&eve[..], &["--format", "v2s2"]].concat(), "team/docker:1")?;
    // Each name has the manifest it was pushed by, though the image is one.
    let kinds = |name: &str| registry.curl(&["-I", &format!("https://{ADDRESS}/v2/team/{name}/manifests/1")]);
    ensure!(kinds("app")?.contains("vnd.oci.image.manifest") && kinds("docker")?.contains("vnd.docker.distribution.manifest"));
    let listed = registry.host.agent(&["image", "ls"]).ok()?;
    ensure!(listed.contains(&format!("{ADDRESS}/team/app ")), "{listed}");
    registry.copy(&[&from_certificates, &docker("team/docker:1"), &registry.layout("again")])?;

    let delete = ["delete", "--creds", "eve:sesame", &format!("--cert-dir={}", registry.certificates())];
    registry.skopeo(&[&delete[..], &[&docker("team/docker:1")]].concat())?;
    ensure!(registry.skopeo(&[&delete[..], &[&docker("shop:1")]].concat()).is_err(), "an image of the host is not others' to delete");
    ensure!(!registry.host.agent(&["image", "ls"]).ok()?.contains("team/docker"));
    Ok(())
}

#[test]
fn uploads_go_by_the_specification() -> Result<()> {
    let Some(registry) = Serving::start("serve: uploads", &["--writable"])? else { return Ok(()) };
    let file = registry.host.path().join("blob");
    fs::write(&file, "0123456789")?;
    let digest = spec::value::Digest::of(b"0123456789").to_string();
    let data = |text: &str| format!("-d{text}");
    let begin = || -> Result<String> {
        let answer = registry.curl(&["-i", "-X", "POST", &url("/v2/a/b/blobs/uploads/")])?;
        ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        Ok(url(header(&answer, "Location")?))
    };
    let send = |method: &str, to: &str, more: &[&str]| registry.curl(&[&["-i", "-X", method, to][..], more].concat());

    // In chunks, one of them out of order.
    let upload = begin()?;
    let chunk = send("PATCH", &upload, &["-H", "Content-Range: 0-3", &data("0123")])?;
    ensure!(chunk.starts_with("HTTP/1.1 202") && header(&chunk, "Range")? == "0-3", "{chunk}");
    let gap = send("PATCH", &upload, &["-H", "Content-Range: 5-6", &data("56")])?;
    ensure!(gap.starts_with("HTTP/1.1 416") && header(&gap, "Range")? == "0-3", "{gap}");
    ensure!(header(&send("GET", &upload, &[])?, "Range")? == "0-3");
    send("PATCH", &upload, &["-H", "Content-Range: 4-8", "-H", "Transfer-Encoding: chunked", &data("45678")])?;
    let done = send("PUT", &format!("{upload}?digest={digest}"), &[&data("9")])?;
    ensure!(done.starts_with("HTTP/1.1 201") && header(&done, "Location")? == format!("/v2/a/b/blobs/{digest}"), "{done}");
    ensure!(registry.get(&format!("/v2/a/b/blobs/{digest}"))?.ends_with("0123456789"));
    // All at once, mounted from elsewhere, cancelled, and not what was promised.
    let whole = send("POST", &url(&format!("/v2/c/blobs/uploads/?digest={digest}")), &[&format!("-d@{}", file.display())])?;
    ensure!(whole.starts_with("HTTP/1.1 201"), "{whole}");
    let mounted = send("POST", &url(&format!("/v2/d/blobs/uploads/?mount={digest}&from=c")), &[])?;
    ensure!(mounted.starts_with("HTTP/1.1 201"), "{mounted}");
    let unknown = format!("sha256:{}", "0".repeat(64));
    ensure!(send("POST", &url(&format!("/v2/d/blobs/uploads/?mount={unknown}&from=c")), &[])?.starts_with("HTTP/1.1 202"));
    let cancelled = begin()?;
    ensure!(send("DELETE", &cancelled, &[])?.starts_with("HTTP/1.1 204"));
    ensure!(send("GET", &cancelled, &[])?.contains("BLOB_UPLOAD_UNKNOWN"));
    let wrong = send("PUT", &format!("{}?digest={unknown}", begin()?), &[&data("x")])?;
    ensure!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("DIGEST_INVALID"), "{wrong}");

    // A manifest is taken if the image it makes is whole.
    let manifest = |config: &str, layer: &str| {
        let part = |media_type: &str, digest: &str| format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":10}}");
        let config = part("application/vnd.oci.image.config.v1+json", config);
        let layer = part("application/vnd.oci.image.layer.v1.tar", layer);
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{config},\"layers\":[{layer}]}}"
        )
    };
    for (body, code) in [
        (manifest(&digest, &unknown), "MANIFEST_BLOB_UNKNOWN"),
        (manifest(&digest, &digest), "MANIFEST_INVALID"),
        ("{}".to_owned(), "MANIFEST_INVALID"),
        ("{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}".to_owned(), "MANIFEST_INVALID"),
    ] {
        let answer = send("PUT", &url("/v2/a/manifests/1"), &[&data(&body)])?;
        ensure!(answer.starts_with("HTTP/1.1 400") && answer.contains(code), "{body}: {answer}");
    }
    ensure!(!registry.host.agent(&["image", "ls"]).ok()?.contains(ADDRESS));
    let everybody = registry.host.agent(&["registry", "serve", "--listen", "0.0.0.0:5001", "--writable"]);
    ensure!(everybody.code == 1 && everybody.stderr.contains("everybody"), "{everybody:?}");
    Ok(())
}

/// A host that serves its images: `shop:1`, `shop:2`, `busy:1`.
struct Serving {
    // Ends before its host does.
    server: Running,
    host: Host,
}

impl Serving {
    /// `None`, loudly, where it cannot be tested. The files `users`, `cert` and `key` are there to be named.
    fn start(test: &str, arguments: &[&str]) -> Result<Option<Self>> {
        if !is_root(test) {
            return Ok(None);
        }
        if !Command::new("which").arg("skopeo").output()?.status.success() {
            eprintln!("SKIPPED {test}: skopeo is not installed");
            return Ok(None);
        }
        let host = Host::new()?;
        host.busybox("shop/busybox")?;
        host.files(&[("shop/Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\n"), ("users", USERS)])?;
        let path = |name: &str| host.path().join(name).to_string_lossy().into_owned();
        host.agent(&["image", "build", "-t", "shop:1", "-t", "shop:2", "-t", "busy:1", &path("shop")]).ok()?;
        let identity = Authority::new(&host.path().join("certificates"))?.sign("127.0.0.1")?;
        fs::copy(identity.certificate, path("cert"))?;
        fs::copy(identity.key, path("key"))?;
        // What skopeo is given as a directory of certificates: authorities end in .crt.
        fs::create_dir(path("trusted"))?;
        fs::copy(path("certificates/ca.pem"), path("trusted/ca.crt"))?;
        let placed = |argument: &&str| if matches!(*argument, "users" | "cert" | "key") { path(argument) } else { (*argument).to_owned() };
        let arguments: Vec<String> = ["registry", "serve"].iter().chain(arguments).map(placed).collect();
        let server = host.spawn_agent(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        let serving = Self { server, host };
        eventually("the registry says that it serves", || {
            let said = serving.server.output();
            ensure!(said.contains("serving on"), "{said}");
            Ok(())
        })?;
        Ok(Some(serving))
    }

    fn certificates(&self) -> String {
        self.host.path().join("trusted").to_string_lossy().into_owned()
    }

    fn layout(&self, name: &str) -> String {
        format!("oci:{}:1", self.host.path().join(name).display())
    }

    fn copy(&self, arguments: &[&str]) -> Result<String> {
        self.skopeo(&[&["copy", "--quiet", "--insecure-policy"], arguments].concat())
    }

    fn skopeo(&self, arguments: &[&str]) -> Result<String> {
        Ran::from(self.host.command("skopeo").args(arguments).env("TMPDIR", self.host.path()).output()?).ok()
    }

    fn curl(&self, arguments: &[&str]) -> Result<String> {
        self.host.run("curl", &[&["-sS", "-k", "--max-time", "60"], arguments].concat()).ok().map(|text| text.replace('\r', ""))
    }

    fn get(&self, path: &str) -> Result<String> {
        self.curl(&["-f", &url(path)])
    }
}

/// Another host's directories on the same network.
struct Places<'a> {
    host: &'a Host,
    state: String,
}

impl<'a> Places<'a> {
    fn new(host: &'a Host) -> Self {
        Self { host, state: host.path().join("other").to_string_lossy().into_owned() }
    }

    fn agent(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.host.command(tests::host::program("agent"));
        command.args(["--state-dir", &format!("{}/state", self.state), "--run-dir", &format!("{}/run", self.state)]);
        Ran::from(command.args(arguments).output()?).ok()
    }
}

fn url(path: &str) -> String {
    format!("http://{ADDRESS}{path}")
}

fn docker(name: &str) -> String {
    format!("docker://{ADDRESS}/{name}")
}

fn header<'a>(answer: &'a str, name: &str) -> Result<&'a str> {
    let mut lines = answer.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).with_context(|| format!("no {name} in {answer}"))
}
