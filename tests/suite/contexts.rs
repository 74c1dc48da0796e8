//! Where a build takes its files from: a directory, a repository, a pipe, or several of them by name.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tests::host::{Host, eventually, is_root, program};
use tests::repository::{HttpServer, Repository};
use tests::sample::{self, PORT, put};
use tests::view::{page, running, vital};

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
    ensure!(refused.contains("as its checksum says"), "{refused}");
    Ok(())
}

#[test]
fn repositories_that_nothing_follows_any_more_are_pruned() -> Result<()> {
    let test = "repositories_that_nothing_follows_any_more_are_pruned";
    if !is_root(test) || !Repository::is_possible(test) {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let url = repository.url();
    let kept = || -> Result<usize> { Ok(fs::read_dir(host.places().state.join("sources"))?.count()) };
    let image = format!("apiVersion: agent/v1\nkind: Image\nmetadata: {{name: web}}\nspec: {{build: '{url}#main:sub'}}\n");
    let site = host.files(&[("site/web.yaml", &image)])?.display().to_string();
    host.agent(&["apply", &site]).ok()?;
    repository.git(&["tag", "v1"])?;
    put(&repository.work().join("page"), "later")?;
    repository.push("later")?;
    repository.git(&["push", "-q", "origin", "v1"])?;
    build_from(&host, b"", &[&format!("{url}#v1")])?;
    ensure!(kept()? == 2);
    let shown = host.agent(&["system", "prune", "--dry-run"]).ok()?;
    ensure!(shown.contains("1 repository checkout:") && kept()? == 2, "{shown}");
    host.agent(&["system", "prune", "--force"]).ok()?;
    ensure!(kept()? == 1);
    ensure!(host.agent(&["system", "prune", "--dry-run"]).ok()?.contains("nothing that nothing uses"));
    // What a site's build takes from is there without its remote, and goes with the site.
    fs::rename(repository.bare(), host.path().join("away.git"))?;
    ensure!(host.agent(&["plan", &site]).code == 0);
    fs::rename(host.path().join("away.git"), repository.bare())?;
    host.agent(&["destroy", "--yes", &site]).ok()?;
    host.agent(&["system", "prune", "--force"]).ok()?;
    ensure!(kept()? == 0);
    // And it comes again when somebody wants it.
    build_from(&host, b"", &[&format!("{url}#v1")])?;
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
fn an_image_follows_the_commit_that_its_context_stands_for() -> Result<()> {
    let test = "an_image_follows_the_commit_that_its_context_stands_for";
    if !is_root(test) || !Repository::is_possible(test) {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let manifest = format!(
        "apiVersion: agent/v1\nkind: Image\nmetadata: {{name: web}}\nspec:\n  build: {{context: ., inline: \"FROM scratch\\nCOPY --from=other page /\", contexts: {{other: \"{}#main\"}}}}\n",
        repository.url()
    );
    let site = host.files(&[("site/site.yaml", &manifest)])?;
    let site = site.to_str().context("a text")?;
    let id = || host.agent(&["image", "inspect", "web", "--json"]).ok();
    host.agent(&["apply", site]).ok()?;
    ensure!(host.agent(&["plan", site]).code == 0);
    let first = id()?;
    put(&repository.work().join("page"), "another")?;
    repository.push("another page")?;
    ensure!(host.agent(&["plan", site]).code == 2, "the branch has moved");
    host.agent(&["apply", site]).ok()?;
    ensure!(first != id()?);
    // Out of reach it is what it was.
    fs::rename(repository.bare(), host.path().join("away"))?;
    ensure!(host.agent(&["plan", site]).code == 0);
    Ok(())
}

#[test]
fn an_image_may_be_built_from_a_repository() -> Result<()> {
    let test = "an_image_may_be_built_from_a_repository";
    if !is_root(test) || !Repository::is_possible(test) {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let url = repository.url();
    let image =
        |name: &str, build: &str| format!("apiVersion: agent/v1\nkind: Image\nmetadata: {{name: {name}}}\nspec: {{build: {build}}}\n");
    let base = image("base", "{context: ., inline: FROM scratch}");
    let whole = image("whole", &format!("\"{url}\""));
    let below = image("below", &format!("{{context: \"{url}#main:sub\"}}"));
    let site = host.files(&[("site/base.yaml", &base), ("site/whole.yaml", &whole), ("site/below.yaml", &below)])?;
    let site = site.to_str().context("a text")?;
    let saved = host.path().join("saved").display().to_string();
    let content = |image: &str| {
        let save =
            format!("{} image save -o {saved} {image} && mkdir {saved}.d && cd {saved}.d && tar -xf {saved}", program("agent").display());
        let read = "for blob in $(find . -type f); do tar -xOf $blob page 2>/dev/null; done; true";
        host.run("sh", &["-c", &format!("{save} && {read}; rm -r {saved} {saved}.d")]).ok()
    };
    host.agent(&["apply", site]).ok()?;
    ensure!(host.agent(&["plan", site]).code == 0);
    ensure!((content("whole")?, content("below")?) == ("one".to_owned(), "two".to_owned()));

    // Its Dockerfile may build on an image of the site, and follows the branch.
    put(&repository.work().join("sub/Dockerfile"), "FROM base\nCOPY page /page\n")?;
    put(&repository.work().join("sub/page"), "three")?;
    repository.push("on an image of the site")?;
    ensure!(host.agent(&["plan", site]).code == 2, "the branch has moved");
    host.agent(&["apply", site]).ok()?;
    ensure!(content("below")? == "three");
    // A checkout a commit would fill the disk.
    let checkouts = host.run("sh", &["-c", "ls -d \"$AGENT_STATE_DIR\"/sources/*/*/ | grep -cE '/[0-9a-f]{40}/$'"]).ok()?;
    ensure!(checkouts.trim() == "2", "{checkouts}");

    // What is broken over there does not keep the rest of the site from being made.
    put(&repository.work().join("sub/Dockerfile"), "BOGUS\n")?;
    repository.push("broken")?;
    fs::write(host.path().join("site/more.yaml"), image("more", "{context: ., inline: FROM base}"))?;
    let refused = host.agent(&["apply", site]);
    ensure!(refused.code == 1 && refused.stderr.contains("unknown instruction BOGUS"), "{refused:?}");
    ensure!(host.agent(&["image", "inspect", "more"]).code == 0 && content("below")? == "three");

    // Out of reach it is what it was last.
    repository.git(&["revert", "--no-edit", "HEAD"])?;
    repository.push("mended")?;
    host.agent(&["apply", site]).ok()?;
    fs::rename(repository.bare(), host.path().join("away"))?;
    ensure!(host.agent(&["plan", site]).code == 0);
    fs::write(host.path().join("site/whole.yaml"), image("whole", "\"ftp://h/x\""))?;
    let refused = host.agent(&["validate", site]);
    ensure!(refused.code == 1 && refused.stderr.contains("ftp://h/x is not a directory or a repository"), "{refused:?}");
    Ok(())
}

#[test]
fn a_watch_follows_the_repositories_that_builds_take_from() -> Result<()> {
    let test = "a_watch_follows_the_repositories_that_builds_take_from";
    if !is_root(test) || !Repository::is_possible(test) {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let server = HttpServer::start(&host, &repository)?;
    let site = sample::write(&host, "site")?;
    let inline = "FROM tools\nCOPY --from=pages page /www/index.html";
    let manifest = format!(
        "apiVersion: agent/v1\nkind: Image\nmetadata: {{name: page}}\nspec:\n  build: {{context: ./page, inline: {inline:?}, contexts: {{pages: \"{}#main\"}}}}\n",
        server.url()
    );
    let images = fs::read_to_string(site.join("images.yaml"))?;
    let (tools, _) = images.split_once("---").context("two images")?;
    put(&site.join("images.yaml"), &format!("{tools}---\n{manifest}"))?;
    let _watch = host.spawn_agent(&["watch", site.to_str().context("a text")?, "--interval", "300ms"])?;
    let shows = |text: &str| {
        eventually(text, || {
            ensure!(page(&host, PORT)? == text);
            Ok(())
        })
    };
    shows("one")?;
    let counter = eventually("the counter", || vital(&host, "counter"))?;
    put(&repository.work().join("page"), "another")?;
    repository.push("another page")?;
    shows("another")?;
    ensure!(vital(&host, "counter")? == counter, "nobody else is touched");

    // Nobody answers: nothing changes, and what breaks here is mended from what is known.
    let (port, before) = (server.port, running(&host)?);
    drop(server);
    eventually("the silence in the status", || {
        let status = host.agent(&["status"]).ok()?;
        ensure!(status.contains("which builds take from, cannot be followed"), "{status}");
        Ok(())
    })?;
    ensure!(running(&host)? == before && page(&host, PORT)? == "another");
    put(&site.join("counter.yaml"), &sample::COUNTER.replace("64Mi", "48Mi"))?;
    eventually("a new revision of the site", || {
        ensure!(host.agent(&["container", "inspect", "counter"]).ok()?.contains("\"48Mi\""));
        Ok(())
    })?;
    ensure!(running(&host)? == before, "a limit restarts nothing");
    put(&repository.work().join("page"), "back")?;
    repository.push("while nobody serves it")?;
    let _server = HttpServer::start_at(&host, &repository, port)?;
    shows("back")?;
    ensure!(vital(&host, "counter")? == counter);
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

#[test]
fn a_repository_comes_with_its_submodules_and_its_git_directory_if_asked_for() -> Result<()> {
    let test = "a_repository_comes_with_its_submodules_and_its_git_directory_if_asked_for";
    if !is_root(test) || !Repository::is_possible(test) {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let library = repository.git(&["rev-parse", "HEAD"])?;
    repository.git(&["init", "-q", "--bare", "-b", "main", "../library.git"])?;
    repository.git(&["push", "-q", "../library.git", "HEAD:main"])?;
    put(&repository.work().join(".gitmodules"), "[submodule \"library\"]\n\tpath = vendor/library\n\turl = ../library.git\n")?;
    fs::create_dir_all(repository.work().join("vendor/library"))?;
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{library},vendor/library")])?;
    repository.push("with a submodule")?;
    let url = repository.url();
    let out = host.path().join("out");
    let build = |add: &str| {
        let _ = fs::remove_dir_all(&out);
        build_from(&host, format!("FROM scratch\nADD {add} /\n").as_bytes(), &["--no-cache", "-o", &out.display().to_string(), "-"])
    };
    build(&url)?;
    ensure!(fs::read_to_string(out.join("vendor/library/page"))? == "one");
    ensure!(!out.join(".git").exists());
    build(&format!("{url}?submodules=false"))?;
    ensure!(fs::read_dir(out.join("vendor/library"))?.count() == 0);
    let from_context = "FROM scratch\nCOPY vendor/library/page /page\n";
    put(&repository.work().join("Dockerfile"), from_context)?;
    repository.push("uses it")?;
    build_from(&host, b"", &[&url])?;
    // The commit, and nothing that differs from one time to the next.
    let kept = build(&format!("--keep-git-dir=true {url}"))?;
    let git = |arguments: &[&str]| {
        let place = out.display().to_string();
        let all = [&["-c", "safe.directory=*", "-C", &place], arguments].concat();
        host.run("git", &all).ok()
    };
    ensure!(git(&["log", "--format=%s"])? == "uses it\n");
    ensure!(git(&["status", "--porcelain", "--ignore-submodules"])?.is_empty());
    ensure!(git(&["remote", "get-url", "origin"])? == format!("{url}\n"));
    ensure!(build(&format!("--keep-git-dir {url}"))? == kept, "it is not the same the next time");
    build(&format!("{url}?keep-git-dir=1"))?;
    ensure!(out.join(".git").exists());
    let context = format!("{url}#main");
    put(&repository.work().join("Dockerfile"), "FROM scratch\nCOPY .git/HEAD /head\n")?;
    let commit = repository.push("wants it")?;
    let destination = out.display().to_string();
    build_from(&host, b"", &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", "-o", &destination, &context])?;
    ensure!(fs::read_to_string(out.join("head"))?.trim() == commit);
    // A submodule that is not where .gitmodules says.
    put(&repository.work().join(".gitmodules"), "[submodule \"library\"]\n\tpath = vendor/library\n\turl = ../nowhere.git\n")?;
    repository.push("broken")?;
    let refused = build(&url).expect_err("a submodule that is nowhere").to_string();
    ensure!(refused.contains("submodule vendor/library"), "{refused}");
    Ok(())
}
