//! The program: found or not, its arguments, environment, limits, terminal and end.

use crate::Case;
use crate::scene::Scene;
use runtime::container::config::Rlimit;
use runtime::process::Step;
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub(crate) const CASES: &[Case] = &[
    ("a_program_that_is_not_there_is_127", a_program_that_is_not_there_is_127),
    ("a_program_that_cannot_be_run_is_126", a_program_that_cannot_be_run_is_126),
    ("an_unknown_user_is_named", an_unknown_user_is_named),
    ("the_exit_code_is_the_programs", the_exit_code_is_the_programs),
    ("the_environment_is_completed", the_environment_is_completed),
    ("limits_are_set_and_a_refusal_is_explained", limits_are_set_and_a_refusal_is_explained),
    ("standard_output_can_be_opened_again_by_any_user", standard_output_can_be_opened_again_by_any_user),
    ("a_terminal_is_the_containers_own", a_terminal_is_the_containers_own),
    ("a_fifo_in_the_place_of_passwd_does_not_hang", a_fifo_in_the_place_of_passwd_does_not_hang),
    ("a_host_name_with_a_newline_is_refused", a_host_name_with_a_newline_is_refused),
];

fn a_program_that_is_not_there_is_127() {
    let mut scene = Scene::new();
    for name in ["nope", "/nope", "/nope/nope"] {
        scene.config.process.args = vec![name.into()];
        let error = scene.run().unwrap_err();
        assert_eq!((error.to_string(), error.exit_code()), (format!("exec {name}"), 127));
    }
    assert_eq!(scene.cgroup.processes().unwrap(), [0; 0], "nothing is left of it");
}

fn a_program_that_cannot_be_run_is_126() {
    let mut scene = Scene::new();
    fs::write(scene.layer().join("bin/plain"), "text").unwrap();
    for name in ["plain", "/etc", "/bin/plain"] {
        scene.config.process.args = vec![name.into()];
        let error = scene.run().unwrap_err();
        assert_eq!((error.to_string(), error.exit_code()), (format!("exec {name}"), 126));
    }
    fs::set_permissions(scene.layer().join("bin/plain"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = scene.run().unwrap_err();
    assert_eq!((error.source.raw_os_error(), error.exit_code()), (Some(libc::ENOEXEC), 126));
}

fn an_unknown_user_is_named() {
    let mut scene = Scene::new();
    scene.config.process.user = Some("ghost".parse().unwrap());
    let error = scene.run().unwrap_err();
    assert_eq!((error.step, error.to_string().as_str()), (Step::LookUpUser, "look up user ghost"));
    assert_eq!(error.source.to_string(), "no user ghost in /etc/passwd of the container");
}

fn the_exit_code_is_the_programs() {
    let mut scene = Scene::new();
    assert_eq!(scene.script("exit 42").run().unwrap().code, 42);
    // The first process of a pid namespace ignores what it does not handle, its children do not.
    assert_eq!(scene.script("sh -c 'kill -9 $$'; exit $?").run().unwrap().code, 137);
    for _ in 0..20 {
        assert_eq!(scene.script("").run().unwrap().code, 0, "a short life is not a failed start");
    }
}

fn the_environment_is_completed() {
    let mut scene = Scene::new();
    scene.config.process.env = [("A".to_owned(), "b c".to_owned())].into();
    scene.config.process.args = vec!["env".into()];
    let expected = "A=b c\nHOME=/root\nHOSTNAME=case\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
    assert_eq!(scene.run().unwrap().out, expected);
}

fn limits_are_set_and_a_refusal_is_explained() {
    let mut scene = Scene::new();
    scene.config.process.rlimits =
        [("nofile".to_owned(), Rlimit { soft: 77, hard: 99 }), ("core".to_owned(), Rlimit { soft: 0, hard: 0 })].into();
    assert_eq!(scene.sh("ulimit -n; ulimit -Hn; ulimit -c"), "77\n99\n0\n");
    scene.config.process.rlimits = [("nofiles".to_owned(), Rlimit { soft: 1, hard: 1 })].into();
    let error = scene.run().unwrap_err();
    assert_eq!(format!("{error}: {}", error.source), "set resource limit nofiles: no such limit");
    let may_raise = fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .any(|line| line.strip_prefix("CapEff:\t").is_some_and(|bits| u64::from_str_radix(bits, 16).unwrap() & 1 << 24 != 0));
    if may_raise {
        return eprintln!("SKIPPED: the refusal, because this host has CAP_SYS_RESOURCE");
    }
    scene.config.process.rlimits = [("nofile".to_owned(), Rlimit { soft: 1, hard: 1 << 40 })].into();
    assert!(scene.run().unwrap_err().source.to_string().contains("needs CAP_SYS_RESOURCE"));
}

fn standard_output_can_be_opened_again_by_any_user() {
    let mut scene = Scene::new();
    scene.config.process.user = Some("4321".parse().unwrap());
    assert_eq!(scene.sh("echo again > /dev/stdout; echo more > /proc/self/fd/1"), "again\nmore\n");
}

fn a_terminal_is_the_containers_own() {
    let mut scene = Scene::new();
    scene.script("tty; stty size; echo $TERM; echo to console > /dev/console; ps -o tty,comm | grep sh | head -1; exit 3");
    let (text, code) = scene.on_terminal(|stdio| scene.start(stdio));
    assert_eq!(text, "/dev/pts/0\n33 111\nxterm\nto console\n136,0  sh\n");
    assert_eq!(code, 3);
}

fn a_fifo_in_the_place_of_passwd_does_not_hang() {
    let scene = Scene::new();
    fs::remove_file(scene.layer().join("etc/passwd")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, scene.layer().join("etc/passwd"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(scene.run().unwrap_err().source.to_string(), "not a regular file");
}

fn a_host_name_with_a_newline_is_refused() {
    let mut scene = Scene::new();
    scene.config.hostname = "a\n6.6.6.6 bank".into();
    assert_eq!(scene.run().unwrap_err().step, Step::Hostname);
}
