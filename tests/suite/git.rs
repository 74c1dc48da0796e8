//! `agent watch` over a Git repository on real servers: a push becomes a running container, whatever the way it comes, and nothing
//! that goes wrong on that way disturbs what runs.

use crate::measure;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::time::Instant;
use tests::host::{Host, Running, eventually, is_root};
use tests::repository::{HttpServer, Repository, SshServer};
use tests::sample::{self, PORT, put};
use tests::view::{is_settled, kill, page, running, vital};

/// How often the repository is asked here.
const INTERVAL: &str = "300ms";

fn is_possible(test: &str) -> bool {
    is_root(test) && Repository::is_possible(test)
}

/// A host and a repository with the sample site on `main`.
fn scene() -> Result<(Host, Repository)> {
    let host = Host::new()?;
    let repository = Repository::new(&host)?;
    sample::write(&host, Repository::WORK)?;
    repository.push("the sample")?;
    Ok((host, repository))
}

fn watch(host: &Host, arguments: &[&str]) -> Result<Running> {
    let watch = host.spawn_agent(&[&["watch", "--interval", INTERVAL], arguments].concat())?;
    eventually("the first page", || {
        ensure!(page(host, PORT)? == "one");
        Ok(())
    })
    .with_context(|| watch.output())?;
    eventually("a settled host", || is_settled(host)).with_context(|| watch.output())?;
    Ok(watch)
}

/// Pushes a page and waits until it is served.
fn push_page(host: &Host, repository: &Repository, text: &str) -> Result<()> {
    put(&repository.work().join("page/index.html"), text)?;
    repository.push(text)?;
    eventually("the pushed page", || {
        ensure!(page(host, PORT)? == text);
        Ok(())
    })?;
    eventually("a settled host", || is_settled(host))
}

#[test]
fn a_push_over_http_replaces_what_it_changes_and_nothing_else() -> Result<()> {
    if !is_possible("a_push_over_http_replaces_what_it_changes_and_nothing_else") {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let server = HttpServer::start(&host, &repository)?;
    let watch = watch(&host, &[&server.url()])?;
    let (web, counter) = (vital(&host, "web")?, vital(&host, "counter")?);

    let pushed = Instant::now();
    push_page(&host, &repository, "two")?;
    measure(&format!("git push over http to the new page, asking every {INTERVAL}"), pushed);
    ensure!(vital(&host, "web")? != web, "the page is part of its image");
    ensure!(vital(&host, "counter")? == counter, "nobody else is touched");

    put(&repository.work().join("extra.yaml"), &sample::COUNTER.replace("{name: counter}", "{name: extra}"))?;
    repository.push("a container more")?;
    eventually("a container more", || vital(&host, "extra"))?;
    fs::remove_file(repository.work().join("extra.yaml"))?;
    repository.push("a container less")?;
    eventually("a container less", || {
        ensure!(running(&host)?.keys().eq(["counter", "web"]));
        Ok(())
    })?;

    // Another history, as a rebase makes it.
    repository.git(&["reset", "-q", "--hard", "HEAD~3"])?;
    push_page(&host, &repository, "rebased")?;

    // No server: what was fetched last is kept up.
    let (port, before) = (server.port, running(&host)?);
    drop(server);
    eventually("the silence in the status", || {
        let status = host.agent(&["status"]).ok()?;
        ensure!(status.contains("the source does not answer"), "{status}");
        Ok(())
    })?;
    ensure!(running(&host)? == before && page(&host, PORT)? == "rebased");
    host.agent(&["container", "rm", "-f", "web"]).ok()?;
    eventually("a repair without a server", || {
        ensure!(page(&host, PORT)? == "rebased");
        Ok(())
    })?;
    ensure!(vital(&host, "counter")? == counter);
    put(&repository.work().join("page/index.html"), "back")?;
    repository.push("while nobody serves it")?;
    let _server = HttpServer::start_at(&host, &repository, port)?;
    let back = Instant::now();
    // Asked every few seconds at first while it does not answer: whoever cannot wait says so.
    watch.signal("HUP")?;
    eventually("the page pushed meanwhile", || {
        ensure!(page(&host, PORT)? == "back");
        Ok(())
    })?;
    measure("server back and SIGHUP to the new page", back);
    let status = host.agent(&["status"]).ok()?;
    ensure!(!status.contains("does not answer"), "{status}");
    ensure!(vital(&host, "counter")? == counter);
    Ok(())
}

#[test]
fn a_push_over_ssh_is_followed() -> Result<()> {
    if !is_possible("a_push_over_ssh_is_followed") {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let Some(server) = SshServer::start(&host, &repository)? else { return Ok(()) };
    let arguments = server.arguments();
    let watch = watch(&host, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    let counter = vital(&host, "counter")?;
    let pushed = Instant::now();
    push_page(&host, &repository, "two")?;
    measure(&format!("git push over ssh to the new page, asking every {INTERVAL}"), pushed);
    ensure!(vital(&host, "counter")? == counter);
    watch.signal("TERM")?;
    ensure!(watch.wait()? == 0);
    // An ssh that was asking just then sees that nobody listens any more.
    eventually("no ssh", || {
        ensure!(host.run("pgrep", &["-f", &repository.url()[7..]]).code == 1);
        Ok(())
    })
}

#[test]
fn a_branch_and_a_folder_are_followed_and_may_go() -> Result<()> {
    if !is_possible("a_branch_and_a_folder_are_followed_and_may_go") {
        return Ok(());
    }
    let host = Host::new()?;
    let repository = Repository::new(&host)?;
    sample::write(&host, &format!("{}/hosts/web", Repository::WORK))?;
    put(&repository.work().join("hosts/other/broken.yaml"), "kind: Nonsense")?;
    repository.push_to("live", "the sample")?;
    let url = repository.url();
    let watch = watch(&host, &[&url, "--branch", "live", "--path", "hosts/web"])?;
    let before = running(&host)?;

    put(&repository.work().join("hosts/web/page/index.html"), "elsewhere")?;
    repository.push("another branch")?;
    repository.git(&["push", "-q", "origin", ":live"])?;
    eventually("the branch is missed", || {
        let status = host.agent(&["status"]).ok()?;
        ensure!(status.contains("has no branch \"live\"") && status.contains("it has: main"), "{status}");
        Ok(())
    })?;
    ensure!(running(&host)? == before && page(&host, PORT)? == "one", "a branch that goes takes nothing along");
    kill(before["counter"].pid)?;
    eventually("a restart", || {
        ensure!(vital(&host, "counter")?.restarts == 1);
        Ok(())
    })?;

    put(&repository.work().join("hosts/web/page/index.html"), "again")?;
    repository.push_to("live", "the branch again")?;
    watch.signal("HUP")?;
    let pushed = Instant::now();
    eventually("the branch again", || {
        ensure!(page(&host, PORT)? == "again");
        Ok(())
    })?;
    measure("git push to a file:// repository and SIGHUP to the new page", pushed);
    Ok(())
}

#[test]
fn a_refused_commit_is_remembered_and_the_last_good_one_kept_up() -> Result<()> {
    if !is_possible("a_refused_commit_is_remembered_and_the_last_good_one_kept_up") {
        return Ok(());
    }
    let (host, repository) = scene()?;
    let url = repository.url();
    let first = watch(&host, &[&url])?;
    push_page(&host, &repository, "good")?;
    let before = running(&host)?;

    put(&repository.work().join("page/index.html"), "bad")?;
    put(&repository.work().join("web.yaml"), &sample::WEB.replace("restart: always", "restart: allways"))?;
    let bad = repository.push("a mistake")?;
    let is_refused = || {
        let status = host.agent(&["status"]).ok()?;
        ensure!(status.contains("refused") && status.contains("allways") && status.contains(&bad[..8]), "{status}");
        Ok(())
    };
    eventually("the refusal", is_refused)?;
    ensure!(running(&host)? == before && page(&host, PORT)? == "good");

    // It is the newest there is when the next watch begins, and what is good must come from what was kept.
    drop(first);
    host.agent(&["container", "rm", "-f", "web"]).ok()?;
    let second = host.spawn_agent(&["watch", "--interval", INTERVAL, &url])?;
    eventually("the last good page", || {
        ensure!(page(&host, PORT)? == "good");
        Ok(())
    })
    .with_context(|| second.output())?;
    eventually("the refusal again", is_refused)?;
    ensure!(vital(&host, "counter")? == before["counter"]);

    // Nor does it get lost when the next one is as bad, and another watch begins.
    fs::write(repository.work().join("counter.yaml"), "kind: Nonsense")?;
    let worse = repository.push("another mistake")?;
    eventually("the second refusal", || {
        ensure!(host.agent(&["status"]).ok()?.contains(&worse[..8]));
        Ok(())
    })?;
    drop(second);
    host.agent(&["container", "rm", "-f", "web"]).ok()?;
    let third = host.spawn_agent(&["watch", "--interval", INTERVAL, &url])?;
    eventually("the last good page again", || {
        ensure!(page(&host, PORT)? == "good");
        Ok(())
    })
    .with_context(|| third.output())?;

    put(&repository.work().join("web.yaml"), sample::WEB)?;
    put(&repository.work().join("counter.yaml"), sample::COUNTER)?;
    push_page(&host, &repository, "better")?;
    eventually("a clean status", || {
        let status = host.agent(&["status"]).ok()?;
        ensure!(status.contains("converged") && !status.contains("error"), "{status}");
        Ok(())
    })?;
    ensure!(vital(&host, "counter")? == before["counter"]);
    Ok(())
}
