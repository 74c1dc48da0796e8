//! One more process in a running container.

use crate::host::{eventually, host};
use runtime::container::{self, ContainerError, ExecCommand, RunBundle, Terminal};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

fn command(script: &str) -> ExecCommand {
    ExecCommand {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("EXTRA".to_owned(), "yes".to_owned())]),
        working_dir: None,
        user: None,
        terminal: Terminal::None,
    }
}

#[test]
fn exec_has_the_containers_files_and_hands_its_code_through() {
    let Some(host) = host() else { return };
    let config = host.config("host@1", "touch /tmp/here; sleep 1000");
    host.run(&config);
    eventually("it is ready", || host.places.container(&config.id).join("upper/tmp/here").exists());
    let exec = |script: &str| container::exec_command(&host.places, &config.id, &command(script)).expect("command");
    let output = exec("test -e /tmp/here && cat && echo $EXTRA; echo oops >&2; exit 33")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().expect("stdin").write_all(b"typed\n")?;
            child.wait_with_output()
        })
        .expect("exec");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "typed\nyes\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "oops\n");
    assert_eq!(output.status.code(), Some(33));
    let missing = ExecCommand { args: vec!["/bin/nonesuch".to_owned()], ..command("") };
    let output = container::exec_command(&host.places, &config.id, &missing).expect("command").output().expect("exec");
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonesuch"));
    let litter = std::fs::read_dir(host.places.container_run(&config.id)).expect("run directory");
    assert!(litter.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with("bundle")));
}

#[test]
fn a_build_step_runs_and_leaves_only_its_changes() {
    let Some(host) = host() else { return };
    let step = |script: &str| RunBundle {
        state: host.places.state.clone(),
        config: host.config("step@1", script),
        directory: host.places.state.join("step"),
        control_group: "build step".to_owned(),
        network_namespace: None,
    };
    for name in ["step", "passing"] {
        std::fs::create_dir_all(host.places.state.join(name)).expect("directory");
    }
    let run = |script: &str| {
        let mut command = container::run_command(&host.places.state.join("passing"), &step(script)).expect("command");
        let output = command.stdin(Stdio::null()).output().expect("run");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run("echo out; echo err >&2; echo made >/tmp/made; exit 3"), (Some(3), "out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(std::fs::read_to_string(host.places.state.join("step/upper/tmp/made")).expect("made"), "made\n");
    assert_eq!(run("cat /tmp/made; kill -9 $$; exit 0").1, "made\n");
    assert_eq!(std::fs::read_dir(host.places.state.join("passing")).expect("passing").count(), 0);
}

#[test]
fn signals_are_passed_on() {
    let Some(host) = host() else { return };
    let config = host.config("signalled@1", "sleep 1000");
    host.run(&config);
    let mut child =
        container::exec_command(&host.places, &config.id, &command("trap 'exit 21' TERM; touch /tmp/set; while true; do sleep 0.05; done"))
            .expect("command")
            .spawn()
            .expect("spawn");
    eventually("it listens", || host.places.container(&config.id).join("upper/tmp/set").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
    assert_eq!(child.wait().expect("wait").code(), Some(21));
}

#[test]
fn a_terminal_is_one() {
    let Some(host) = host() else { return };
    let config = host.config("terminal@1", "sleep 1000");
    host.run(&config);
    let with_terminal =
        ExecCommand { terminal: Terminal::Allocate, ..command("test -t 0 && test -t 1 && echo tty; read word; echo got $word; exit 5") };
    let mut child = container::exec_command(&host.places, &config.id, &with_terminal)
        .expect("command")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    child.stdin.take().expect("stdin").write_all(b"hello\n").expect("write");
    let output = child.wait_with_output().expect("output");
    let text = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
    assert!(text.contains("tty\n") && text.contains("got hello\n"), "{text:?}");
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn stats_count_and_only_of_what_runs() {
    let Some(host) = host() else { return };
    let config = host.config("counted@1", "sleep 1000");
    host.run(&config);
    let stats = container::stats(&host.places, &config.id).expect("stats");
    assert!(stats.cgroup.pids >= 1 && stats.cgroup.memory_bytes > 0, "{stats:?}");
    container::stop(&host.places, &config.id, Some(std::time::Duration::ZERO)).expect("stop");
    assert!(matches!(container::stats(&host.places, &config.id), Err(ContainerError::NotRunning { .. })));
    assert!(matches!(container::exec_command(&host.places, &config.id, &command("")), Err(ContainerError::NotRunning { .. })));
}
