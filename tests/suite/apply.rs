//! The life of a site as its user sees it: planned, applied, left alone, taken away.

use anyhow::{Result, bail};
use std::fs;
use tests::host::{Host, eventually, is_root};

const SLEEPER: &str = "kind: Container\nmetadata: {name: sleeper}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 1s}";

#[test]
fn a_plan_on_an_untouched_host_writes_nothing() -> Result<()> {
    if !is_root("a_plan_on_an_untouched_host_writes_nothing") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host.site("site", &[SLEEPER])?;
    for flags in [&[][..], &["--json"]] {
        let ran = host.agent(&[&["plan", &site], flags].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    let places = host.places();
    assert!([places.state, places.run, places.config].iter().all(|path| !path.exists()));
    assert_eq!(host.run("ip", &["-oneline", "link"]).ok()?.lines().count(), 1);
    assert_eq!(host.run("nft", &["list", "ruleset"]).ok()?, "");
    Ok(())
}

#[test]
fn a_second_apply_has_nothing_to_do() -> Result<()> {
    if !is_root("a_second_apply_has_nothing_to_do") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host.site("site", &[SLEEPER])?;
    let first = host.agent(&["apply", &site]);
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.stdout.contains("+ container/sleeper  create"), "{first:?}");
    assert!(first.stdout.ends_with("Done: the host matches the site.\n"), "{first:?}");
    assert!(first.stderr.contains("✓ start sleeper@1 "), "{first:?}");
    let (pid, history) = (host.pid("sleeper")?, host.json(&["history"])?);

    let second = host.agent(&["apply", &site]).ok()?;
    assert_eq!(second, "Nothing to do: the host matches the site.\n");
    let plan = host.agent(&["plan", &site]);
    assert_eq!((plan.code, plan.stdout.as_str()), (0, "Nothing to do: the host matches the site.\n"));
    assert_eq!((host.pid("sleeper")?, host.json(&["history"])?), (pid, history));
    assert_eq!(host.json(&["status"])?[0]["result"], "converged");
    Ok(())
}

#[test]
fn machine_readable_output_is_lines_of_json() -> Result<()> {
    if !is_root("machine_readable_output_is_lines_of_json") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host.site("site", &[SLEEPER])?;
    let plan = host.json(&["plan", &site])?;
    assert_eq!((plan[0]["type"].as_str(), plan[plan.len() - 1]["type"].as_str()), (Some("version"), Some("summary")));
    let apply = host.json(&["apply", &site])?;
    let last = &apply[apply.len() - 1];
    assert_eq!((last["type"].as_str(), last["converged"].as_bool(), last["failures"].as_u64()), (Some("applied"), Some(true), Some(0)));
    assert!(apply.iter().any(|line| line["type"] == "finished" && line["resource"] == "container/sleeper" && line["error"].is_null()));
    for command in [
        &["validate", &site][..],
        &["status"],
        &["history"],
        &["container", "ps"],
        &["container", "stats"],
        &["container", "logs", "sleeper"],
        &["image", "ls"],
        &["volume", "ls"],
        &["network", "ls"],
        &["system", "info"],
        &["system", "df"],
        &["system", "prune", "--force"],
        &["destroy", "--yes", &site],
    ] {
        host.json(command)?;
    }
    Ok(())
}

#[test]
fn dependents_wait_for_health_and_for_completion() -> Result<()> {
    if !is_root("dependents_wait_for_health_and_for_completion") {
        return Ok(());
    }
    let host = Host::new()?;
    let volume = "kind: Volume\nmetadata: {name: shared}";
    // Each writes down the time at which it got where the next one waits for it.
    let job = "kind: Container\nmetadata: {name: job}\nspec:\n  image: box\n  restart: 'no'\n  volumes: ['shared:/data']\n  \
               command: [sh, -c, 'echo job begins >>/data/order; sleep 0.5; echo job ends >>/data/order']";
    let database = "kind: Container\nmetadata: {name: database}\nspec:\n  image: box\n  volumes: ['shared:/data']\n  stopGracePeriod: 1s\n  \
                    dependsOn: {job: completed}\n  \
                    command: [sh, -c, 'echo database begins >>/data/order; sleep 0.5; echo database ready >>/data/order; touch /ready; sleep 1000']\n  \
                    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, startPeriod: 60s}";
    let web = "kind: Container\nmetadata: {name: web}\nspec:\n  image: box\n  volumes: ['shared:/data']\n  stopGracePeriod: 1s\n  \
               dependsOn: {database: healthy}\n  command: [sh, -c, 'echo web begins >>/data/order; sleep 1000']";
    let site = host.site("site", &[web, database, job, volume])?;
    host.agent(&["apply", &site]).ok()?;
    let file = host.places().volume_data(&"shared".parse()?).join("order");
    let order = eventually("web writes its line", || {
        let order = fs::read_to_string(&file)?;
        if order.contains("web begins") { Ok(order) } else { bail!("{order}") }
    })?;
    let lines: Vec<&str> = order.lines().collect();
    assert_eq!(lines, ["job begins", "job ends", "database begins", "database ready", "web begins"]);

    // A job that is done is done.
    assert_eq!(host.agent(&["apply", &site]).ok()?, "Nothing to do: the host matches the site.\n");
    assert_eq!(fs::read_to_string(&file)?, order);
    Ok(())
}

#[test]
fn a_job_nobody_waits_for_may_end_when_it_likes() -> Result<()> {
    if !is_root("a_job_nobody_waits_for_may_end_when_it_likes") {
        return Ok(());
    }
    let host = Host::new()?;
    let job = |name: &str, code: u8| {
        let command = format!("until [ -e /end/now ]; do sleep 0.05; done; exit {code}");
        format!(
            "kind: Container\nmetadata: {{name: {name}}}\nspec: {{image: box, volumes: [\"{}:/end\"], command: [sh, -c, \"{command}\"]}}",
            host.path().display()
        )
    };
    let site = host.site("site", &[&job("good", 0), &job("bad", 3)])?;
    host.agent(&["apply", &site]).ok()?;
    let plan = || host.agent(&["plan", &site]);
    assert_eq!((plan().code, plan().stdout.as_str()), (0, "Nothing to do: the host matches the site.\n"), "while both run");
    host.files(&[("now", "")])?;
    assert_eq!(host.agent(&["container", "wait", "good", "bad"]).ok()?, "0\n3\n");
    let ended = plan();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("container/bad: ended with exit code 3") && !ended.stdout.contains("container/good"), "{ended:?}");
    assert_eq!(host.agent(&["apply", &site]).code, 0, "what failed is told, not done again");
    Ok(())
}

#[test]
fn nothing_starts_behind_a_job_that_failed() -> Result<()> {
    if !is_root("nothing_starts_behind_a_job_that_failed") {
        return Ok(());
    }
    let host = Host::new()?;
    let job = "kind: Container\nmetadata: {name: job}\nspec: {image: box, restart: 'no', command: [sh, -c, exit 3]}";
    let web = "kind: Container\nmetadata: {name: web}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 1s, dependsOn: {job: completed}}";
    let site = host.site("site", &[job, web])?;
    let ran = host.agent(&["apply", &site]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains(": it ended with exit code 3"), "{ran:?}");
    assert!(host.pid("web").is_err());
    Ok(())
}

#[test]
fn volumes_outlive_their_manifests() -> Result<()> {
    if !is_root("volumes_outlive_their_manifests") {
        return Ok(());
    }
    let host = Host::new()?;
    let volume = "kind: Volume\nmetadata: {name: data}";
    let writer = "kind: Container\nmetadata: {name: writer}\nspec: {image: box, restart: 'no', command: [sh, -c, 'echo x >>/data/file'], volumes: ['data:/data']}";
    let site = host.site("site", &[volume, writer])?;
    host.agent(&["apply", &site]).ok()?;
    let file = host.places().volume_data(&"data".parse()?).join("file");
    eventually("the writer writes", || Ok(fs::read_to_string(&file)?))?;

    host.manifests("site", &[SLEEPER])?;
    let apply = host.agent(&["apply", &site]).ok()?;
    assert!(apply.contains("volume/data: no manifest names it any more; it stays with its data"), "{apply}");
    assert_eq!((host.container_ids()?, fs::read_to_string(&file)?), (vec!["sleeper@1".to_owned()], "x\n".to_owned()));

    host.agent(&["destroy", "--yes", &site]).ok()?;
    assert_eq!((host.container_ids()?, fs::read_to_string(&file)?), (vec![], "x\n".to_owned()));
    host.agent(&["destroy", "--yes", "--volumes", &site]).ok()?;
    assert!(!file.exists());
    assert_eq!(host.json(&["volume", "ls"])?.len(), 0);
    assert_eq!(host.agent(&["destroy", "--yes", "--volumes", &site]).code, 0);
    Ok(())
}

#[test]
fn a_stop_by_hand_is_a_hold() -> Result<()> {
    if !is_root("a_stop_by_hand_is_a_hold") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host.site("site", &[SLEEPER])?;
    host.agent(&["apply", &site]).ok()?;
    host.agent(&["container", "stop", "sleeper"]).ok()?;
    let plan = host.agent(&["plan", &site]);
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.stdout.contains("container/sleeper: stopped by hand and left so until `agent container start sleeper`"), "{plan:?}");
    let apply = host.agent(&["apply", &site]);
    assert_eq!(apply.code, 0, "{apply:?}");
    assert!(host.pid("sleeper").is_err());
    host.agent(&["container", "start", "sleeper"]).ok()?;
    host.pid("sleeper")?;
    assert_eq!(host.agent(&["apply", &site]).ok()?, "Nothing to do: the host matches the site.\n");
    Ok(())
}

#[test]
fn what_was_removed_by_hand_is_made_again() -> Result<()> {
    if !is_root("what_was_removed_by_hand_is_made_again") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host.site("site", &[SLEEPER])?;
    host.agent(&["apply", &site]).ok()?;
    let refused = host.agent(&["container", "rm", "sleeper"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    host.agent(&["container", "rm", "--force", "sleeper"]).ok()?;
    assert_eq!(host.agent(&["plan", &site]).code, 2);
    host.agent(&["apply", &site]).ok()?;
    host.pid("sleeper")?;
    assert_eq!(host.agent(&["plan", &site]).code, 0);
    Ok(())
}

#[test]
fn an_internal_network_has_no_way_out() -> Result<()> {
    if !is_root("an_internal_network_has_no_way_out") {
        return Ok(());
    }
    let host = Host::new()?;
    let networks = ["kind: Network\nmetadata: {name: front}", "kind: Network\nmetadata: {name: back}\nspec: {internal: true}"];
    let web = "kind: Container\nmetadata: {name: web}\nspec:\n  image: box\n  command: [httpd, -f, -p, '80', -h, /bin]\n  networks: [front, back]\n  stopGracePeriod: 1s";
    let database = "kind: Container\nmetadata: {name: database}\nspec:\n  image: box\n  command: [httpd, -f, -p, '80', -h, /bin]\n  networks: [back]\n  stopGracePeriod: 1s";
    let site = host.site("site", &[networks[0], networks[1], web, database])?;
    host.agent(&["apply", &site]).ok()?;
    // An address of the world beyond the host.
    host.run("ip", &["address", "add", "198.51.100.1/32", "dev", "lo"]).ok()?;
    let inside = |container: &str, command: &str| host.agent(&["container", "exec", container, "sh", "-c", command]);
    assert_eq!(inside("web", "ip route").ok()?.lines().filter(|line| line.starts_with("default")).count(), 1);
    assert_eq!(inside("database", "ip route").ok()?.lines().filter(|line| line.starts_with("default")).count(), 0);
    inside("web", "wget -qO /dev/null http://database/busybox").ok()?;
    inside("web", "ping -c 1 -W 5 198.51.100.1").ok()?;
    assert_ne!(inside("database", "ping -c 1 -W 1 198.51.100.1").code, 0);
    // A name of a network it is not on.
    assert_ne!(inside("database", "ping -c 1 -W 1 example.invalid").code, 0);
    Ok(())
}

#[test]
fn two_sites_do_not_touch_each_other() -> Result<()> {
    if !is_root("two_sites_do_not_touch_each_other") {
        return Ok(());
    }
    let host = Host::new()?;
    let other = SLEEPER.replace("sleeper", "other");
    let (one, two) = (host.site("one", &[SLEEPER])?, host.site("two", &[&other])?);
    host.agent(&["apply", &one]).ok()?;
    // The image is named alike in both: it belongs to the first.
    let refused = host.agent(&["apply", &two]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stdout.contains("image/box"), "{refused:?}");
    let text = fs::read_to_string(host.path().join("two/site.yaml"))?;
    fs::write(host.path().join("two/site.yaml"), text.replace("name: box", "name: second").replace("image: box", "image: second"))?;
    host.agent(&["apply", &two]).ok()?;
    let pids = (host.pid("sleeper")?, host.pid("other")?);
    assert_eq!((host.agent(&["plan", &one]).code, host.agent(&["plan", &two]).code), (0, 0));

    host.agent(&["destroy", "--yes", &two]).ok()?;
    assert_eq!(host.container_ids()?, ["sleeper@1"]);
    assert_eq!(host.pid("sleeper")?, pids.0);

    // A name that is taken is refused, and what has it is left alone.
    host.manifests("two", &[SLEEPER])?;
    let text = fs::read_to_string(host.path().join("two/site.yaml"))?;
    fs::write(host.path().join("two/site.yaml"), text.replace("name: box", "name: second").replace("image: box", "image: second"))?;
    let refused = host.agent(&["apply", &two]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stdout.contains("container/sleeper"), "{refused:?}");
    assert_eq!(host.pid("sleeper")?, pids.0);
    Ok(())
}
