//! Every example is validated, planned, applied, planned again, and removed; and does what its README says.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use tests::host::{Host, eventually, is_root};

/// The folders that the tests below go through.
const TRIED: [&str; 7] = [
    "01-hello",
    "02-web-and-counter",
    "03-health-and-dependencies",
    "04-limits-restart-stop",
    "05-networks",
    "06-job-before-service",
    "07-terminal",
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").join("examples")
}

#[test]
fn every_example_is_tried_and_explained() {
    let mut folders: Vec<String> =
        fs::read_dir(examples()).unwrap().flatten().map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    folders.sort();
    assert_eq!(folders, TRIED);
    assert!(TRIED.iter().all(|name| examples().join(name).join("README.md").is_file()));
}

/// An example on a host of its own, with the busybox that `make example-files` puts there.
fn copy(host: &Host, name: &str) -> Result<String> {
    let target = host.path().join(name);
    host.run("cp", &["-r", &examples().join(name).display().to_string(), &target.display().to_string()]).ok()?;
    host.busybox(&format!("{name}/busybox/busybox"))?;
    Ok(target.display().to_string())
}

/// Applies an example, looks whether it does what it should, and removes it.
fn live(name: &str, does: impl FnOnce(&Host, &str) -> Result<()>) -> Result<()> {
    if !is_root(name) {
        return Ok(());
    }
    let host = Host::new()?;
    let site = copy(&host, name)?;
    host.agent(&["validate", &site]).ok()?;
    let plan = host.agent(&["plan", &site]);
    ensure!(plan.code == 2, "{plan:?}");
    host.agent(&["apply", &site]).ok()?;
    let plan = host.agent(&["plan", &site]);
    ensure!(plan.code == 0 && plan.stdout.starts_with("Nothing to do"), "{plan:?}");
    does(&host, &site)?;
    host.agent(&["destroy", "--yes", "--volumes", &site]).ok()?;
    ensure!(host.container_ids()?.is_empty() && host.json(&["volume", "ls"])?.is_empty());
    Ok(())
}

fn edit(site: &str, old: &str, new: &str) -> Result<()> {
    let path = Path::new(site).join("site.yaml");
    let text = fs::read_to_string(&path)?;
    ensure!(text.contains(old), "{old} is in the example");
    Ok(fs::write(&path, text.replace(old, new))?)
}

fn logged(host: &Host, name: &str, text: &str) -> Result<()> {
    eventually(text, || match host.logs(name)? {
        logs if logs.contains(text) => Ok(()),
        logs => bail!("{logs}"),
    })
}

#[test]
fn hello_greets() -> Result<()> {
    live("01-hello", |host, site| {
        logged(host, "hello", "hello, the time is ")?;
        edit(site, "GREETING: hello", "GREETING: good day")?;
        let plan = host.agent(&["plan", site]);
        ensure!(plan.stdout.contains("env.GREETING: hello → good day"), "{plan:?}");
        Ok(())
    })
}

#[test]
fn the_page_is_served_and_visits_are_counted() -> Result<()> {
    live("02-web-and-counter", |host, site| {
        let web = host.pid("web")?;
        ensure!(host.page("127.0.0.1:8080/")?.contains("<h1>It runs</h1>"));
        let counts = |expected: &str| match host.page("127.0.0.1:8080/cgi-bin/visits") {
            Ok(page) if page == expected => Ok(()),
            other => bail!("{other:?}"),
        };
        counts("visit 1\n")?;
        counts("visit 2\n")?;
        let counter = host.pid("counter")?;
        fs::write(Path::new(site).join("web/index.html"), "changed\n")?;
        host.agent(&["apply", site]).ok()?;
        ensure!(host.page("127.0.0.1:8080/")? == "changed\n");
        ensure!(host.pid("counter")? == counter && host.pid("web")? != web, "only web is replaced");
        // What was counted is in the volume.
        host.agent(&["destroy", "--yes", site]).ok()?;
        host.agent(&["apply", site]).ok()?;
        counts("visit 3\n")
    })
}

#[test]
fn the_shop_waits_for_the_store() -> Result<()> {
    live("03-health-and-dependencies", |host, site| {
        logged(host, "shop", "ready\n")?;
        ensure!(host.inspect("shop")?["state"]["restarts"] == 0, "it never had to try twice");
        let ps = host.agent(&["container", "ps"]).ok()?;
        ensure!(ps.contains("(healthy)"), "{ps}");
        // A test that cannot pass, as the README proposes, in less time.
        edit(site, "http://127.0.0.1:9000/page", "http://127.0.0.1:9001/page")?;
        edit(site, "startPeriod: 20s", "startPeriod: 1s")?;
        let store = host.pid("store")?;
        let apply = host.agent(&["apply", site]);
        ensure!(apply.code == 1 && apply.stderr.contains("3 probes in a row failed"), "{apply:?}");
        ensure!(host.pid("store")? == store);
        Ok(())
    })
}

#[test]
fn limits_restarts_and_stops_are_as_written() -> Result<()> {
    live("04-limits-restart-stop", |host, site| {
        let limit = |bytes: u64| -> Result<()> {
            let stats = host.json(&["container", "stats", "polite"])?;
            ensure!(stats[0]["memoryLimitBytes"] == bytes, "{stats:?}");
            Ok(())
        };
        limit(32 << 20)?;
        let pid = host.pid("polite")?;
        edit(site, "memory: 32Mi", "memory: 64Mi")?;
        host.agent(&["apply", site]).ok()?;
        limit(64 << 20)?;
        ensure!(host.pid("polite")? == pid, "it changed while it ran");
        eventually("moody is restarted", || match host.inspect("moody")?["state"]["restarts"].as_u64() {
            Some(restarts) if restarts >= 2 => Ok(()),
            other => bail!("{other:?}"),
        })?;
        host.agent(&["container", "stop", "polite"]).ok()?;
        logged(host, "polite", "hello\ngoodbye\n")?;
        host.agent(&["apply", site]).ok()?;
        ensure!(host.pid("polite").is_err(), "a stop by hand is a hold");
        Ok(())
    })
}

#[test]
fn tiers_reach_their_neighbours_alone() -> Result<()> {
    live("05-networks", |host, site| {
        eventually("the answer", || host.page("127.0.0.1:8085/answer"))
            .and_then(|page| if page == "42\n" { Ok(()) } else { bail!(page) })?;
        let front = |address: &str| host.agent(&["container", "exec", "tiers-front", "wget", "-qO-", address]);
        ensure!(front("http://tiers-back/answer").ok()? == "42\n");
        ensure!(front("http://db:5432/answer").code != 0);
        let routes = host.agent(&["container", "exec", "tiers-database", "ip", "route"]).ok()?;
        ensure!(!routes.contains("default"), "{routes}");
        let pid = host.pid("tiers-front")?;
        edit(site, "networks: [tiers-front]", "networks: [tiers-front, tiers-data]")?;
        host.agent(&["apply", site]).ok()?;
        ensure!(front("http://db:5432/answer").ok()? == "42\n" && host.pid("tiers-front")? == pid);
        Ok(())
    })
}

#[test]
fn the_job_runs_once_and_before_the_service() -> Result<()> {
    live("06-job-before-service", |host, site| {
        ensure!(host.page("127.0.0.1:8086/")? == "schema 1\n");
        logged(host, "migrate", "migrating\ndone\n")?;
        let serve = host.pid("serve")?;
        edit(site, "schema 1", "schema 2")?;
        host.agent(&["apply", site]).ok()?;
        ensure!(host.page("127.0.0.1:8086/")? == "schema 1\nschema 2\n");
        edit(site, "echo 'schema 2' >>/data/index.html", "exit 3")?;
        // Nobody waits for it any more, so the apply may be over before the job is; the next plan names how it ended.
        host.agent(&["apply", site]);
        eventually("the job's end is told", || {
            let plan = host.agent(&["plan", site]);
            ensure!(plan.stdout.contains("container/migrate") && plan.stdout.contains("ended with exit code 3"), "{plan:?}");
            Ok(())
        })?;
        ensure!(host.pid("serve")? == serve, "the service goes on");
        ensure!(host.page("127.0.0.1:8086/").context("it still serves")? == "schema 1\nschema 2\n");
        Ok(())
    })
}

#[test]
fn a_shell_can_be_joined() -> Result<()> {
    live("07-terminal", |host, _| {
        let mut terminal = host.agent_on_terminal((80, 24), &["container", "attach", "shell"], &[])?;
        terminal.shows("/ #")?;
        terminal.types("echo $((6 * 7))\n")?;
        terminal.shows("42")?;
        logged(host, "shell", "42\r\n")?;
        terminal.types("\x10\x11")?;
        ensure!(terminal.wait()? == 0);
        Ok(())
    })
}
