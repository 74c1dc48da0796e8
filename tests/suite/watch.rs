//! `agent watch` over a directory: edits become containers, mistakes change nothing, its end leaves everything running.

use crate::measure;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::time::Instant;
use tests::host::{Host, eventually, is_root};
use tests::sample::{self, PORT, put};
use tests::view::{page, running, vital};

#[test]
fn a_directory_is_followed() -> Result<()> {
    if !is_root("a_directory_is_followed") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = sample::write(&host, "site")?;
    let path = site.display().to_string();
    let watch = host.spawn_agent(&["watch", &path])?;
    eventually("the first page", || {
        ensure!(page(&host, PORT)? == "one");
        Ok(())
    })?;
    let counter = eventually("the counter", || vital(&host, "counter"))?;

    let second = host.agent(&["watch", &path, "--site", "other"]);
    ensure!(second.code == 1 && second.stderr.contains("another watch runs"), "{second:?}");

    // A field that can change in place, and one that cannot.
    let edited = Instant::now();
    put(&site.join("counter.yaml"), &sample::COUNTER.replace("64Mi", "48Mi"))?;
    put(&site.join("page/index.html"), "two")?;
    eventually("the second page", || {
        ensure!(page(&host, PORT)? == "two");
        Ok(())
    })?;
    measure("edit of a page to the new page", edited);
    eventually("web@2", || {
        ensure!(vital(&host, "web")?.id.to_string() == "web@2");
        Ok(())
    })?;
    eventually("the new limit", || {
        let limit = host.agent(&["container", "inspect", "counter"]).ok()?;
        ensure!(limit.contains("\"48Mi\"") || limit.contains("50331648"), "{limit}");
        Ok(())
    })?;
    ensure!(vital(&host, "counter")? == counter, "a limit restarts nothing");

    put(&site.join("more/extra.yaml"), &sample::COUNTER.replace("{name: counter}", "{name: extra}"))?;
    eventually("a container more", || vital(&host, "extra"))?;
    fs::remove_file(site.join("more/extra.yaml"))?;
    fs::remove_file(site.join("counter.yaml"))?;
    eventually("two containers less", || {
        ensure!(running(&host)?.keys().eq(["web"]));
        Ok(())
    })?;
    ensure!(host.places().volume_data(&"data".parse()?).is_dir(), "a volume stays");
    fs::remove_file(site.join("network.yaml"))?;
    put(&site.join("web.yaml"), &sample::WEB.replace("  networks: [shop]\n", ""))?;
    eventually("a page without the network", || {
        ensure!(vital(&host, "web")?.id.to_string() != "web@1" && page(&host, PORT)? == "two");
        ensure!(!host.run("ip", &["-o", "link"]).ok()?.contains("-shop"), "its bridge is gone");
        Ok(())
    })?;
    ensure!(host.places().volume_data(&"data".parse()?).is_dir(), "a volume stays without its manifest too");

    let web = vital(&host, "web")?;
    watch.signal("TERM")?;
    let log = watch.output();
    ensure!(watch.wait()? == 0, "{log}");
    ensure!(vital(&host, "web")? == web && page(&host, PORT)? == "two", "they run on");
    Ok(())
}

#[test]
fn a_broken_manifest_changes_nothing_until_it_is_repaired() -> Result<()> {
    if !is_root("a_broken_manifest_changes_nothing_until_it_is_repaired") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = sample::write(&host, "site")?;
    let watch = host.spawn_agent(&["watch", &site.display().to_string()])?;
    eventually("the first page", || {
        ensure!(page(&host, PORT)? == "one");
        Ok(())
    })?;
    eventually("the counter", || vital(&host, "counter"))?;
    let before = running(&host)?;

    // Together with a mistake nothing is applied, not even what is right.
    put(&site.join("page/index.html"), "two")?;
    put(&site.join("web.yaml"), &sample::WEB.replace("ports:", "prots:"))?;
    eventually("the refusal", || {
        let log = watch.output();
        ensure!(log.contains("unknown field") && log.contains("prots"), "{log}");
        let status = host.agent(&["status"]).ok()?;
        ensure!(status.contains("prots") && status.contains("web.yaml:7"), "{status}");
        Ok(())
    })?;
    let plan = host.agent(&["plan", &site.display().to_string()]);
    ensure!(plan.code == 1, "{plan:?}");
    ensure!(running(&host)? == before && page(&host, PORT)? == "one", "nothing changed");

    // What breaks meanwhile is still repaired, after the last good manifests.
    tests::view::kill(vital(&host, "counter")?.pid)?;
    eventually("a new counter", || {
        ensure!(vital(&host, "counter")?.restarts == 1);
        Ok(())
    })?;
    host.agent(&["container", "rm", "-f", "counter"]).ok()?;
    eventually("the counter is made again", || vital(&host, "counter").map(drop)).context(watch.output())?;
    ensure!(page(&host, PORT)? == "one");

    put(&site.join("web.yaml"), sample::WEB)?;
    eventually("the second page", || {
        ensure!(page(&host, PORT)? == "two");
        Ok(())
    })?;
    eventually("a clean status", || {
        let status = host.agent(&["status"]).ok()?;
        ensure!(status.contains("converged") && !status.contains("prots"), "{status}");
        Ok(())
    })?;
    Ok(())
}
