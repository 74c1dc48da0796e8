//! What the command line says and understands: names that are not there, hands that know docker, hosts that refuse.

use anyhow::{Result, bail};
use runtime::store::Lock;
use tests::host::{Host, Ran, eventually, is_root};

/// A host with a container, a volume, a network and an image `box`.
fn host() -> Result<(Host, String)> {
    let host = Host::new()?;
    let site = host.site(
        "site",
        &[
            "kind: Network\nmetadata: {name: shop}",
            "kind: Volume\nmetadata: {name: data}",
            "kind: Container\nmetadata: {name: web, labels: {tier: front}}\nspec: {image: box, command: [sleep, '1000'], networks: [shop], \
             volumes: ['data:/data'], stopGracePeriod: 100ms}",
        ],
    )?;
    host.agent(&["apply", &site]).ok()?;
    Ok((host, site))
}

fn refused(ran: &Ran, code: i32, texts: &[&str]) {
    assert!(ran.code == code && texts.iter().all(|text| ran.stderr.contains(text)), "{texts:?}: {ran:?}");
}

#[test]
fn what_is_not_there_is_named_with_what_may_have_been_meant() -> Result<()> {
    if !is_root("what_is_not_there_is_named_with_what_may_have_been_meant") {
        return Ok(());
    }
    let (host, _) = host()?;
    host.agent(&["container", "run", "--name", "job", "box", "true"]).ok()?;
    for (arguments, error, hint) in [
        (&["container", "logs", "wbe"] as &[&str], "no such container: wbe", "did you mean web?"),
        (&["container", "logs", "shop"], "no such container: shop", "shop is a network: agent network inspect shop"),
        (&["container", "stop", "zzz"], "no such container: zzz", "agent container ps -a lists those there are"),
        (&["container", "rm", "web"], "container web@1 is running", "agent container stop web first"),
        (&["container", "exec", "job", "true"], "container job@1 is not running", "agent container start job"),
        (&["image", "inspect", "bx"], "no such image: bx", "did you mean box?"),
        (&["image", "inspect", ""], "no such image: ", "agent image ls lists those there are"),
        (&["image", "tag", "data", "x"], "no such image: data", "data is a volume: agent volume inspect data"),
        (&["volume", "rm", "dta"], "no such volume: dta", "did you mean data?"),
        (&["volume", "rm", "gone", "away"], "no such volume: gone, away", "agent volume ls lists those there are"),
        (&["volume", "rm", "data"], "volume data is in use by web@1", "agent container rm web@1"),
        (&["volume", "inspect", "web"], "no such volume: web", "web is a container: agent container inspect web"),
        (&["network", "inspect", "shp"], "no such network: shp", "did you mean shop?"),
        (&["image", "build", "-t", "A B", "."], "\"A B\" is not an image reference", ""),
    ] {
        refused(&host.agent(arguments), 1, &[error, hint]);
    }
    Ok(())
}

#[test]
fn ids_that_begin_alike_are_told_apart() -> Result<()> {
    if !is_root("ids_that_begin_alike_are_told_apart") {
        return Ok(());
    }
    let host = Host::new()?;
    let context = host.files(&[("context/Dockerfile", "FROM scratch\nARG N\nLABEL n=$N\n")])?.display().to_string();
    // Seventeen images: two of sixteen first digits are the same.
    let build = |n: u32| host.agent(&["image", "build", "-q", "--build-arg", &format!("N={n}"), "-t", &format!("n{n}"), &context]).ok();
    let ids = (0..17).map(build).collect::<Result<Vec<_>>>()?;
    let digit = |id: &String| id.trim_start_matches("sha256:").chars().next().unwrap_or_default();
    let twice = ids.iter().map(digit).find(|it| ids.iter().filter(|id| digit(id) == *it).count() > 1).unwrap_or_default().to_string();
    refused(&host.agent(&["image", "inspect", &twice]), 1, &[&format!("{twice} is the beginning of "), "hint: write more of it: "]);
    Ok(())
}

#[test]
fn lists_are_filtered_and_formatted_as_with_docker() -> Result<()> {
    if !is_root("lists_are_filtered_and_formatted_as_with_docker") {
        return Ok(());
    }
    let (host, _) = host()?;
    host.agent(&["container", "run", "--name", "job", "-l", "tier=back", "box", "false"]);
    let says = |arguments: &[&str]| host.agent(arguments).ok();
    assert_eq!(says(&["container", "ps", "--format", "{{.Names}} {{.State}}"])?, "web running\n");
    assert_eq!(says(&["container", "ps", "-q", "--filter", "status=exited"])?, "job@1\n");
    assert_eq!(says(&["container", "ps", "-aq", "-f", "label=tier=back"])?, "job@1\n");
    assert_eq!(says(&["container", "ps", "-aq", "-f", "label=tier", "-f", "name=we", "--no-trunc"])?, "web@1\n");
    assert_eq!(says(&["container", "ps", "-aq", "-f", "network=shop", "-f", "name=job"])?, "");
    assert_eq!(
        says(&["container", "ps", "-a", "--format", "table {{.ID}}\\t{{.Health}}"])?,
        "ID      HEALTH\njob@1   none\nweb@1   none\n"
    );
    assert_eq!(says(&["container", "list", "--format", "json"])?, says(&["container", "ps", "--json"])?);
    assert_eq!(says(&["image", "ls", "--format", "{{.Repository}}"])?, "box\n");
    assert_eq!(says(&["volume", "ls", "-q"])?, "data\n");
    assert_eq!(says(&["network", "ls", "-q"])?, "default\nshop\n");
    assert_eq!(says(&["network", "inspect", "-f", "{{.Driver}} {{json .Containers}}", "shop"])?, "bridge [\"web@1\"]\n");
    assert_eq!(host.json(&["container", "wait", "job"])?[0]["exitCode"], 1);
    assert_eq!(host.json(&["container", "rm", "job"])?[0]["id"], "job@1");
    let pid = says(&["container", "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "web"])?;
    assert_eq!(pid, format!("running {}\n", host.pid("web")?));
    assert_eq!(says(&["volume", "inspect", "-f", "{{.UsageData.UsedBy}}", "data"])?, "web@1\n");
    refused(&host.agent(&["container", "ps", "--format", "{{.Nam}}"]), 1, &["there is no .Nam; there are ", ".name"]);
    refused(&host.agent(&["container", "ps", "--format", "{{range .}}"]), 2, &["--json and jq do the rest"]);
    refused(&host.agent(&["container", "ps", "--filter", "colour=red"]), 2, &["write name=…"]);
    Ok(())
}

#[test]
fn run_says_by_its_exit_code_whether_the_command_ran() -> Result<()> {
    if !is_root("run_says_by_its_exit_code_whether_the_command_ran") {
        return Ok(());
    }
    let (host, _) = host()?;
    host.files(&[("env", "# who\nA=1\n\nB=b c\n")])?;
    let env = host.path().join("env").display().to_string();
    let run = |arguments: &[&str]| host.agent(&[&["container", "run", "--rm"], arguments].concat());
    refused(&run(&["box", "no-such-program"]), 127, &["no-such-program"]);
    refused(&run(&["box", "/bin"]), 126, &["/bin"]);
    refused(&run(&["--env-file", "/nowhere", "box", "true"]), 125, &["read /nowhere"]);
    refused(&run(&["--user", "nobody-here", "box", "true"]), 125, &["nobody-here"]);
    refused(&run(&["--restart", "sometimes", "box", "true"]), 125, &["hint: "]);
    refused(&run(&["--memory", "much", "box", "true"]), 125, &["much"]);
    assert_eq!(run(&["box", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(run(&["--env-file", &env, "-e", "A=2", "box", "sh", "-c", "echo $A $B"]).ok()?, "2 b c\n");
    assert_eq!(run(&["--hostname", "desk", "box", "hostname"]).ok()?, "desk\n");
    let mounted = run(&["--tmpfs", "/scratch:size=64k", "--cap-drop", "ALL", "box", "sh", "-c", "grep -c ' /scratch tmpfs' /proc/mounts"]);
    assert_eq!(mounted.ok()?, "1\n");
    assert_ne!(run(&["--cap-drop", "CHOWN", "box", "chown", "1", "/bin"]).code, 0);
    Ok(())
}

#[test]
fn a_destroy_says_that_it_is_one() -> Result<()> {
    if !is_root("a_destroy_says_that_it_is_one") {
        return Ok(());
    }
    let (host, site) = host()?;
    let asked = host.agent(&["destroy", &site]);
    refused(&asked, 1, &["nobody is there to ask", "add --yes"]);
    assert!(asked.stdout.contains("- container/web  stop and remove\n    the site is to be destroyed\n"), "{asked:?}");
    assert!(asked.stdout.contains("volume/data: the site is to be destroyed; it stays with its data"), "{asked:?}");
    host.agent(&["destroy", "--yes", &site]).ok()?;
    assert_eq!(host.agent(&["status"]).ok()?, "Nothing is applied to this host.\n");
    assert_eq!(host.json(&["history"])?[0]["result"], "destroyed");
    let again = host.agent(&["destroy", "--yes", &site]).ok()?;
    assert!(again.ends_with("Nothing to do: nothing of the site is left, but for what is left alone.\n"), "{again}");
    // For whoever asks later the site is one that has nothing: its volume is still its own.
    assert!(host.agent(&["plan", &site]).stdout.contains("Plan: 3 to create."));
    Ok(())
}

#[test]
fn status_tells_of_a_first_turn_that_is_not_over() -> Result<()> {
    if !is_root("status_tells_of_a_first_turn_that_is_not_over") {
        return Ok(());
    }
    let host = Host::new()?;
    let probe = "healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, retries: 10000}, stopGracePeriod: 100ms";
    let first = format!("kind: Container\nmetadata: {{name: first}}\nspec: {{image: box, command: [sleep, '1000'], {probe}}}");
    let second = "kind: Container\nmetadata: {name: second}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 100ms, \
                  dependsOn: {first: healthy}}";
    let site = host.site("site", &[&first, second])?;
    assert_eq!(host.agent(&["status"]).ok()?, "Nothing is applied to this host.\n");
    assert!(!host.places().state.exists(), "who looks makes nothing");
    let watch = host.spawn_agent(&["watch", &site])?;
    eventually("the first container runs", || host.pid("first").map(drop))?;
    let status = host.agent(&["status"]).ok()?;
    assert!(status.contains("result      none yet\n") && status.contains("watch       a watch is running\n"), "{status}");
    assert!(host.json(&["status"])?[0]["finished"].is_null());
    refused(&host.agent(&["watch", &site]), 1, &["another watch runs", &format!("hint: it is process {}, ", watch.pid()), "agent status"]);
    host.agent(&["container", "exec", "first", "touch", "/ready"]).ok()?;
    eventually("the first turn is over", || {
        let status = host.agent(&["status"]).ok()?;
        if status.contains("result      converged ") { Ok(()) } else { bail!("{status}") }
    })?;
    let finished = host.json(&["status"])?[0]["finished"].clone();
    assert!(finished.as_str().is_some_and(|time| time.ends_with('Z')), "a time, not an age: {finished}");
    assert_eq!(host.json(&["history"])?[0]["finished"].as_str().map(str::len), finished.as_str().map(str::len));
    Ok(())
}

#[test]
fn a_host_that_refuses_is_answered_with_a_remedy() -> Result<()> {
    if !is_root("a_host_that_refuses_is_answered_with_a_remedy") {
        return Ok(());
    }
    let (host, site) = host()?;
    let nobody = |arguments: &[&str]| {
        let agent = tests::host::program("agent");
        let mut command = host.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(agent).args(arguments);
        command.output().map(Ran::from)
    };
    for verb in [&["container", "ps"] as &[&str], &["status"], &["image", "ls"]] {
        // Not even the program may be reached by nobody: then there is nothing of ours to be seen.
        let ran = nobody(verb)?;
        if ran.stderr.starts_with("setpriv:") {
            eprintln!("SKIPPED a part of a_host_that_refuses_is_answered_with_a_remedy: {}", ran.stderr.trim());
            break;
        }
        refused(&ran, 1, &["Permission denied", "hint: the agent works as root"]);
    }
    let script = "mount -t tmpfs -o ro tmpfs \"$AGENT_CONFIG_DIR\" && exec env AGENT_STATE_DIR=$AGENT_CONFIG_DIR/state \
                  AGENT_RUN_DIR=$AGENT_CONFIG_DIR/run \"$@\"";
    std::fs::create_dir_all(host.places().config)?;
    let agent = tests::host::program("agent").display().to_string();
    let read_only = |arguments: &[&str]| host.run("unshare", &[&["--mount", "sh", "-c", script, "sh", &agent], arguments].concat());
    refused(&read_only(&["apply", &site]), 1, &["Read-only file system", "hint: --state-dir and --run-dir say where it may write"]);
    assert_eq!(read_only(&["container", "ps", "-q"]).ok()?, "");

    let held = Lock::exclusive(&host.places().lock())?;
    let waiting = host.spawn_agent(&["apply", &site])?;
    let who = format!("Waiting for another agent that is changing this host: process {}, ", std::process::id());
    eventually("it says for whom it waits", || if waiting.output().contains(&who) { Ok(()) } else { bail!("{}", waiting.output()) })?;
    drop(held);
    assert_eq!(waiting.wait()?, 0);
    Ok(())
}
