//! Containers of `run --rm`: whatever ends one, it is removed, and no daemon has to be there for that.

use anyhow::{Result, ensure};
use std::fs;
use tests::host::{Host, Ran, eventually, is_root};
use tests::view::kill;

/// A host with the image `box`, which keeps `/anonymous` in a volume; `None`, loudly, without root.
fn host(test: &str) -> Result<Option<Host>> {
    if !is_root(test) {
        return Ok(None);
    }
    let host = Host::new()?;
    host.site("site", &[])?;
    let context = host.path().join("site/box");
    let file = fs::read_to_string(context.join("Dockerfile"))?;
    fs::write(context.join("Dockerfile"), format!("{file}\nVOLUME /anonymous\n"))?;
    host.agent(&["image", "build", "-t", "box", &context.display().to_string()]).ok()?;
    Ok(Some(host))
}

fn run(host: &Host, arguments: &[&str]) -> Ran {
    host.agent(&[&["container", "run", "--rm"], arguments].concat())
}

/// Nothing is left of any container, by itself.
fn all_gone(host: &Host) -> Result<()> {
    eventually("it is removed", || {
        ensure!(host.container_ids()?.is_empty());
        let left: Vec<_> = fs::read_dir(host.places().containers())?.collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

#[test]
fn whatever_ends_it_it_is_removed() -> Result<()> {
    let Some(host) = host("whatever_ends_it_it_is_removed")? else { return Ok(()) };
    run(&host, &["-d", "box", "sh", "-c", "echo kept >/anonymous/file"]).ok()?;
    all_gone(&host)?;
    for end in [&["stop", "-t", "0"][..], &["kill"], &["rm", "-f"]] {
        run(&host, &["-d", "--name", "one", "box", "sleep", "1000"]).ok()?;
        host.agent(&[&["container"], end, &["one"]].concat()).ok()?;
        // Its name is free at once.
        run(&host, &["-d", "--name", "one", "box", "true"]).ok()?;
        all_gone(&host)?;
    }
    let missing = run(&host, &["-d", "box", "nosuch"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    all_gone(&host)?;
    // Several at once.
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&host, &["-d", "box", "true"]))).collect();
        runs.into_iter().map(|it| it.join().expect("a run does not panic")).collect()
    });
    ran.into_iter().try_for_each(|ran| ran.ok().map(drop))?;
    all_gone(&host)
}

#[test]
fn who_reads_it_reads_all_of_it() -> Result<()> {
    let Some(host) = host("who_reads_it_reads_all_of_it")? else { return Ok(()) };
    let command = "for i in 1 2 3; do echo $i; sleep 0.1; done; exit 4";
    run(&host, &["-d", "--name", "one", "box", "sh", "-c", command]).ok()?;
    let follower = host.spawn_agent(&["container", "logs", "--follow", "one"])?;
    assert_eq!(host.agent(&["container", "wait", "one"]).ok()?, "4\n");
    assert_eq!(follower.output_at_end()?, "1\n2\n3\n");
    all_gone(&host)?;
    // In the foreground it is gone when it is over, and gone all the same if nobody reads on.
    let Ran { code, stdout, .. } = run(&host, &["box", "sh", "-c", command]);
    assert_eq!((code, stdout.as_str(), host.container_ids()?.len()), (4, "1\n2\n3\n", 0));
    let agent = tests::host::program("agent").display().to_string();
    assert_eq!(host.run("sh", &["-c", &format!("{agent} container run --rm box seq 100000 | head -n 1")]).ok()?, "1\n");
    all_gone(&host)?;
    let foreground = host.spawn_agent(&["container", "run", "--rm", "--name", "one", "box", "sleep", "1000"])?;
    eventually("it runs", || host.pid("one"))?;
    drop(foreground);
    host.agent(&["container", "kill", "one"]).ok()?;
    all_gone(&host)
}

#[test]
fn one_that_was_only_made_waits_for_its_start() -> Result<()> {
    let Some(host) = host("one_that_was_only_made_waits_for_its_start")? else { return Ok(()) };
    let id = host.agent(&["container", "create", "--rm", "--name", "one", "box", "sh", "-c", "echo hello; exit 3"]).ok()?;
    // Whoever works on this host meanwhile leaves it alone.
    run(&host, &["box", "true"]).ok()?;
    assert_eq!((id.as_str(), host.inspect("one")?["state"]["status"].as_str()), ("one@1\n", Some("created")));
    let Ran { code, stdout, .. } = host.agent(&["container", "start", "--attach", "one"]);
    assert_eq!((code, stdout.as_str()), (3, "hello\n"));
    all_gone(&host)
}

#[test]
fn a_restart_is_no_end_and_a_policy_is_refused() -> Result<()> {
    let Some(host) = host("a_restart_is_no_end_and_a_policy_is_refused")? else { return Ok(()) };
    run(&host, &["-d", "--name", "one", "box", "sleep", "1000"]).ok()?;
    let first = host.pid("one")?;
    host.agent(&["container", "restart", "-t", "0", "one"]).ok()?;
    assert_ne!(host.pid("one")?, first);
    host.agent(&["container", "rm", "--ended", "one@1"]).ok()?;
    host.pid("one")?;
    host.agent(&["container", "kill", "one"]).ok()?;
    all_gone(&host)?;
    let refused = run(&host, &["-d", "--restart", "always", "box", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("--restart"), "{refused:?}");
    Ok(())
}

#[test]
fn what_nobody_saw_end_is_removed_by_the_next_agent() -> Result<()> {
    let Some(host) = host("what_nobody_saw_end_is_removed_by_the_next_agent")? else { return Ok(()) };
    let start = || -> Result<()> {
        run(&host, &["-d", "--name", "one", "box", "sleep", "1000"]).ok()?;
        kill(i32::try_from(host.inspect("one")?["state"]["shim"]["pid"].as_i64().unwrap_or_default())?)
    };
    start()?;
    // Whoever asks for its end makes it a shim, which sees it.
    host.agent(&["container", "stop", "-t", "0", "one"]).ok()?;
    all_gone(&host)?;
    start()?;
    kill(i32::try_from(host.pid("one")?)?)?;
    run(&host, &["box", "true"]).ok()?;
    all_gone(&host)?;
    // A reboot: nothing runs, and the run directory is empty.
    start()?;
    kill(i32::try_from(host.pid("one")?)?)?;
    host.run("sh", &["-c", &format!("umount {0}/*/*/netns; rm -r {0}", host.places().run.display())]).ok()?;
    assert_eq!(host.container_ids()?, ["one@1"]);
    run(&host, &["box", "true"]).ok()?;
    all_gone(&host)
}
