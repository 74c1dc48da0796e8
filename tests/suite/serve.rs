//! This host as the registry of others: pulled from and pushed to by skopeo, by curl and by ourselves.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use tests::authority::{Authority, openssl};
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

    let weak = send("PUT", &format!("{}?digest=sha512:{}", begin()?, "0".repeat(128)), &[&data("x")])?;
    ensure!(weak.starts_with("HTTP/1.1 400") && weak.contains("DIGEST_INVALID"), "{weak}");
    let endless = send("PATCH", &begin()?, &["-H", "Content-Range: 0-18446744073709551615", &data("x")])?;
    ensure!(endless.starts_with("HTTP/1.1 416"), "{endless}");
    let elsewhere = begin()?.replace("/a/b/", "/c/");
    ensure!(send("GET", &elsewhere, &[])?.contains("BLOB_UPLOAD_UNKNOWN"), "an upload is one repository's");

    // A manifest is taken if all that it names is here.
    let manifest = |config: &str, layer: &str| {
        let part = |media_type: &str, digest: &str| format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":10}}");
        let config = part("application/vnd.oci.image.config.v1+json", config);
        let layer = part("application/vnd.oci.image.layer.v1.tar", layer);
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{config},\"layers\":[{layer}]}}"
        )
    };
    let index = format!("{{\"schemaVersion\":2,\"manifests\":[{{\"digest\":\"{unknown}\",\"size\":1}}]}}");
    for (body, code) in [
        (manifest(&digest, &unknown), "MANIFEST_BLOB_UNKNOWN"),
        (manifest(&digest, &digest).replace("10", "11"), "MANIFEST_INVALID"),
        ("{}".to_owned(), "MANIFEST_INVALID"),
        (index, "MANIFEST_BLOB_UNKNOWN"),
    ] {
        let answer = send("PUT", &url("/v2/a/manifests/1"), &[&data(&body)])?;
        ensure!(answer.starts_with("HTTP/1.1 400") && answer.contains(code), "{body}: {answer}");
    }
    ensure!(registry.curl(&["-X", "DELETE", "-w", "%{http_code}", &url(&format!("/v2/c/blobs/{digest}"))])? == "202");
    ensure!(send("GET", &url(&format!("/v2/c/blobs/{digest}")), &[])?.starts_with("HTTP/1.1 404"));
    ensure!(!registry.host.agent(&["image", "ls"]).ok()?.contains(ADDRESS));
    let everybody = registry.host.agent(&["registry", "serve", "--listen", "0.0.0.0:5001", "--writable"]);
    ensure!(everybody.code == 1 && everybody.stderr.contains("everybody"), "{everybody:?}");
    Ok(())
}

#[test]
fn indexes_and_what_is_about_an_image_are_kept_as_they_came() -> Result<()> {
    let Some(registry) = Serving::start("serve: indexes", &["--writable"])? else { return Ok(()) };
    registry.copy(&["--src-tls-verify=false", &docker("shop:1"), &registry.layout("pulled")])?;
    let index = add_other_platform(&registry.host.path().join("pulled"))?;
    let push = ["--all", "--preserve-digests", "--dest-tls-verify=false", &registry.layout("pulled"), &docker("team/multi:1")];
    registry.copy(&push)?;
    let digest = spec::value::Digest::of(index.as_bytes());
    ensure!(registry.get("/v2/team/multi/manifests/1")? == index, "byte for byte");
    // On this host the name stands for the image that runs here; to others for the index.
    ensure!(registry.host.agent(&["image", "ls"]).ok()?.contains(&format!("{ADDRESS}/team/multi ")));
    let other = Places::new(&registry.host);
    let here = registry.host.agent(&["image", "inspect", "--", "shop:1"]).ok()?;
    other.agent(&["image", "pull", &format!("{ADDRESS}/team/multi:1")])?;
    let there: serde_json::Value = serde_json::from_str(&other.agent(&["image", "inspect", &format!("{ADDRESS}/team/multi:1")])?)?;
    ensure!(here.contains(there[0]["Id"].as_str().context("an id")?), "{here}\n{there}");

    // Something about it: a list of its parts, say.
    let config = registry.put_blob("team/multi", "{}")?;
    let note = registry.put_blob("team/multi", "a note")?;
    let subject = format!("{{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"{digest}\",\"size\":{}}}", index.len());
    let about = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"artifactType\":\"text/note\",\
         \"config\":{{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"{config}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"text/plain\",\"digest\":\"{note}\",\"size\":6}}],\"subject\":{subject},\"annotations\":{{\"by\":\"eve\"}}}}"
    );
    let about_digest = spec::value::Digest::of(about.as_bytes());
    let put = registry.curl(&["-i", "-X", "PUT", "-d", &about, &url(&format!("/v2/team/multi/manifests/{about_digest}"))])?;
    ensure!(put.starts_with("HTTP/1.1 201") && header(&put, "OCI-Subject")? == digest.to_string(), "{put}");
    let listed = |query: &str| registry.curl(&["-i", &url(&format!("/v2/team/multi/referrers/{digest}{query}"))]);
    let all = listed("")?;
    let entry = format!("\"digest\":\"{about_digest}\"");
    ensure!(all.contains(&entry) && all.contains("\"artifactType\":\"text/note\"") && all.contains("\"by\":\"eve\""), "{all}");
    let some = listed("?artifactType=text/note")?;
    ensure!(some.contains(&entry) && header(&some, "OCI-Filters-Applied")? == "artifactType", "{some}");
    ensure!(!listed("?artifactType=text/other")?.contains(&entry));

    // All of it outlives the registry, and goes when it is deleted.
    let registry = registry.again()?;
    ensure!(registry.get("/v2/team/multi/manifests/1")? == index);
    ensure!(registry.get(&format!("/v2/team/multi/blobs/{note}"))? == "a note");
    for reference in ["1".to_owned(), about_digest.to_string()] {
        let deleted = registry.curl(&["-i", "-X", "DELETE", &url(&format!("/v2/team/multi/manifests/{reference}"))])?;
        ensure!(deleted.starts_with("HTTP/1.1 202"), "{deleted}");
    }
    ensure!(registry.curl(&["-i", &url("/v2/team/multi/tags/list")])?.contains("NAME_UNKNOWN"));
    let kept = registry.host.places().state.join("registry");
    let left = |part: &str| fs::read_dir(kept.join(part)).map(Iterator::count);
    ensure!((left("names")?, left("blobs")?) == (0, 0), "nothing is left of it");
    ensure!(!registry.host.agent(&["image", "ls"]).ok()?.contains("team/multi"));
    Ok(())
}

#[test]
fn what_was_pushed_is_counted_and_kept_and_what_nobody_names_is_pruned() -> Result<()> {
    let Some(registry) = Serving::start("serve: df and prune", &["--writable"])? else { return Ok(()) };
    let registry_row = || registry.host.json(&["system", "df"]).map(|rows| row(&rows, "Registry"));
    registry.copy(&["--src-tls-verify=false", "--dest-tls-verify=false", &docker("shop:1"), &docker("team/shop:1")])?;
    let pushed = registry.get("/v2/team/shop/manifests/1")?;
    let note = "a note\n".repeat(10_000);
    let artifact = registry.artifact("notes", &note)?;
    let whole = registry_row()?;
    ensure!(whole["total"] == 2 && whole["sizeBytes"].as_u64() > Some(note.len() as u64) && whole["reclaimableBytes"] == 0, "{whole}");

    // An upload that was left alone two hours ago, and what a process that was killed left without a name.
    let begun = registry.curl(&["-i", "-X", "POST", &url("/v2/a/blobs/uploads/")])?;
    let upload = url(header(&begun, "Location")?);
    registry.curl(&["-X", "PATCH", "-d", &note, &upload])?;
    let kept = registry.host.places().registry();
    let [left] = &files_below(&kept.join("uploads"), "uploads")?[..] else { bail!("one upload") };
    fs::File::options().write(true).open(left)?.set_modified(SystemTime::now() - Duration::from_secs(7200))?;
    fs::write(kept.join("blobs").join("0".repeat(64)), &note)?;
    let more = registry_row()?;
    ensure!(more["reclaimableBytes"].as_u64() >= Some(2 * note.len() as u64), "{more}");
    let shown = registry.host.agent(&["--json", "system", "prune", "--all", "--dry-run"]).ok()?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    ensure!(shown["registryBytes"] == more["reclaimableBytes"] && left.exists(), "{shown}");

    // All goes that may go; what has a name is served as before, by the same digests.
    registry.host.agent(&["system", "prune", "--all", "--force"]).ok()?;
    ensure!(registry_row()? == whole, "{}", registry_row()?);
    ensure!(
        registry.curl(&["-X", "PUT", &format!("{upload}?digest={}", spec::value::Digest::of(note.as_bytes()))])?.contains("UPLOAD_UNKNOWN")
    );
    ensure!(registry.get("/v2/team/shop/manifests/1")? == pushed);
    registry.copy(&["--src-tls-verify=false", &docker("team/shop:1"), &registry.layout("back")])?;
    ensure!(registry.get(&format!("/v2/notes/manifests/{artifact}")).is_ok());
    // Whoever removes it says so: by name here, or through the registry.
    registry.host.agent(&["image", "rm", &format!("{ADDRESS}/team/shop:1")]).ok()?;
    registry.curl(&["-f", "-X", "DELETE", &url(&format!("/v2/notes/manifests/{artifact}"))])?;
    let registry = registry.again()?;
    ensure!(row(&registry.host.json(&["system", "df"])?, "Registry")["total"] == 0);
    Ok(())
}

#[test]
fn a_push_that_does_not_fit_makes_room_first() -> Result<()> {
    let Some(registry) = Serving::start("serve: budget", &["--writable"])? else { return Ok(()) };
    // An image that nobody names any more takes most of the budget.
    registry.host.files(&[("large/Dockerfile", "FROM scratch\nCOPY file /\n"), ("large/file", &"x".repeat(24 << 20))])?;
    let large = registry.host.path().join("large").to_string_lossy().into_owned();
    registry.host.agent(&["image", "build", "--no-cache", "-t", "large:1", &large]).ok()?;
    fs::create_dir_all(registry.host.places().config)?;
    fs::write(registry.host.places().config.join("agent.yaml"), "store:\n  diskBudget: 32Mi\n")?;
    let registry = registry.again()?;
    let push = |letter: &str| -> Result<String> {
        let file = registry.host.path().join("blob");
        fs::write(&file, letter.repeat(12 << 20))?;
        let digest = spec::value::Digest::of(letter.repeat(12 << 20).as_bytes());
        let to = url(&format!("/v2/big/blobs/uploads/?digest={digest}"));
        registry.curl(&["-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--data-binary", &format!("@{}", file.display()), &to])
    };
    ensure!(push("a")? == "507", "what has a name stays");
    registry.host.agent(&["image", "tag", "shop:1", "large:1"]).ok()?;
    ensure!(push("a")? == "201", "what has none goes");
    ensure!(!registry.host.agent(&["image", "ls"]).ok()?.contains("<none>"));
    Ok(())
}

#[test]
fn a_signature_pushed_as_an_artifact_is_what_a_policy_elsewhere_wants() -> Result<()> {
    let Some(registry) = Serving::start("serve: signatures", &["--writable"])? else { return Ok(()) };
    let config = registry.host.places().config;
    fs::create_dir_all(&config)?;
    let file = |name: &str| config.join(name).to_string_lossy().into_owned();
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], &["-out", &file("k.key")])?;
    openssl(&["ec", "-pubout"], &["-in", &file("k.key"), "-out", &file("k.pub")])?;
    let rules = format!("apiVersion: agent/v1\nkind: Registries\nspec:\n  '{ADDRESS}': {{policy: {{cosignKeys: [k.pub]}}}}\n");
    fs::write(file("registries.yaml"), rules)?;
    let (other, pull) = (Places::new(&registry.host), ["image", "pull", &format!("{ADDRESS}/shop:1")]);
    let unsigned = format!("{:#}", other.agent(&pull).expect_err("nobody signed it"));
    ensure!(unsigned.contains("it has no signature"), "{unsigned}");

    let manifest = registry.get("/v2/shop/manifests/1")?;
    let digest = spec::value::Digest::of(manifest.as_bytes());
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.hex()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    })
    .to_string();
    fs::write(file("signed"), format!("DSSEv1 28 application/vnd.in-toto+json {} {statement}", statement.len()))?;
    fs::write(file("statement"), &statement)?;
    openssl(&["dgst", "-sha256", "-sign", &file("k.key")], &["-out", &file("signature"), &file("signed")])?;
    let base64 = |name: &str| openssl(&["base64", "-A"], &["-in", &file(name)]);
    let envelope = json!({
        "payload": base64("statement")?,
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": base64("signature")?}],
    });
    let bundle = json!({"mediaType": kind, "verificationMaterial": {}, "dsseEnvelope": envelope}).to_string();
    let part = |content: &str, kind: &str| -> Result<serde_json::Value> {
        Ok(json!({"mediaType": kind, "digest": registry.put_blob("shop", content)?, "size": content.len()}))
    };
    let about = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": part("{}", "application/vnd.oci.empty.v1+json")?,
        "layers": [part(&bundle, kind)?],
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len()},
    })
    .to_string();
    let path = format!("/v2/shop/manifests/{}", spec::value::Digest::of(about.as_bytes()));
    let put = registry.curl(&["-i", "-X", "PUT", "-d", &about, &url(&path)])?;
    ensure!(put.starts_with("HTTP/1.1 201"), "{put}");
    other.agent(&pull)?;
    // What is about an image of this host does not keep others from its tags.
    ensure!(registry.get("/v2/shop/tags/list")?.ends_with("\"tags\":[\"1\",\"2\"]}"));
    Ok(())
}

#[test]
fn where_nobody_pulls_without_a_password_one_is_asked_for() -> Result<()> {
    let Some(registry) = Serving::start("serve: passwords", &["--htpasswd", "users"])? else { return Ok(()) };
    let root = registry.curl(&["-i", &url("/v2/")])?;
    ensure!(root.contains("WWW-Authenticate: Bearer") && root.contains("WWW-Authenticate: Basic"), "{root}");
    ensure!(registry.curl(&["-i", "-u", "eve:sesame", &url("/v2/shop/tags/list")])?.starts_with("HTTP/1.1 200"));
    Ok(())
}

#[test]
fn a_token_is_good_for_what_it_was_asked_for() -> Result<()> {
    let arguments = ["--writable", "--htpasswd", "users", "--anonymous-pull"];
    let Some(registry) = Serving::start("serve: tokens", &arguments)? else { return Ok(()) };
    let root = registry.curl(&["-i", &url("/v2/")])?;
    let challenge = header(&root, "WWW-Authenticate")?;
    ensure!(
        root.starts_with("HTTP/1.1 401") && challenge.starts_with(&format!("Bearer realm=\"http://{ADDRESS}/token\",service=")),
        "{root}"
    );
    ensure!(!root.contains("Basic"), "docker without a password pulls nothing where it is asked for one: {root}");
    let token = |more: &[&str], scope: &str| -> Result<String> {
        let answer = registry.curl(&[&["-f"][..], more, &[&url(&format!("/token?service=x&scope={scope}"))]].concat())?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        ensure!(answer["expires_in"] == 300 && answer["token"] == answer["access_token"], "{answer}");
        Ok(answer["token"].as_str().context("a token")?.to_owned())
    };
    let with = |token: &str, more: &[&str]| registry.curl(&[&["-i", "-H", &format!("Authorization: Bearer {token}")][..], more].concat());
    let (shop, uploads) = (url("/v2/shop/manifests/1"), url("/v2/team/app/blobs/uploads/"));

    let eves = token(&["-u", "eve:sesame"], "repository:team/app:pull,push&scope=repository:shop:pull")?;
    ensure!(with(&eves, &[&url("/v2/")])?.starts_with("HTTP/1.1 200"));
    ensure!(with(&eves, &[&shop])?.starts_with("HTTP/1.1 200"));
    ensure!(with(&eves, &["-X", "POST", &uploads])?.starts_with("HTTP/1.1 202"));
    let other = with(&eves, &["-X", "POST", &url("/v2/team/other/blobs/uploads/")])?;
    ensure!(
        other.starts_with("HTTP/1.1 401")
            && other.contains("scope=\"repository:team/other:push\"")
            && other.contains("error=\"insufficient_scope\""),
        "{other}"
    );
    // Nobody gets no more than what is for everybody, whatever is asked for.
    let nobodys = token(&[], "repository:team/app:pull,push")?;
    ensure!(with(&nobodys, &["-X", "POST", &uploads])?.contains("insufficient_scope"));
    ensure!(with(&token(&[], "repository:shop:pull")?, &[&shop])?.starts_with("HTTP/1.1 200"));
    ensure!(with(&format!("{eves}x"), &[&shop])?.contains("error=\"invalid_token\""));
    ensure!(registry.curl(&["-i", "-u", "eve:open", &url("/token?scope=repository:shop:pull")])?.starts_with("HTTP/1.1 401"));
    // As OAuth 2 has it.
    let form = "grant_type=password&service=x&client_id=curl&username=eve&password=sesame&scope=repository:team/app:push";
    let answer: serde_json::Value = serde_json::from_str(&registry.curl(&["-f", "-d", form, &url("/token")])?)?;
    ensure!(with(answer["access_token"].as_str().context("a token")?, &["-X", "POST", &uploads])?.starts_with("HTTP/1.1 202"));
    // Our own client asks for tokens by itself.
    let host = &registry.host;
    let input = host.path().join("password");
    fs::write(&input, "sesame")?;
    let log_in =
        format!("exec {} image login -u eve --password-stdin {ADDRESS} < {}", tests::host::program("agent").display(), input.display());
    let config = host.path().join("docker");
    Ran::from(host.command("sh").args(["-c", &log_in]).env("DOCKER_CONFIG", &config).output()?).ok()?;
    let push = ["image", "push", "shop:1", &format!("{ADDRESS}/team/app:1")];
    Ran::from(host.command(tests::host::program("agent")).args(push).env("DOCKER_CONFIG", &config).output()?).ok()?;
    ensure!(registry.get("/v2/team/app/tags/list")?.ends_with("[\"1\"]}"));
    Ok(())
}

/// Adds to a layout of one image the same for another platform, and an index of both in its place; the index.
fn add_other_platform(layout: &Path) -> Result<String> {
    use serde_json::Value;
    let blob = |digest: &str| layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let read = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let write = |value: &Value| -> Result<Value> {
        let bytes = value.to_string();
        let digest = spec::value::Digest::of(bytes.as_bytes()).to_string();
        fs::write(blob(&digest), &bytes)?;
        Ok(json!({"mediaType": value["mediaType"], "digest": digest, "size": bytes.len()}))
    };
    let mut own = read(layout.join("index.json"))?["manifests"][0].clone();
    let mut manifest = read(blob(own["digest"].as_str().context("a digest")?))?;
    let mut config = read(blob(manifest["config"]["digest"].as_str().context("a digest")?))?;
    own["platform"] = json!({"os": "linux", "architecture": config["architecture"]});
    own["annotations"] = json!({});
    config["architecture"] = json!("s390x");
    let described = write(&config)?;
    manifest["config"]["digest"] = described["digest"].clone();
    manifest["config"]["size"] = described["size"].clone();
    let mut other = write(&manifest)?;
    other["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [own, other]});
    let mut top = write(&index)?;
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [top]}).to_string())?;
    Ok(index.to_string())
}

/// A host that serves its images: `shop:1`, `shop:2`, `busy:1`.
struct Serving {
    // Ends before its host does.
    server: Running,
    host: Host,
    arguments: Vec<String>,
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
        let serving = Self { server, host, arguments };
        serving.ready()?;
        Ok(Some(serving))
    }

    fn ready(&self) -> Result<()> {
        eventually("the registry says that it serves", || {
            let said = self.server.output();
            ensure!(said.contains("serving on"), "{said}");
            Ok(())
        })
    }

    /// Ends it as its operator would, and starts it again.
    fn again(self) -> Result<Self> {
        let Self { server, host, arguments } = self;
        server.signal("TERM")?;
        server.wait()?;
        let server = host.spawn_agent(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        let serving = Self { server, host, arguments };
        serving.ready()?;
        Ok(serving)
    }

    /// Uploads a blob whole; its digest.
    fn put_blob(&self, repository: &str, content: &str) -> Result<String> {
        let digest = spec::value::Digest::of(content.as_bytes()).to_string();
        let answer = self.curl(&["-i", "-X", "POST", "-d", content, &url(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"))])?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        Ok(digest)
    }

    /// Pushes something that is no image, by its digest alone, which is returned.
    fn artifact(&self, repository: &str, content: &str) -> Result<String> {
        let (config, layer) = (self.put_blob(repository, "{}")?, self.put_blob(repository, content)?);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "text/note",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "text/plain", "digest": layer, "size": content.len()}],
        });
        let digest = spec::value::Digest::of(manifest.to_string().as_bytes()).to_string();
        self.curl(&["-f", "-X", "PUT", "-d", &manifest.to_string(), &url(&format!("/v2/{repository}/manifests/{digest}"))])?;
        Ok(digest)
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

/// A line of `agent system df`.
fn row(rows: &[serde_json::Value], kind: &str) -> serde_json::Value {
    let found = rows.iter().find(|row| row["type"] == kind);
    found.cloned().unwrap_or_default()
}

/// The files of all directories of this name within those of a directory.
fn files_below(directory: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for process in fs::read_dir(directory)? {
        let found = fs::read_dir(process?.path().join(name)).into_iter().flatten();
        files.extend(found.flatten().map(|file| file.path()));
    }
    Ok(files)
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
