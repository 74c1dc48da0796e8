//! What a person sees on a terminal: live views, plain lines where they asked for them, a sane screen afterwards.

use anyhow::{Result, bail, ensure};
use std::fs;
use tests::host::{Host, eventually, is_root};
use tests::questions::lines_of_json;

/// A host with a context whose Dockerfile has this behind a busybox; the path of the context.
fn host(steps: &str) -> Result<(Host, String)> {
    let host = Host::new()?;
    host.busybox("context/busybox")?;
    let text = format!("FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n{steps}\n");
    fs::write(host.path().join("context/Dockerfile"), text)?;
    let context = host.path().join("context").display().to_string();
    Ok((host, context))
}

/// Says what would clear a screen, move the cursor and name the window.
const RUDE: &str = r"RUN printf 'wiped\r\033[2J\033[5;5Hkind\033]0;title\007 words\t\033[31mred\n'";

#[test]
fn a_build_is_drawn_live_and_all_its_steps_stay() -> Result<()> {
    if !is_root("a_build_is_drawn_live_and_all_its_steps_stay") {
        return Ok(());
    }
    let (host, context) = host(RUDE)?;
    let mut terminal = host.agent_on_terminal((50, 5), &["image", "build", "-t", "it", &context], &[])?;
    ensure!(terminal.wait()? == 0, "{:#?}", terminal.screen());
    let screen = terminal.screen();
    assert_eq!(screen.strays, Vec::<String>::new());
    let has = |start: &str, end: &str| screen.lines.iter().any(|line| line.starts_with(start) && line.ends_with(end));
    assert!(has("[+] Building ", "s (4/4) FINISHED"), "{screen:#?}");
    // More than the terminal has lines for: at the end all are there, and each fits.
    assert!(has(" => [1/4] FROM scratch ", "s") && has(" => [4/4] RUN printf 'wiped", "s"), "{screen:#?}");
    assert!(screen.lines.iter().any(|line| line.starts_with("sha256:")) && screen.cursor.1 == 0, "{screen:#?}");

    let mut again = host.agent_on_terminal((50, 5), &["image", "build", &context], &[])?;
    ensure!(again.wait()? == 0);
    again.shows(" => CACHED [4/4] RUN printf 'wiped")?;
    Ok(())
}

#[test]
fn a_failing_step_is_marked_and_its_lines_follow() -> Result<()> {
    if !is_root("a_failing_step_is_marked_and_its_lines_follow") {
        return Ok(());
    }
    let (host, context) = host("RUN echo so far; exit 9")?;
    let mut terminal = host.agent_on_terminal((70, 24), &["image", "build", &context], &[])?;
    assert_eq!(terminal.wait()?, 1);
    for expected in [" => ERROR [4/4] RUN echo so far; exit 9", "   4 | >>> RUN echo so far; exit 9", "exit code 9", "    so far"] {
        terminal.shows(expected)?;
    }
    assert!(!terminal.screen().lines.iter().any(|line| line.contains("FINISHED")));
    Ok(())
}

#[test]
fn ctrl_c_leaves_a_sane_screen_and_nothing_running() -> Result<()> {
    if !is_root("ctrl_c_leaves_a_sane_screen_and_nothing_running") {
        return Ok(());
    }
    let (host, context) = host("RUN echo busy $((6*7)); sleep 98761")?;
    let mut terminal = host.agent_on_terminal((100, 24), &["image", "build", &context], &[])?;
    terminal.shows(" => => # busy 42")?;
    terminal.shows(" => [4/4] RUN echo busy $((6*7)); sleep 98761")?;
    terminal.resize(24, 4)?;
    terminal.shows(" => [4/4] RUN e…")?;
    assert!(terminal.screen().lines.iter().all(|line| line.chars().count() < 24), "{:#?}", terminal.screen());
    terminal.types("\x03")?;
    assert_ne!(terminal.wait()?, 0);
    let screen = terminal.screen();
    assert_eq!(screen.strays, Vec::<String>::new());
    // The cursor is below the view, behind nothing but the echo of what was typed.
    assert!(screen.cursor.0 + 1 == screen.lines.len() && screen.lines[screen.cursor.0].trim_start_matches("^C").is_empty(), "{screen:#?}");
    // The step is gone with its builder: the host is as it was for whoever comes next.
    eventually("its command ends", || {
        let lines = fs::read_dir("/proc")?.flatten().filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
        if lines.into_iter().any(|line| line.contains("sleep 98761")) { bail!("it goes on") } else { Ok(()) }
    })?;
    host.agent(&["image", "verify"]).ok()?;
    Ok(())
}

#[test]
fn lines_are_plain_where_nobody_watches_or_somebody_asked() -> Result<()> {
    if !is_root("lines_are_plain_where_nobody_watches_or_somebody_asked") {
        return Ok(());
    }
    let (host, context) = host(RUDE)?;
    let build: &[&str] = &["image", "build", "--no-cache", &context];
    for (more, env) in [
        (&[] as &[&str], ("NO_COLOR", "1")),
        (&[], ("TERM", "dumb")),
        (&[], ("BUILDKIT_PROGRESS", "plain")),
        (&["--progress", "plain"], ("TERM", "xterm")),
    ] {
        let mut terminal = host.agent_on_terminal((100, 24), &[build, more].concat(), &[env])?;
        ensure!(terminal.wait()? == 0);
        let screen = terminal.screen();
        assert!(screen.strays.is_empty() && screen.lines.iter().any(|line| line == "#1 [1/4] FROM scratch"), "{env:?}: {screen:#?}");
        let said = screen.lines.iter().find(|line| line.contains("kind words"));
        assert!(said.is_some_and(|line| line.starts_with("#4 0.") && line.ends_with("red")), "{env:?}: {screen:#?}");
    }
    let refused = host.agent(&[build, &["--progress", "tty"]].concat());
    assert!(refused.code == 1 && refused.stderr.contains("hint: --progress plain prints lines"), "{refused:?}");
    let quiet = host.agent(&[build, &["--progress", "quiet"]].concat());
    assert!(quiet.code == 0 && quiet.stderr.is_empty() && quiet.stdout.starts_with("sha256:"), "{quiet:?}");
    let raw = lines_of_json(&host.agent(&[build, &["--progress", "rawjson"]].concat()).stderr)?;
    let vertex = |line: &serde_json::Value| line["vertexes"][0].clone();
    let named: Vec<_> = raw.iter().map(vertex).filter(|it| it["name"].as_str() == Some("[2/4] COPY busybox /bin/")).collect();
    assert!(named.len() == 2 && named[0]["started"].is_string() && named[1]["completed"].is_string(), "{raw:#?}");
    assert!(raw.iter().any(|line| line["logs"][0]["data"].is_string()), "{raw:#?}");
    Ok(())
}

#[test]
fn an_apply_shows_what_is_under_way_and_keeps_what_is_done() -> Result<()> {
    if !is_root("an_apply_shows_what_is_under_way_and_keeps_what_is_done") {
        return Ok(());
    }
    let host = Host::new()?;
    let web = "kind: Container\nmetadata: {name: web}\nspec:\n  image: box\n  command: [sleep, '1000']\n  stopGracePeriod: 100ms\n  \
               healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, retries: 1000}";
    let site = host.site("site", &[web])?;
    let mut terminal = host.agent_on_terminal((80, 24), &["apply", "--quiet", &site], &[])?;
    terminal.shows(" => wait until web@1 is healthy")?;
    terminal.shows("[+] ")?;
    terminal.shows("  ✓ build image box")?;
    host.agent(&["container", "exec", "web", "touch", "/ready"]).ok()?;
    ensure!(terminal.wait()? == 0);
    let screen = terminal.screen();
    assert!(screen.strays.is_empty() && !screen.lines.iter().any(|line| line.starts_with("[+]")), "{screen:#?}");
    terminal.shows("  ✓ wait until web@1 is healthy")?;
    terminal.shows("Done: the host matches the site.")?;
    Ok(())
}

#[test]
fn layers_are_drawn_on_their_way_out_and_in() -> Result<()> {
    if !is_root("layers_are_drawn_on_their_way_out_and_in") {
        return Ok(());
    }
    let (host, context) = host("RUN echo one > /one")?;
    let name = "127.0.0.1:5000/it:1";
    host.agent(&["image", "build", "-t", name, &context]).ok()?;
    // The registry is another instance on the same host.
    let places = ["state", "run"].map(|place| host.path().join("registry").join(place).display().to_string());
    let elsewhere = ["--state-dir", &places[0], "--run-dir", &places[1]];
    let registry = host.spawn_agent(&[&["registry", "serve", "--writable"], &elsewhere[..]].concat())?;
    eventually("the registry listens", || {
        let asked = host.run("curl", &["-fs", "http://127.0.0.1:5000/v2/"]);
        if asked.code == 0 { Ok(()) } else { bail!("{asked:?}") }
    })?;
    let on_terminal = |arguments: &[&str]| -> Result<Vec<String>> {
        let mut terminal = host.agent_on_terminal((80, 24), arguments, &[])?;
        ensure!(terminal.wait()? == 0, "{:#?}", terminal.screen());
        let screen = terminal.screen();
        ensure!(screen.strays.is_empty(), "{screen:#?}");
        Ok(screen.lines)
    };
    let has = |lines: &[String], start: &str, part: &str| lines.iter().any(|line| line.starts_with(start) && line.contains(part));
    let pushed = on_terminal(&["image", "push", name])?;
    // Three layers and the configuration; the two that hold something are worth a look at their size.
    ensure!(has(&pushed, "[+] Pushing 127.0.0.1:5000/it:1 ", "s (4/4) FINISHED  ") && has(&pushed, " => ", "MiB"), "{pushed:#?}");
    let again = on_terminal(&["image", "push", name])?;
    ensure!(again.iter().filter(|line| line.starts_with(" => ") && line.ends_with(" already exists")).count() == 4, "{again:#?}");

    host.agent(&["image", "rm", name]).ok()?;
    host.agent(&["system", "prune", "--all", "--force"]).ok()?;
    let pulled = on_terminal(&["image", "pull", name])?;
    ensure!(has(&pulled, "[+] Pulling 127.0.0.1:5000/it:1 ", "s (3/3) FINISHED  ") && has(&pulled, " => ", "MiB"), "{pulled:#?}");
    let known = on_terminal(&["image", "pull", name])?;
    ensure!(has(&known, " => 127.0.0.1:5000/it:1: up to date", ""), "{known:#?}");
    assert_eq!(on_terminal(&["image", "pull", "--quiet", name])?.len(), 2, "the id and the cursor's line");
    drop(registry);
    host.agent(&[&["system", "reset", "--force"], &elsewhere[..]].concat()).ok()?;
    Ok(())
}

#[test]
fn stats_are_followed_in_one_place() -> Result<()> {
    if !is_root("stats_are_followed_in_one_place") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host
        .site("site", &["kind: Container\nmetadata: {name: web}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 100ms}"])?;
    host.agent(&["apply", &site]).ok()?;
    let mut terminal = host.agent_on_terminal((100, 24), &["container", "stats", "--follow"], &[])?;
    terminal.shows("web@1")?;
    // It changes: another process is there, and goes again.
    let inside = host.spawn_agent(&["container", "exec", "web", "sleep", "1000"])?;
    terminal.shows("   2      ")?;
    inside.signal("TERM")?;
    let screen = terminal.screen();
    assert!(screen.strays.is_empty() && screen.lines.iter().filter(|line| line.starts_with("CONTAINER")).count() == 1, "{screen:#?}");
    terminal.types("\x03")?;
    assert_ne!(terminal.wait()?, 0);
    Ok(())
}

#[test]
fn ctrl_c_stops_what_runs_in_the_foreground() -> Result<()> {
    if !is_root("ctrl_c_stops_what_runs_in_the_foreground") {
        return Ok(());
    }
    let host = Host::new()?;
    host.site("site", &[])?;
    let context = host.path().join("site/box").display().to_string();
    host.agent(&["image", "build", "-t", "box", &context]).ok()?;
    let command = "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done";
    let mut terminal = host.agent_on_terminal((80, 24), &["container", "run", "--rm", "box", "sh", "-c", command], &[])?;
    terminal.shows("hello")?;
    terminal.types("\x03")?;
    assert_eq!(terminal.wait()?, 3);
    terminal.shows("Stopping run-1@1; the next Ctrl-C kills it")?;
    terminal.shows("bye")?;
    assert_eq!(host.container_ids()?, Vec::<String>::new());
    // One that does not listen goes with the second.
    let deaf = &["container", "run", "--rm", "box", "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"];
    let mut terminal = host.agent_on_terminal((80, 24), deaf, &[])?;
    terminal.shows("deaf")?;
    terminal.types("\x03")?;
    terminal.shows("Stopping run-1@1")?;
    terminal.types("\x03")?;
    assert_eq!(terminal.wait()?, 137);
    assert_eq!(host.container_ids()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn help_is_short_where_nothing_was_asked() -> Result<()> {
    if !is_root("help_is_short_where_nothing_was_asked") {
        return Ok(());
    }
    let host = Host::new()?;
    let help = host.agent(&[]);
    assert!(help.code == 2 && help.stdout.is_empty() && help.stderr.contains("Start here:"), "{help:?}");
    let noun = host.agent(&["image"]);
    assert!(noun.code == 2 && noun.stderr.contains("Usage: agent image") && !noun.stderr.contains("--state-dir"), "{noun:?}");
    assert!(host.agent(&["image", "build", "--help"]).ok()?.contains("--state-dir"));
    Ok(())
}
