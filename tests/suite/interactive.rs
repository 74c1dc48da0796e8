//! Containers that somebody types at: on a terminal, through a pipe, from the start or joined later.

use anyhow::{Result, bail, ensure};
use std::fs::File;
use std::process::Output;
use tests::host::{Host, Ran, eventually, is_root, program};
use tests::terminal::Terminal;

/// A host with the image `box`; `None`, loudly, without root.
fn host(test: &str) -> Result<Option<Host>> {
    if !is_root(test) {
        return Ok(None);
    }
    let host = Host::new()?;
    host.site("site", &[])?;
    let context = host.path().join("site/box").display().to_string();
    host.agent(&["image", "build", "-t", "box", &context]).ok()?;
    Ok(Some(host))
}

fn on_terminal(host: &Host, arguments: &[&str]) -> Result<Terminal> {
    host.agent_on_terminal((80, 24), &[&["container"], arguments].concat(), &[])
}

/// `agent container` with this on its standard input, to its end.
fn with_input(host: &Host, input: &[u8], arguments: &[&str]) -> Result<Output> {
    let path = host.path().join("input");
    std::fs::write(&path, input)?;
    Ok(host.command(program("agent")).arg("container").args(arguments).stdin(File::open(path)?).output()?)
}

/// Types a line at a prompt, waits for what it prints and for the next prompt.
fn says(terminal: &mut Terminal, line: &str, answer: &str) -> Result<()> {
    terminal.types(&format!("{line}\n"))?;
    terminal.shows(answer)?;
    prompts(terminal)
}

/// Waits for a shell's prompt on the last line.
fn prompts(terminal: &Terminal) -> Result<()> {
    eventually("a prompt", || {
        let lines = terminal.screen().lines;
        if lines.last().is_some_and(|line| line.ends_with("/ #")) { Ok(()) } else { bail!("{lines:#?}") }
    })
}

#[test]
fn a_shell_on_a_terminal() -> Result<()> {
    let Some(host) = host("a_shell_on_a_terminal")? else { return Ok(()) };
    let mut terminal = on_terminal(&host, &["run", "-it", "--rm", "box", "sh"])?;
    prompts(&terminal)?;
    assert!(!terminal.is_cooked()?);
    says(&mut terminal, "echo $((40 + 2)) $TERM $(tty)", "42 xterm /dev/pts/0")?;
    says(&mut terminal, "stty size", "24 80")?;
    terminal.resize(100, 40)?;
    // A shell that hears of it draws its prompt anew.
    prompts(&terminal)?;
    says(&mut terminal, "stty size", "40 100")?;
    // By whoever will hear it: a shell between two commands does not.
    terminal.types("sh -c 'echo beg''in; exec sleep 1000'\n")?;
    terminal.shows("begin")?;
    terminal.types("\x03")?;
    prompts(&terminal)?;
    says(&mut terminal, "echo code=$?", "code=130")?;
    terminal.types("exit 9\n")?;
    assert_eq!(terminal.wait()?, 9);
    assert!(terminal.is_cooked()?);
    assert_eq!(host.container_ids()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn keys_leave_it_running_and_attach_comes_back() -> Result<()> {
    let Some(host) = host("keys_leave_it_running_and_attach_comes_back")? else { return Ok(()) };
    let mut terminal = on_terminal(&host, &["run", "-it", "--name", "shell", "box", "sh"])?;
    prompts(&terminal)?;
    says(&mut terminal, "X=5", "X=5")?;
    // Half of the keys is for the container: ctrl-p is the line before.
    says(&mut terminal, "\x10", "X=5")?;
    terminal.types("\x10\x11")?;
    assert_eq!(terminal.wait()?, 0);
    assert!(terminal.is_cooked()?);
    assert_eq!(terminal.screen().lines.last().map(String::as_str), Some(""));

    let mut one = on_terminal(&host, &["attach", "shell"])?;
    prompts(&one)?;
    let mut other = on_terminal(&host, &["attach", "--detach-keys", "ctrl-a,x", "shell"])?;
    prompts(&other)?;
    says(&mut one, "echo X is $X", "X is 5")?;
    other.shows("X is 5")?;
    says(&mut other, "echo from the other", "from the other")?;
    one.shows("from the other")?;
    other.types("\x01x")?;
    assert_eq!(other.wait()?, 0);
    let mut looker = on_terminal(&host, &["attach", "--no-stdin", "shell"])?;
    // Drawn anew for who joins; what he types stays with him.
    prompts(&looker)?;
    looker.types("echo no\n")?;
    says(&mut one, "echo yes", "yes")?;
    looker.shows("yes")?;
    one.types("\x04")?;
    assert_eq!((one.wait()?, looker.wait()?), (0, 0));
    assert!(!one.screen().lines.iter().any(|line| line == "no"), "{:#?}", one.screen());

    let mut again = on_terminal(&host, &["start", "-ai", "shell"])?;
    prompts(&again)?;
    again.types("exit 3\n")?;
    assert_eq!(again.wait()?, 3);
    let gone = host.agent(&["container", "attach", "--no-stdin", "shell"]);
    assert!(gone.code == 1 && gone.stderr.contains("is not running") && gone.stderr.contains("container start shell"), "{gone:?}");
    Ok(())
}

#[test]
fn a_client_that_ends_leaves_the_container_and_a_sane_terminal() -> Result<()> {
    let Some(host) = host("a_client_that_ends_leaves_the_container_and_a_sane_terminal")? else { return Ok(()) };
    host.agent(&["container", "run", "-dit", "--name", "shell", "box", "sh"]).ok()?;
    let process = host.pid("shell")?;
    let terminal = |code| -> Result<()> {
        let mut terminal = on_terminal(&host, &["attach", "shell"])?;
        prompts(&terminal)?;
        let signal = if code == 143 { "TERM" } else { "KILL" };
        terminal.signal(signal)?;
        ensure!(terminal.wait()? == code);
        ensure!(code != 143 || terminal.is_cooked()?, "restored");
        Ok(())
    };
    terminal(143)?;
    terminal(-1)?;
    assert_eq!(host.pid("shell")?, process);
    let mut terminal = on_terminal(&host, &["attach", "shell"])?;
    prompts(&terminal)?;
    terminal.types("exit 4\n")?;
    assert_eq!(terminal.wait()?, 4);
    Ok(())
}

#[test]
fn input_through_a_pipe_arrives_whole() -> Result<()> {
    let Some(host) = host("input_through_a_pipe_arrives_whole")? else { return Ok(()) };
    // Every byte there is, more than all buffers on the way hold, and no line end at the end.
    let input: Vec<u8> = (0..16u32 << 20).map(|number| u8::try_from((number.wrapping_mul(2_654_435_761)) >> 24).unwrap_or(0)).collect();
    let ran = with_input(&host, &input, &["run", "-i", "--rm", "box", "cat"])?;
    assert!(ran.status.success() && ran.stdout == input, "{:?}, {} bytes", ran.status, ran.stdout.len());
    let ran = with_input(&host, b"oh\n", &["run", "-i", "--rm", "box", "sh", "-c", "cat >&2; exit 7"])?;
    let ran = Ran::from(ran);
    assert!(ran.code == 7 && ran.stderr == "oh\n" && ran.stdout.is_empty(), "{ran:?}");
    // What it does not read is no obstacle, nor is a program that is not there.
    assert_eq!(with_input(&host, &input, &["run", "-i", "--rm", "box", "true"])?.status.code(), Some(0));
    assert_eq!(with_input(&host, b"", &["run", "-i", "--rm", "box", "nosuch"])?.status.code(), Some(127));
    assert_eq!(host.container_ids()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_command_inside_is_given_what_was_asked_for() -> Result<()> {
    let Some(host) = host("a_command_inside_is_given_what_was_asked_for")? else { return Ok(()) };
    host.agent(&["container", "run", "-d", "--name", "one", "box", "sleep", "1000"]).ok()?;
    let exec = |arguments: &[&str]| with_input(&host, b"input\n", &[&["exec"], arguments].concat()).map(Ran::from);
    assert_eq!(exec(&["-i", "one", "cat"])?.ok()?, "input\n");
    // A loop over lines in a shell goes on to read its own.
    assert_eq!(exec(&["one", "cat"])?.ok()?, "");
    assert_eq!(exec(&["-t", "one", "echo", "hello"])?.ok()?, "hello\r\n");
    let refused = exec(&["-it", "one", "cat"])?;
    assert!(refused.code == 1 && refused.stderr.contains("the input device is not a TTY"), "{refused:?}");
    assert!(refused.stderr.contains("leave -t out for input from a pipe or file"), "{refused:?}");
    assert_eq!(exec(&["-d", "one", "sh", "-c", "echo shown; touch /done; exit 3"])?.ok()?, "");
    eventually("it is done", || exec(&["one", "test", "-e", "/done"])?.ok())?;
    Ok(())
}

#[test]
fn input_of_who_joins_later_is_not_the_end_of_it() -> Result<()> {
    let Some(host) = host("input_of_who_joins_later_is_not_the_end_of_it")? else { return Ok(()) };
    let script = "while read line; do echo got $line; [ $line = end ] && exit 5; done; exit 6";
    host.agent(&["container", "run", "-di", "--name", "reader", "box", "sh", "-c", script]).ok()?;
    let looker = host.spawn_agent(&["container", "attach", "--no-stdin", "--sig-proxy=false", "reader"])?;
    eventually("it is joined", || {
        with_input(&host, b"", &["exec", "reader", "true"])?;
        let found = host.run("sh", &["-c", &format!("ls -l /proc/{}/fd | grep -c socket", looker.pid())]);
        if found.stdout.trim() == "1" { Ok(()) } else { bail!("{found:?}") }
    })?;
    let first = host.path().join("first");
    std::fs::write(&first, "one\ntwo\n")?;
    let mut joined = host.command(program("agent"));
    let joined = joined.args(["container", "attach", "reader"]).stdin(File::open(&first)?).stdout(std::process::Stdio::piped()).spawn()?;
    eventually("both lines are read", || {
        let logs = host.logs("reader")?;
        if logs.contains("got two") { Ok(()) } else { bail!("{logs}") }
    })?;
    let ran = Ran::from(with_input(&host, b"end\n", &["attach", "reader"])?);
    assert!(ran.code == 5 && ran.stdout.contains("got end"), "{ran:?}");
    let joined = Ran::from(joined.wait_with_output()?);
    assert!(joined.code == 5 && joined.stdout.ends_with("got end\n"), "{joined:?}");
    assert_eq!(looker.output_at_end()?, "got one\ngot two\ngot end\n");
    // Whoever starts it with his input ends it with that.
    let ran = Ran::from(with_input(&host, b"three\n", &["start", "-ai", "reader"])?);
    assert!(ran.code == 6 && ran.stdout == "got three\n", "{ran:?}");
    Ok(())
}

#[test]
fn signals_are_the_container_s_unless_it_has_a_terminal() -> Result<()> {
    let Some(host) = host("signals_are_the_container_s_unless_it_has_a_terminal")? else { return Ok(()) };
    let script = "trap 'echo int; exit 3' INT; echo ready; while :; do sleep 0.1; done";
    host.agent(&["container", "run", "-d", "--name", "loop", "box", "sh", "-c", script]).ok()?;
    eventually("it listens", || if host.logs("loop")?.contains("ready") { Ok(()) } else { bail!("not yet") })?;
    let mut terminal = on_terminal(&host, &["attach", "loop"])?;
    eventually("it holds signals back to pass them on", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", terminal.pid()))?;
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or_default();
        // SIGINT, the second.
        if u64::from_str_radix(blocked.trim(), 16)? & 2 != 0 { Ok(()) } else { bail!("{blocked}") }
    })?;
    terminal.types("\x03")?;
    assert_eq!(terminal.wait()?, 3);
    terminal.shows("int")?;
    Ok(())
}

#[test]
fn a_terminal_is_typed_at_from_a_terminal() -> Result<()> {
    let Some(host) = host("a_terminal_is_typed_at_from_a_terminal")? else { return Ok(()) };
    let refused = Ran::from(with_input(&host, b"x", &["run", "-it", "--rm", "box", "sh"])?);
    assert!(refused.code == 1 && refused.stderr.contains("the input device is not a TTY"), "{refused:?}");
    assert!(refused.stderr.contains("hint: try it on a terminal, or leave -t out for input from a pipe or file"), "{refused:?}");
    assert_eq!(host.container_ids()?, Vec::<String>::new());
    // To look needs none.
    let ran = Ran::from(with_input(&host, b"", &["run", "-t", "--rm", "box", "sh", "-c", "tty; exit 3"])?);
    assert!(ran.code == 3 && ran.stdout == "/dev/pts/0\r\n", "{ran:?}");
    let wrong = host.agent(&["container", "attach", "--detach-keys", "ctrl-1", "x"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("\"ctrl-1\" is no key"), "{wrong:?}");
    for verb in ["run", "attach", "start"] {
        assert!(host.agent(&["container", verb, "--help"]).ok()?.contains("--detach-keys"), "{verb}");
    }
    assert!(host.agent(&["completion", "bash"]).ok()?.contains("agent__subcmd__container__subcmd__attach"));
    Ok(())
}

#[test]
fn a_reader_that_stands_still_holds_it_back_and_loses_no_line_of_the_log() -> Result<()> {
    let Some(host) = host("a_reader_that_stands_still_holds_it_back_and_loses_no_line_of_the_log")? else { return Ok(()) };
    let script = "read go; seq 1 200000; echo over; sleep 1000";
    host.agent(&["container", "run", "-di", "--name", "loud", "box", "sh", "-c", script]).ok()?;
    let reader = host.spawn_agent(&["container", "attach", "--no-stdin", "loud"])?;
    eventually("it is joined", || {
        let found = host.run("sh", &["-c", &format!("ls -l /proc/{}/fd | grep -c socket", reader.pid())]);
        if found.stdout.trim() == "1" { Ok(()) } else { bail!("{found:?}") }
    })?;
    reader.signal("STOP")?;
    let go = host.path().join("go");
    std::fs::write(&go, "go\n")?;
    let mut other = host.command(program("agent"));
    let mut other = other.args(["container", "attach", "loud"]).stdin(File::open(&go)?).stdout(std::process::Stdio::null()).spawn()?;
    eventually("it waits for its reader", || {
        let inside = host.pid("loud")?;
        let children = std::fs::read_to_string(format!("/proc/{inside}/task/{inside}/children"))?;
        let child = children.trim();
        ensure!(!child.is_empty(), "nothing counts yet");
        let waits = std::fs::read_to_string(format!("/proc/{child}/wchan"))?;
        if waits.contains("pipe") { Ok(()) } else { bail!("it is in {waits}") }
    })?;
    reader.signal("KILL")?;
    eventually("it goes on without", || if host.logs("loud")?.ends_with("over\n") { Ok(()) } else { bail!("not yet") })?;
    let logs = host.logs("loud")?;
    assert!(logs.lines().take(200_000).map(str::parse).eq((1..=200_000).map(Ok::<u32, std::num::ParseIntError>)), "complete");
    other.kill()?;
    other.wait()?;
    Ok(())
}

#[test]
fn a_manifest_gives_a_terminal_and_every_life_gets_a_new_one() -> Result<()> {
    let Some(host) = host("a_manifest_gives_a_terminal_and_every_life_gets_a_new_one")? else { return Ok(()) };
    let shell = |fields: &str| {
        format!(
            "kind: Container\nmetadata: {{name: shell}}\nspec: {{image: box, command: sh, restart: always, stopGracePeriod: 0s{fields}}}"
        )
    };
    let site = host.manifests("site", &[&shell(", tty: true, stdinOpen: true")])?;
    host.agent(&["apply", &site]).ok()?;
    assert_eq!(host.agent(&["plan", &site]).code, 0);
    let mut terminal = on_terminal(&host, &["attach", "shell"])?;
    prompts(&terminal)?;
    says(&mut terminal, "echo first $(tty)", "first /dev/pts/0")?;
    let process = host.pid("shell")?;
    terminal.types("exit 8\n")?;
    assert_eq!(terminal.wait()?, 8);
    eventually("it runs again", || if host.pid("shell")? == process { bail!("not yet") } else { Ok(()) })?;
    let mut terminal = host.agent_on_terminal((80, 24), &["container", "attach", "--no-stdin", "shell"], &[])?;
    let mut typist = on_terminal(&host, &["attach", "shell"])?;
    prompts(&typist)?;
    says(&mut typist, "stty size", "24 80")?;
    terminal.shows("24 80")?;
    // A terminal's lines, as they are: what was typed too.
    let logs = host.logs("shell")?;
    assert!(logs.contains("exit 8\r\n") && logs.contains("first /dev/pts/0\r\n"), "{logs:?}");

    host.manifests("site", &[&shell("")])?;
    let plan = host.agent(&["plan", &site]);
    assert!(plan.code == 2 && plan.stdout.contains("tty: true → false") && plan.stdout.contains("# forces replacement"), "{plan:?}");
    typist.types("\x10\x11")?;
    assert_eq!(typist.wait()?, 0);
    terminal.types("\x03")?;
    assert_eq!(terminal.wait()?, 130);
    Ok(())
}

#[test]
fn a_killed_shim_is_no_killed_shell() -> Result<()> {
    let Some(host) = host("a_killed_shim_is_no_killed_shell")? else { return Ok(()) };
    let mut terminal = on_terminal(&host, &["run", "-it", "--name", "shell", "box", "sh"])?;
    prompts(&terminal)?;
    says(&mut terminal, "X=5", "X=5")?;
    let process = host.pid("shell")?;
    // The second time it is one that has taken over itself.
    for code in [125, 1] {
        let shim = host.inspect("shell")?["state"]["shim"]["pid"].to_string();
        host.run("kill", &["-KILL", &shim]).ok()?;
        assert_eq!(terminal.wait()?, code);
        terminal.shows("no longer attached to shell@1: its shim is gone")?;
        assert!(terminal.is_cooked()?);
        terminal = on_terminal(&host, &["attach", "shell"])?;
        prompts(&terminal)?;
        says(&mut terminal, "echo X is $X", "X is 5")?;
        says(&mut terminal, "stty size", "24 80")?;
        assert_eq!(host.pid("shell")?, process);
    }
    terminal.types("exit\n")?;
    terminal.wait()?;
    Ok(())
}
