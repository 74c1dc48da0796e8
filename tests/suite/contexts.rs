//! Where a build takes its files from: a directory, a repository, a pipe, or several of them by name.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tests::host::{Host, is_root, program};
use tests::repository::Repository;
use tests::sample::put;

const DOCKERFILE: &str = "FROM scratch\nCOPY page /page\n";

/// A host and a repository with a context at its root and another one in `sub`.
fn scene() -> Result<(Host, Repository)> {
    let host = Host::new()?;
    let repository = Repository::new(&host)?;
    for (path, text) in [("Dockerfile", DOCKERFILE), ("page", "one"), ("sub/Dockerfile", DOCKERFILE), ("sub/page", "two")] {
        put(&repository.work().join(path), text)?;
    }
    repository.push("contexts")?;
    Ok((host, repository))
}

/// Builds with something on standard input; the image's id.
fn build_from(host: &Host, input: &[u8], arguments: &[&str]) -> Result<String> {
    let mut agent = host.command(program("agent"));
    agent.args(["image", "build"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut agent = agent.spawn()?;
    agent.stdin.take().context("a pipe")?.write_all(input)?;
    let output = agent.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn every_way_to_a_context_gives_the_same_image() -> Result<()> {
    let test = "every_way_to_a_context_gives_the_same_image";
    if !is_root(test) || !Repository::is_possible(test) {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let work = repository.work();
    let (work, url) = (work.to_str().context("a text")?, repository.url());
    let build = |arguments: &[&str]| build_from(&host, b"", arguments);
    let (one, two) = (build(&[work])?, build(&[&format!("{work}/sub")])?);
    ensure!(one != two && one.starts_with("sha256:"), "{one} {two}");
    ensure!(build(&[&format!("{url}#main")])? == one);
    ensure!(build(&[&format!("{url}#main:sub")])? == two);
    // A pipe: the context, the Dockerfile beside a context, or a Dockerfile alone.
    let tar = Command::new("tar").args(["-C", work, "-czf", "-", "Dockerfile", "page"]).output()?;
    ensure!(build_from(&host, &tar.stdout, &["-"])? == one);
    ensure!(build_from(&host, DOCKERFILE.as_bytes(), &["-f", "-", work])? == one);
    ensure!(build_from(&host, b"FROM scratch\nLABEL a=b\n", &["-"])?.starts_with("sha256:"));
    // By name, and by ADD.
    let named = b"FROM scratch\nCOPY --from=other page /page\n";
    let directory = build_from(&host, named, &["-f", "-", "--build-context", &format!("other={work}"), work])?;
    let fetched = build_from(&host, named, &["-f", "-", "--build-context", &format!("other={url}"), work])?;
    ensure!(directory == fetched, "{directory} {fetched}");
    let add = format!("FROM scratch\nADD {url}#main:sub /t/\n");
    ensure!(build_from(&host, add.as_bytes(), &["-"])? == build_from(&host, add.as_bytes(), &["-"])?);
    repository.git(&["tag", "-a", "-m", "first", "v1"])?;
    repository.git(&["push", "-q", "origin", "v1"])?;
    let commit = repository.git(&["rev-parse", "HEAD"])?;
    let checked = format!("FROM scratch\nADD --checksum={commit} {url}#v1:sub /t/\n");
    build_from(&host, checked.as_bytes(), &["-"])?;
    let wrong = format!("FROM scratch\nADD --checksum={} {url}#v1 /t/\n", "0".repeat(40));
    let refused = build_from(&host, wrong.as_bytes(), &["-"]).unwrap_or_else(|error| error.to_string());
    ensure!(refused.contains("as --checksum says"), "{refused}");
    Ok(())
}

#[test]
fn a_manifest_may_hold_the_dockerfile_and_name_contexts() -> Result<()> {
    if !is_root("a_manifest_may_hold_the_dockerfile_and_name_contexts") {
        return Ok(());
    }
    let host = Host::new()?;
    let manifest = "apiVersion: agent/v1\nkind: Image\nmetadata: {name: web}\nspec:\n  build:\n    context: ./web\n    inline: |\n      FROM scratch\n      COPY a /\n      COPY --from=other b /\n    contexts: {other: ./other}\n";
    let site = host.files(&[("site/site.yaml", manifest), ("site/web/a", "a"), ("site/other/b", "b")])?;
    let site = site.to_str().context("a text")?;
    let ids = || host.agent(&["image", "ls", "--json"]).ok();
    host.agent(&["apply", site]).ok()?;
    let first = ids()?;
    ensure!(host.agent(&["plan", site]).code == 0);
    fs::write(host.path().join("site/other/b"), "changed")?;
    ensure!(host.agent(&["plan", site]).code == 2);
    host.agent(&["apply", site]).ok()?;
    ensure!(first != ids()?);
    Ok(())
}

#[test]
fn a_context_may_be_an_image_of_the_site() -> Result<()> {
    if !is_root("a_context_may_be_an_image_of_the_site") {
        return Ok(());
    }
    let host = Host::new()?;
    let base = "apiVersion: agent/v1\nkind: Image\nmetadata: {name: base}\nspec:\n  build: {context: ./base, inline: \"FROM scratch\\nCOPY a /\"}\n";
    let web = "apiVersion: agent/v1\nkind: Image\nmetadata: {name: web}\nspec:\n  build: {context: ., inline: \"FROM below\\nLABEL a=b\", contexts: {below: \"docker-image://base\"}}\n";
    let site = host.files(&[("site/base.yaml", base), ("site/web.yaml", web), ("site/base/a", "a")])?;
    let site = site.to_str().context("a text")?;
    host.agent(&["apply", site]).ok()?;
    let id = || host.agent(&["image", "inspect", "web", "--json"]).ok();
    let first = id()?;
    fs::write(host.path().join("site/base/a"), "changed")?;
    host.agent(&["apply", site]).ok()?;
    ensure!(first != id()?, "what is built on it follows");
    Ok(())
}
