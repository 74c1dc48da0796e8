//! The nouns of the command line, on a host that has no site: containers, images, volumes, networks, the system.

use anyhow::{Result, bail};
use std::fs;
use tests::host::{Host, Ran, eventually, is_root};

/// A host with the image `box:latest`, built by hand.
fn host() -> Result<Host> {
    let host = Host::new()?;
    host.site("site", &[])?;
    let context = host.path().join("site/box");
    host.agent(&["image", "build", "--tag", "box", context.to_str().expect("a text")]).ok()?;
    Ok(host)
}

#[test]
fn run_gives_output_and_exit_code() -> Result<()> {
    if !is_root("run_gives_output_and_exit_code") {
        return Ok(());
    }
    let host = host()?;
    let run = |arguments: &[&str]| host.agent(&[&["container", "run", "--rm"], arguments].concat());
    let Ran { code, stdout, stderr } = run(&["box", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(run(&["-e", "A=b c", "-w", "/tmp", "box", "sh", "-c", "echo $A $PWD"]).ok()?, "b c /tmp\n");
    assert_eq!(run(&["--user", "1000:1000", "box", "id", "-u"]).ok()?, "1000\n");
    assert_eq!(run(&["--entrypoint", "echo", "box", "one", "two"]).ok()?, "one two\n");
    assert_ne!(run(&["--read-only", "box", "touch", "/file"]).code, 0);
    assert_eq!(run(&["--network", "none", "box", "sh", "-c", "ip -o link | wc -l"]).ok()?, "1\n");
    let missing = run(&["box", "no-such-program"]);
    assert!(missing.code != 0 && missing.stderr.contains("no-such-program"), "{missing:?}");
    // A file of the host, and one that a container leaves there.
    fs::create_dir(host.path().join("shared"))?;
    let shared = format!("{}:/shared", host.path().join("shared").display());
    assert_eq!(run(&["-v", &shared, "box", "sh", "-c", "echo kept >/shared/file"]).code, 0);
    assert_eq!(fs::read_to_string(host.path().join("shared/file"))?, "kept\n");
    assert_eq!(host.container_ids()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_an_image_keeps_in_volumes_is_its_containers_own() -> Result<()> {
    if !is_root("what_an_image_keeps_in_volumes_is_its_containers_own") {
        return Ok(());
    }
    let host = host()?;
    let file = "FROM box\nRUN mkdir -m 0750 /data && echo first >/data/file\nVOLUME /data /absent\n";
    let context = host.files(&[("keeper/Dockerfile", file)])?.display().to_string();
    host.agent(&["image", "build", "-t", "keeper", &context]).ok()?;
    let show = "cat /data/file; stat -c %a /data /absent; echo next >/data/file";
    host.agent(&["container", "run", "--name", "one", "keeper", "sh", "-c", show]).ok()?;
    host.agent(&["container", "start", "--attach", "one"]).ok()?;
    assert_eq!(host.logs("one")?, "first\n750\n755\nnext\n750\n755\n");
    assert_eq!(host.agent(&["container", "run", "--rm", "keeper", "cat", "/data/file"]).ok()?, "first\n");
    Ok(())
}

#[test]
fn containers_run_at_once_without_a_name_each_get_one() -> Result<()> {
    if !is_root("containers_run_at_once_without_a_name_each_get_one") {
        return Ok(());
    }
    let host = host()?;
    let run = || host.agent(&["container", "run", "--detach", "box", "true"]);
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|it| it.join().expect("a run does not panic")).collect()
    });
    let mut ids = ran.into_iter().map(Ran::ok).collect::<Result<Vec<_>>>()?;
    ids.sort();
    assert_eq!(ids, ["run-1@1\n", "run-2@1\n", "run-3@1\n", "run-4@1\n"]);
    Ok(())
}

#[test]
fn a_container_run_by_hand_is_published_and_nobody_elses() -> Result<()> {
    if !is_root("a_container_run_by_hand_is_published_and_nobody_elses") {
        return Ok(());
    }
    let host = host()?;
    let id =
        host.agent(&["container", "run", "-d", "--name", "page", "-p", "8080:80", "box", "httpd", "-f", "-p", "80", "-h", "/bin"]).ok()?;
    assert_eq!(id, "page@1\n");
    host.page("127.0.0.1:8080/busybox").map(drop).or_else(|_| eventually("the page", || host.page("127.0.0.1:8080/busybox").map(drop)))?;
    let taken = host.agent(&["container", "run", "-d", "--name", "page", "box", "true"]);
    assert!(taken.code == 125 && taken.stderr.contains("container page exists"), "{taken:?}");
    // A site's apply and destroy leave it alone.
    let site = host.manifests("site", &["kind: Volume\nmetadata: {name: data}"])?;
    let site = site.as_str();
    host.agent(&["apply", site]).ok()?;
    host.agent(&["destroy", "--yes", "--volumes", site]).ok()?;
    host.pid("page")?;
    host.agent(&["container", "rm", "--force", "page"]).ok()?;
    assert!(host.page("127.0.0.1:8080/busybox").is_err());
    Ok(())
}

#[test]
fn a_name_that_was_given_up_is_free_for_a_site() -> Result<()> {
    if !is_root("a_name_that_was_given_up_is_free_for_a_site") {
        return Ok(());
    }
    let host = host()?;
    host.agent(&["container", "run", "--rm", "--name", "web", "box", "true"]).ok()?;
    let web = "kind: Container\nmetadata: {name: web}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 1s}";
    let site = host.manifests("site", &[web])?;
    host.agent(&["apply", &site]).ok()?;
    host.agent(&["container", "rm", "--force", "web"]).ok()?;
    host.agent(&["container", "run", "--detach", "--name", "web", "box", "sleep", "1000"]).ok()?;
    let refused = host.agent(&["apply", &site]);
    assert!(refused.code == 1 && refused.stdout.contains("container/web"), "{refused:?}");
    host.agent(&["container", "rm", "--force", "web"]).ok()?;
    host.agent(&["apply", &site]).ok()?;
    assert_eq!(host.agent(&["plan", &site]).code, 0);
    Ok(())
}

#[test]
fn containers_are_looked_at_and_steered() -> Result<()> {
    if !is_root("containers_are_looked_at_and_steered") {
        return Ok(());
    }
    let host = host()?;
    let command = "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done";
    host.agent(&["container", "run", "-d", "--name", "one", "--memory", "64Mi", "box", "sh", "-c", command]).ok()?;
    eventually("it says hello", || if host.logs("one")? == "hello\n" { Ok(()) } else { bail!("silent") })?;

    let exec = |arguments: &[&str]| host.agent(&[&["container", "exec"], arguments].concat());
    assert_eq!(exec(&["one", "sh", "-c", "exit 42"]).code, 42);
    assert_eq!(exec(&["-e", "A=1", "-w", "/bin", "one", "sh", "-c", "echo $A $PWD"]).ok()?, "1 /bin\n");
    assert_ne!(exec(&["nobody", "true"]).code, 0);
    assert!(exec(&["ome", "true"]).stderr.contains("did you mean one?"));
    let stats = host.json(&["container", "stats"])?;
    assert_eq!((stats[0]["id"].as_str(), stats[0]["memoryLimitBytes"].as_u64()), (Some("one@1"), Some(64 << 20)));
    assert!(stats[0]["pids"].as_u64() >= Some(1));
    assert_eq!(host.inspect("one")?["shimAlive"], true);

    let follower = host.spawn_agent(&["container", "logs", "--follow", "one"])?;
    let first = host.pid("one")?;
    assert_eq!(host.agent(&["container", "stop", "one"]).ok()?, "one@1\n");
    assert_eq!(follower.output_at_end()?, "hello\nbye\n");
    assert_eq!(host.agent(&["container", "wait", "one"]).ok()?, "3\n");
    host.agent(&["container", "start", "one"]).ok()?;
    let second = host.pid("one")?;
    host.agent(&["container", "restart", "one"]).ok()?;
    let third = host.pid("one")?;
    assert!(first != second && second != third);
    host.agent(&["container", "kill", "--signal", "SIGTERM", "one"]).ok()?;
    assert_eq!(host.agent(&["container", "wait", "one"]).ok()?, "3\n");
    host.agent(&["container", "start", "one"]).ok()?;
    host.agent(&["container", "kill", "one"]).ok()?;
    assert_eq!(host.agent(&["container", "wait", "one"]).ok()?, "137\n");
    assert_eq!(host.agent(&["container", "logs", "--tail", "1", "one"]).ok()?, "hello\n");
    assert_eq!(host.agent(&["container", "ps", "--quiet"]).ok()?, "");
    assert_eq!(host.agent(&["container", "rm", "one"]).ok()?, "one@1\n");
    assert_eq!(host.container_ids()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn processes_ports_and_limits_are_shown_and_changed() -> Result<()> {
    if !is_root("processes_ports_and_limits_are_shown_and_changed") {
        return Ok(());
    }
    let host = host()?;
    let options = ["-d", "--name", "one", "-v", "/own", "-m", "64m", "-p", "127.0.0.1:8080:80", "-p", "5353:53/udp", "box"];
    host.agent(&[&["container", "run"], &options[..], &["sh", "-c", "echo first >/own/file; echo said; sleep 1000; true"]].concat())
        .ok()?;
    let asked = |arguments: &[&str]| host.agent(&[&["container"], arguments].concat());
    eventually("it sleeps", || {
        let tasks = host.json(&["container", "top", "one"])?;
        let commands: Vec<_> = tasks.iter().filter_map(|task| task["command"].as_str()).collect();
        let pid = host.pid("one")?;
        if commands.get(1) == Some(&"sleep 1000") && tasks[0]["pid"] == pid && tasks[1]["ppid"] == pid {
            Ok(())
        } else {
            bail!("{tasks:?}")
        }
    })?;
    assert_eq!(asked(&["port", "one"]).ok()?, "53/udp -> 0.0.0.0:5353\n80/tcp -> 127.0.0.1:8080\n");
    assert_eq!(asked(&["port", "one", "80"]).ok()?, "127.0.0.1:8080\n");
    asked(&["port", "one", "81"]).err_with("port 81/tcp of one@1 is not published")?;
    asked(&["update", "-m", "100m", "--restart", "on-failure:2", "one"]).ok()?;
    let updatable = &host.inspect("one")?["config"]["updatable"];
    assert_eq!((&updatable["resources"]["memory"], &updatable["restart"]), (&"100Mi".into(), &"on-failure:2".into()));
    assert_eq!(host.json(&["container", "stats", "one"])?[0]["memoryLimitBytes"], 100 << 20);
    assert_eq!(asked(&["logs", "--until", "1h", "one"]).ok()?, "");
    assert_eq!(asked(&["logs", "--since", "1h", "--until", "0s", "one"]).ok()?, "said\n");
    // A volume that only a place is named for goes with the container.
    assert_eq!(asked(&["exec", "one", "cat", "/own/file"]).ok()?, "first\n");
    assert!(host.json(&["volume", "ls"])?.is_empty());
    asked(&["rm", "-f", "one"]).ok()?;
    let member = "kind: Container\nmetadata: {name: member}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 1s}";
    let site = host.manifests("site", &[member])?;
    host.agent(&["apply", &site]).ok()?;
    asked(&["update", "-m", "100m", "member"]).err_with("belongs to the site")
}

#[test]
fn images_are_built_imported_named_and_removed() -> Result<()> {
    if !is_root("images_are_built_imported_named_and_removed") {
        return Ok(());
    }
    let host = host()?;
    let names = || -> Result<Vec<String>> {
        Ok(host.json(&["image", "ls"])?.iter().map(|it| it["name"].as_str().unwrap_or_default().to_owned()).collect())
    };
    assert_eq!(names()?, ["docker.io/library/box:latest"]);
    // Built ones claim to be as old as their fixed date: what is shown is when it came.
    let listed = host.agent(&["image", "ls"]).ok()?;
    assert!(listed.contains("ADDED") && listed.contains("s ago"), "{listed}");
    host.agent(&["image", "tag", "box", "second:1"]).ok()?;
    let inspected: serde_json::Value = serde_json::from_str(&host.agent(&["image", "inspect", "second:1"]).ok()?)?;
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));

    // A root file system as a tar, made by another program.
    fs::create_dir_all(host.path().join("root/bin"))?;
    host.busybox("root/bin/busybox")?;
    let archive = host.path().join("root.tar").display().to_string();
    host.run("tar", &["-C", &host.path().join("root").display().to_string(), "-cf", &archive, "."]).ok()?;
    host.agent(&["image", "import", "--tag", "imported", &archive]).ok()?;
    assert_eq!(host.agent(&["container", "run", "--rm", "imported", "/bin/busybox", "echo", "hello"]).ok()?, "hello\n");

    host.agent(&["container", "run", "-d", "--name", "user", "box", "sleep", "1000"]).ok()?;
    let refused = host.agent(&["image", "rm", "box", "second:1"]);
    assert!(refused.code == 1 && refused.stderr.contains("image second:1 is in use by user@1"), "{refused:?}");
    host.agent(&["image", "rm", "--force", "second:1", "imported"]).ok()?;
    assert_eq!(names()?, Vec::<String>::new());
    // What a container was made from stays until it goes.
    host.agent(&["container", "exec", "user", "true"]).ok()?;
    host.agent(&["container", "rm", "--force", "user"]).ok()?;
    host.agent(&["system", "prune", "--force"]).ok()?;
    assert_eq!(fs::read_dir(host.places().images().join("images"))?.count(), 0);
    let missing = host.agent(&["image", "inspect", "box"]);
    assert!(missing.code == 1 && missing.stderr.contains("no such image: box"), "{missing:?}");
    Ok(())
}

#[test]
fn volumes_and_networks_are_listed() -> Result<()> {
    if !is_root("volumes_and_networks_are_listed") {
        return Ok(());
    }
    let host = Host::new()?;
    let volume = "kind: Volume\nmetadata: {name: data}";
    let network = "kind: Network\nmetadata: {name: shop}\nspec: {subnet: 10.99.0.0/24, internal: true}";
    let user = "kind: Container\nmetadata: {name: user}\nspec: {image: box, command: [sleep, '1000'], volumes: ['data:/data'], networks: [shop], stopGracePeriod: 1s}";
    let site = host.site("site", &[volume, network, user])?;
    host.agent(&["apply", &site]).ok()?;
    let volumes = host.json(&["volume", "ls"])?;
    assert_eq!((&volumes[0]["name"], &volumes[0]["usedBy"][0]), (&"data".into(), &"user@1".into()));
    let refused = host.agent(&["volume", "rm", "data"]);
    assert!(refused.code == 1 && refused.stderr.contains("volume data is in use by user@1"), "{refused:?}");
    let networks = host.json(&["network", "ls"])?;
    let shop = networks.iter().find(|network| network["name"] == "shop").expect("shop is listed");
    assert_eq!((&shop["subnet"], &shop["gateway"], &shop["internal"]), (&"10.99.0.0/24".into(), &"10.99.0.1".into(), &true.into()));
    assert_eq!((shop["containers"][0].as_str(), shop["faults"].as_array().map(Vec::len)), (Some("user@1"), Some(0)));
    host.agent(&["destroy", "--yes", &site]).ok()?;
    assert_eq!(host.agent(&["volume", "rm", "data"]).ok()?, "data\n");
    Ok(())
}

#[test]
fn volumes_and_networks_made_by_hand_are_for_everybody() -> Result<()> {
    if !is_root("volumes_and_networks_made_by_hand_are_for_everybody") {
        return Ok(());
    }
    let host = host()?;
    let run = |arguments: &[&str]| host.agent(&[&["container", "run", "--rm"], arguments].concat());
    run(&["-v", "my_data:/d", "box", "sh", "-c", "echo kept >/d/file"]).ok()?;
    host.agent(&["volume", "create", "my_data"]).ok()?;
    assert_eq!(run(&["-v", "my_data:/d:ro", "box", "cat", "/d/file"]).ok()?, "kept\n");
    run(&["--network", "container:web", "box", "true"]).err_with("put both on a network")?;
    let missing = run(&["--network", "shop", "box", "true"]);
    assert!(missing.code == 125 && missing.stderr.contains("agent network create shop"), "{missing:?}");
    host.agent(&["network", "create", "--subnet", "10.98.0.0/24", "shop"]).ok()?;
    assert_eq!(host.agent(&["network", "create", "shop"]).code, 1);
    assert_eq!(host.agent(&["network", "create", "--subnet", "10.98.0.128/25", "other"]).code, 1);
    let server = ["-d", "--name", "web", "--network", "shop", "--network-alias", "www", "--ip", "10.98.0.9", "box"];
    run(&[&server[..], &["httpd", "-f", "-p", "80", "-h", "/bin"]].concat()).ok()?;
    run(&["--network", "shop", "box", "sh", "-c", "nslookup web | grep 10.98.0.9 && wget -qO /dev/null http://www/busybox"]).ok()?;
    assert_ne!(run(&["box", "nslookup", "web"]).code, 0);
    // What runs joins and leaves.
    host.agent(&["container", "run", "-d", "--name", "guest", "box", "sleep", "1000"]).ok()?;
    let asks = || host.agent(&["container", "exec", "guest", "wget", "-qO", "/dev/null", "http://www/busybox"]);
    assert_ne!(asks().code, 0);
    host.agent(&["network", "connect", "--alias", "visitor", "shop", "guest"]).ok()?;
    asks().ok()?;
    host.agent(&["container", "exec", "web", "nslookup", "visitor"]).ok()?;
    host.agent(&["network", "connect", "shop", "guest"]).err_with("is on network shop already")?;
    host.agent(&["container", "restart", "-t", "0", "guest"]).ok()?;
    asks().ok()?;
    host.agent(&["network", "disconnect", "shop", "guest"]).ok()?;
    assert_ne!(asks().code, 0);
    host.agent(&["container", "rm", "-f", "guest"]).ok()?;
    let refused = host.agent(&["network", "rm", "shop"]);
    assert!(refused.code == 1 && refused.stderr.contains("in use by web@1"), "{refused:?}");

    let [data, shop] = [("Volume", "my_data"), ("Network", "shop")]
        .map(|(kind, name)| format!("kind: {kind}\nmetadata: {{name: {name}}}\nspec: {{external: true}}"));
    let user = "kind: Container\nmetadata: {name: user}\nspec: {image: box, command: [sleep, '1000'], volumes: ['my_data:/d'], networks: [shop], stopGracePeriod: 1s}";
    let site = host.manifests("site", &[&data, &shop, user])?;
    host.agent(&["apply", &site]).ok()?;
    assert_eq!(host.agent(&["plan", &site]).code, 0);
    assert_eq!(host.agent(&["container", "exec", "user", "cat", "/d/file"]).ok()?, "kept\n");
    host.agent(&["destroy", "--yes", "--volumes", &site]).ok()?;
    host.agent(&["container", "rm", "--force", "web"]).ok()?;
    assert_eq!(run(&["-v", "my_data:/d", "box", "cat", "/d/file"]).ok()?, "kept\n");
    host.agent(&["volume", "prune"]).err_with("nobody is there to ask")?;
    host.agent(&["container", "run", "--name", "ended", "box", "true"]).ok()?;
    for (noun, gone) in [("container", "ended@1"), ("volume", "my_data"), ("network", "shop")] {
        let said = host.agent(&[noun, "prune", "--force"]).ok()?;
        assert!(said.starts_with(&format!("{gone}\nTotal reclaimed space: ")), "{said}");
        assert!(!host.agent(&[noun, "prune", "--force"]).ok()?.contains(gone));
    }
    Ok(())
}

#[test]
fn the_system_is_shown_pruned_and_reset() -> Result<()> {
    if !is_root("the_system_is_shown_pruned_and_reset") {
        return Ok(());
    }
    let host = host()?;
    let info = host.agent(&["system", "info"]).ok()?;
    assert!(info.contains(&host.places().instance()) && info.contains("all there"), "{info}");
    let sizes = host.json(&["system", "df"])?;
    let images = sizes.iter().find(|row| row["type"] == "Images").expect("images have a row");
    assert!(images["sizeBytes"].as_u64() > Some(1_000_000), "{images}");
    host.agent(&["container", "run", "-d", "--name", "one", "-p", "8080:80", "box", "sleep", "1000"]).ok()?;
    assert_eq!(host.agent(&["system", "reset"]).code, 1);
    host.pid("one")?;
    host.agent(&["system", "reset", "--force"]).ok()?;
    let left = tests::census::traces(&host);
    assert!(left.is_empty(), "{left:#?}");
    // And it can be used again.
    assert_eq!(host.agent(&["container", "ps"]).code, 0);
    Ok(())
}

#[test]
fn completions_manual_and_schema_come_from_the_program() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let run = |arguments: &[&str]| std::process::Command::new(tests::host::program("agent")).args(arguments).output().map(Ran::from);
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completion", shell])?.ok()?.contains("container"), "{shell}");
    }
    run(&["man", directory.path().to_str().expect("a text")])?.ok()?;
    assert!(fs::read_to_string(directory.path().join("agent-plan.1"))?.contains(".TH agent-plan 1"));
    let schema: serde_json::Value = serde_json::from_str(&run(&["schema"])?.ok()?)?;
    assert!(schema["$schema"].is_string());
    Ok(())
}
