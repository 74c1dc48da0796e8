//! What other hands break on the host, one thing after the other, while `agent watch` runs: each is repaired within moments, for
//! the right reason, and nothing else is touched.

use crate::measure;
use anyhow::{Context as _, Result, ensure};
use runtime::container::state::Phase;
use runtime::network::bridge_name;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;
use tests::host::{Host, Running, eventually, is_root};
use tests::sample::{self, PORT};
use tests::view::{Vital, containers, is_settled, kill, page, printed, running, shim, vital};

/// A host under watch, with the sample site and one container more.
struct Scene {
    // Ended before the host is.
    watch: Running,
    host: Host,
}

impl Scene {
    fn new() -> Result<Self> {
        let host = Host::new()?;
        let site = sample::write(&host, "site")?;
        // Its restart is put off ever longer.
        let failing = sample::COUNTER
            .replace("{name: counter}", "{name: failing}")
            .replace("i=0; while :; do echo $i; i=$((i+1)); /bin/busybox sleep 0.05; done", "exit 1");
        fs::write(site.join("failing.yaml"), failing)?;
        let watch = host.spawn_agent(&["watch", &site.display().to_string()])?;
        let scene = Self { watch, host };
        eventually("the site", || is_settled(&scene.host)).with_context(|| scene.watch.output())?;
        scene.page_is_there()?;
        Ok(scene)
    }

    fn run(&self, words: &str) -> Result<String> {
        let words: Vec<&str> = words.split(' ').collect();
        self.host.run(words[0], &words[1..]).ok()
    }

    /// Those that should live through everything.
    fn settled(&self) -> Result<BTreeMap<String, Vital>> {
        let mut running = running(&self.host)?;
        running.remove("failing");
        Ok(running)
    }

    /// Breaks something, and waits until it is whole and the log says why it was mended. Who lives before lives after.
    fn repaired(&self, what: &str, cause: &str, breaks: impl FnOnce() -> Result<()>, is_whole: impl Fn() -> Result<()>) -> Result<()> {
        let (before, logged, since) = (self.settled()?, self.watch.output().len(), Instant::now());
        breaks().context(what.to_owned())?;
        eventually(what, &is_whole).with_context(|| self.watch.output()[logged..].to_owned())?;
        measure(&format!("repair: {what}"), since);
        let told = || {
            let log = self.watch.output()[logged..].to_owned();
            ensure!(log.contains(cause), "nothing about {cause:?} in:\n{log}");
            Ok(())
        };
        eventually("the cause in the log", told).context(what.to_owned())?;
        ensure!(self.settled()? == before, "{what}: {before:?} became {:?}", self.settled()?);
        let log = &self.watch.output()[logged..];
        ensure!(log.matches("planned").count() <= 2, "{what} took more than it needs:\n{log}");
        Ok(())
    }

    fn page_is_there(&self) -> Result<()> {
        ensure!(page(&self.host, PORT)? == "one");
        Ok(())
    }
}

#[test]
fn what_is_broken_is_repaired_and_nothing_else_is_touched() -> Result<()> {
    if !is_root("what_is_broken_is_repaired_and_nothing_else_is_touched") {
        return Ok(());
    }
    let scene = Scene::new()?;
    let (host, web) = (&scene.host, vital(&scene.host, "web")?);
    let (bridge, table) = (bridge_name(&host.places(), &"shop".parse()?), host.places().instance());
    let reachable = || scene.page_is_there();

    let link = link_of(host, &web)?;
    scene.repaired(
        "a deleted veth",
        "its link to network/shop is broken",
        || scene.run(&format!("ip link del {link}")).map(drop),
        reachable,
    )?;
    let link = link_of(host, &web)?;
    scene.repaired(
        "a veth that is down",
        "its link to network/shop",
        || scene.run(&format!("ip link set {link} down")).map(drop),
        reachable,
    )?;
    scene.repaired("a deleted bridge", "is gone", || scene.run(&format!("ip link del {bridge}")).map(drop), reachable)?;
    let flush = || scene.run(&format!("nft flush table ip {table}")).map(drop);
    scene.repaired("a flushed table", "nftables", flush, reachable)?;
    let delete = || scene.run(&format!("nft delete table ip {table}")).map(drop);
    scene.repaired("a deleted table", "nftables", delete, reachable)?;
    let element = || scene.run(&format!("nft flush map ip {table} published")).map(drop);
    scene.repaired("a deleted port", "nftables", element, reachable)?;

    let limit = memory_limit(host, "counter@1")?;
    let wanted = fs::read_to_string(&limit)?;
    scene.repaired(
        "a changed memory limit",
        "its limits are memory 32",
        || Ok(fs::write(&limit, "33554432")?),
        || {
            ensure!(fs::read_to_string(&limit)? == wanted);
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn who_is_killed_comes_back_and_nobody_else_notices() -> Result<()> {
    if !is_root("who_is_killed_comes_back_and_nobody_else_notices") {
        return Ok(());
    }
    let scene = Scene::new()?;
    let host = &scene.host;
    let (web, counter) = (vital(host, "web")?, vital(host, "counter")?);

    let dead = shim(host, &counter.id)?;
    let another_shim = || {
        ensure!(shim(host, &counter.id)? != dead);
        Ok(())
    };
    scene.repaired("a killed shim", "its shim is gone", || kill(dead), another_shim)?;
    let so_far = printed(host, &counter.id)?.lines().count();
    eventually("output after the adoption", || {
        ensure!(printed(host, &counter.id)?.lines().count() > so_far + 5);
        Ok(())
    })?;
    numbers_without_a_gap(&printed(host, &counter.id)?)?;

    // The shim's own affair: the agent has nothing to do.
    let (since, logged) = (Instant::now(), scene.watch.output().len());
    kill(web.pid)?;
    eventually("a restart", || {
        ensure!(vital(host, "web")?.restarts == 1 && page(host, PORT)? == "one");
        Ok(())
    })?;
    measure("repair: a killed process", since);
    ensure!(vital(host, "counter")? == counter);
    ensure!(!scene.watch.output()[logged..].contains("planned"), "{}", scene.watch.output());

    // Both at once: nobody is left to know how it ended.
    let (since, web) = (Instant::now(), vital(host, "web")?);
    kill(shim(host, &web.id)?)?;
    kill(web.pid)?;
    eventually("both again", || {
        ensure!(vital(host, "web")?.pid != web.pid);
        shim(host, &web.id)?;
        scene.page_is_there()
    })?;
    measure("repair: a killed process and its shim", since);
    ensure!(vital(host, "counter")? == counter);

    // A shim that dies while it waits to restart its container.
    let failing = "failing@1".parse()?;
    let waits = || {
        ensure!(matches!(containers(host)?[&failing].state.phase, Phase::Restarting { .. }));
        Ok(())
    };
    eventually("a pause between two attempts", waits)?;
    let (since, dead) = (Instant::now(), shim(host, &failing)?);
    kill(dead)?;
    eventually("another shim for it", || {
        ensure!(shim(host, &failing)? != dead);
        Ok(())
    })?;
    measure("repair: a shim killed between two attempts", since);

    let since = Instant::now();
    host.agent(&["container", "rm", "-f", "web"]).ok()?;
    eventually("web again", || {
        vital(host, "web")?;
        scene.page_is_there()
    })?;
    measure("repair: a removed container", since);
    ensure!(vital(host, "counter")? == counter, "a container removed by hand disturbs no other");

    // A user's stop is no drift.
    host.agent(&["container", "stop", "web"]).ok()?;
    let logged = scene.watch.output().len();
    scene.repaired(
        "a deleted bridge beside a stopped container",
        "is gone",
        || scene.run(&format!("ip link del {}", bridge_name(&host.places(), &"shop".parse()?))).map(drop),
        || {
            ensure!(scene.run("ip -o link")?.contains(&bridge_name(&host.places(), &"shop".parse()?)));
            Ok(())
        },
    )?;
    ensure!(vital(host, "web").is_err(), "{}", &scene.watch.output()[logged..]);
    host.agent(&["container", "start", "web"]).ok()?;
    eventually("web runs again", || scene.page_is_there())?;
    Ok(())
}

/// The host's end of a container's only link.
fn link_of(host: &Host, of: &Vital) -> Result<String> {
    let links: serde_json::Value = serde_json::from_str(&host.run("ip", &["-json", "link"]).ok()?)?;
    let mark = format!("/container/{}/", of.id);
    let found = links.as_array().into_iter().flatten().find(|link| link["ifalias"].as_str().is_some_and(|alias| alias.contains(&mark)));
    Ok(found.and_then(|link| link["ifname"].as_str()).context("a link of the container")?.to_owned())
}

fn memory_limit(host: &Host, id: &str) -> Result<PathBuf> {
    let group = PathBuf::from(host.places().instance()).join(id);
    let v1 = PathBuf::from("/sys/fs/cgroup/memory").join(&group).join("memory.limit_in_bytes");
    Ok(if v1.exists() { v1 } else { PathBuf::from("/sys/fs/cgroup").join(group).join("memory.max") })
}

/// Every number from 0 on, each once.
pub fn numbers_without_a_gap(text: &str) -> Result<()> {
    for (expected, line) in text.lines().enumerate() {
        ensure!(line.parse() == Ok(expected), "line {expected} is {line:?}");
    }
    Ok(())
}
