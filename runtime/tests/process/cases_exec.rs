//! One more process in a running container.

use crate::Case;
use crate::scene::{Scene, kill};
use runtime::container::config::{IdMapping, Rlimit};
use runtime::process::{Stdio, Step, exec};
use std::fs;

pub(crate) const CASES: &[Case] = &[
    ("an_exec_is_in_the_same_namespaces_and_group", an_exec_is_in_the_same_namespaces_and_group),
    ("an_exec_has_the_same_bounds", an_exec_has_the_same_bounds),
    ("an_exec_leaks_nothing_and_cannot_leave", an_exec_leaks_nothing_and_cannot_leave),
    ("nobody_inside_gets_at_our_binary_while_we_enter", nobody_inside_gets_at_our_binary_while_we_enter),
    ("an_exec_works_as_another_user_on_a_terminal", an_exec_works_as_another_user_on_a_terminal),
    ("an_exec_into_a_user_namespace_is_its_root", an_exec_into_a_user_namespace_is_its_root),
    ("an_exec_into_what_has_ended_is_refused", an_exec_into_what_has_ended_is_refused),
];

fn an_exec_is_in_the_same_namespaces_and_group() {
    let mut scene = Scene::new();
    let running = scene.background();
    let script = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; grep -e pids -e memory /proc/self/cgroup; readlink /proc/1/exe; hostname; pwd; exit 9";
    let inside = scene.exec_sh(&running, script);
    let pid = running.process.pid;
    let mut expected: String = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .map(|name| format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display()))
        .concat();
    for line in
        fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().lines().filter(|line| line.contains("pids") || line.contains("memory"))
    {
        let number = line.rsplit_once(':').unwrap().0;
        expected += &format!("{number}:/\n");
    }
    assert_eq!((inside.out, inside.code), (expected + "/bin/busybox\ncase\n/\n", 9));
    let host = fs::read_link("/proc/self/ns/pid_for_children").unwrap();
    assert_eq!(host, fs::read_link("/proc/self/ns/pid").unwrap(), "the caller is home again");
    kill(&running);
}

fn an_exec_has_the_same_bounds() {
    let mut scene = Scene::new();
    scene.config.process.rlimits = [("nofile".to_owned(), Rlimit { soft: 77, hard: 99 })].into();
    let running = scene.background();
    let text = scene.exec_sh(&running, "grep -e Cap -e NoNew -e Seccomp: /proc/self/status; umask").out;
    let (docker, none) = ("00000000a80425fb", "0000000000000000");
    let expected = format!(
        "CapInh:\t{none}\nCapPrm:\t{docker}\nCapEff:\t{docker}\nCapBnd:\t{docker}\nCapAmb:\t{none}\nNoNewPrivs:\t1\nSeccomp:\t2\n0022\n"
    );
    assert_eq!(text, expected);
    assert_eq!(scene.exec_sh(&running, "ulimit -n; ulimit -Hn").out, "77\n99\n");
    kill(&running);
}

fn an_exec_leaks_nothing_and_cannot_leave() {
    let mut scene = Scene::new();
    let running = scene.background();
    let leaked = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    assert_eq!(scene.exec_sh(&running, "ls /proc/self/fd").out, "0\n1\n2\n3\n");
    for fd in 3..15 {
        let args = ["pwd".to_owned()];
        let path = format!("/proc/self/fd/{fd}");
        let outcome = scene.with_pipes(|stdio| {
            let mut request = scene.exec_request(&running, &args, stdio);
            request.working_dir = &path;
            exec(&request)
        });
        assert_eq!(outcome.unwrap_err().step, Step::WorkingDirectory);
    }
    kill(&running);
}

fn nobody_inside_gets_at_our_binary_while_we_enter() {
    let mut scene = Scene::new();
    // Descriptors and memory of a process stand behind the same check of the kernel as its executable.
    let watch = "while true; do for p in /proc/[0-9]*; do e=$(readlink $p/exe) && [ $e != /bin/busybox ] && echo $e >> /seen; done; done";
    let null = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let null = std::os::fd::AsFd::as_fd(&null);
    scene.script(watch);
    let running = scene.start(Stdio::Files { stdin: null, stdout: null, stderr: null }).unwrap();
    for _ in 0..100 {
        assert_eq!(scene.exec_sh(&running, "").code, 0);
    }
    kill(&running);
    let seen = fs::read_to_string(scene.path("container/upper/seen")).unwrap_or_default();
    assert_eq!(seen, "");
}

fn an_exec_works_as_another_user_on_a_terminal() {
    let mut scene = Scene::new();
    let running = scene.background();
    let args = ["/bin/sh", "-c", "id -u; id -G; tty; stty size; echo > /dev/tty"].map(str::to_owned);
    let user = "web".parse().unwrap();
    let (text, code) = scene.on_terminal(|stdio| {
        let mut request = scene.exec_request(&running, &args, stdio);
        request.user = Some(&user);
        exec(&request)
    });
    assert_eq!((text.as_str(), code), ("33\n34 55\n/dev/pts/0\n33 111\n\n", 0));
    kill(&running);
}

fn an_exec_into_a_user_namespace_is_its_root() {
    let mut scene = Scene::new();
    scene.config.user_namespace = Some(IdMapping { first: 300_000, count: 65_536 });
    let running = scene.background();
    let outcome = scene.exec_sh(&running, "id -u; cat /proc/self/uid_map | tr -s ' '; echo x > /made");
    assert_eq!((outcome.out.as_str(), outcome.code), ("0\n 0 300000 65536\n", 0), "{}", outcome.err);
    kill(&running);
}

fn an_exec_into_what_has_ended_is_refused() {
    let mut scene = Scene::new();
    let running = scene.background();
    kill(&running);
    let args = ["true".to_owned()];
    let error = scene.with_pipes(|stdio| exec(&scene.exec_request(&running, &args, stdio))).unwrap_err();
    assert_eq!((error.step, error.source.raw_os_error()), (Step::EnterNamespace, Some(libc::ESRCH)));
}
