//! What a container may not do, and what it does not inherit.

use crate::Case;
use crate::scene::{Scene, kill};
use runtime::container::config::{IdMapping, NetworkConfig, SeccompProfile};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

pub(crate) const CASES: &[Case] = &[
    ("namespaces_are_its_own", namespaces_are_its_own),
    ("capabilities_are_dockers_and_nothing_is_inherited", capabilities_are_dockers_and_nothing_is_inherited),
    ("a_user_who_is_not_root_holds_nothing", a_user_who_is_not_root_holds_nothing),
    ("the_filter_is_on_and_refuses", the_filter_is_on_and_refuses),
    ("the_filter_loads_without_no_new_privs", the_filter_loads_without_no_new_privs),
    ("nothing_open_leaks_in", nothing_open_leaks_in),
    ("signals_begin_afresh", signals_begin_afresh),
    ("only_loopback_is_there_and_up", only_loopback_is_there_and_up),
    ("disks_cannot_be_opened", disks_cannot_be_opened),
    ("a_user_namespace_maps_root_to_nobody", a_user_namespace_maps_root_to_nobody),
    ("our_binary_cannot_be_written_by_what_it_starts", our_binary_cannot_be_written_by_what_it_starts),
];

fn namespaces_are_its_own() {
    let mut scene = Scene::new();
    let inside = scene.sh("echo $$; for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup");
    let mut lines = inside.lines();
    assert_eq!(lines.next(), Some("1"));
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(lines.next(), host.to_str(), "{name}");
    }
    assert_eq!(lines.next(), fs::read_link("/proc/self/ns/user").unwrap().to_str());
    for line in lines.filter(|line| ["memory", "pids", "cpu:", "0::"].iter().any(|name| line.contains(name))) {
        assert!(line.ends_with(":/"), "{line}");
    }
    scene.config.network = NetworkConfig::Host;
    let net = scene.sh("readlink /proc/self/ns/net").trim().to_owned();
    assert_eq!(Some(net.as_str()), fs::read_link("/proc/self/ns/net").unwrap().to_str());
}

fn capabilities_are_dockers_and_nothing_is_inherited() {
    let mut scene = Scene::new();
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    let expected = format!("CapInh:\t{none}\nCapPrm:\t{docker}\nCapEff:\t{docker}\nCapBnd:\t{docker}\nCapAmb:\t{none}\nNoNewPrivs:\t1\n");
    assert_eq!(scene.sh("grep -e Cap -e NoNew /proc/self/status"), expected);
    scene.config.process.capabilities = BTreeSet::new();
    assert_eq!(scene.sh("grep -e CapEff -e CapBnd /proc/self/status"), format!("CapEff:\t{none}\nCapBnd:\t{none}\n"));
}

fn a_user_who_is_not_root_holds_nothing() {
    let mut scene = Scene::new();
    scene.config.process.user = Some("web".parse().unwrap());
    let text = scene.sh("id -u; id -g; id -G; echo $HOME; grep -e CapPrm -e CapEff -e CapBnd /proc/self/status");
    let none = "0000000000000000";
    assert_eq!(text, format!("33\n34\n34 55\n/srv\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t00000000a80425fb\n"));
}

fn the_filter_is_on_and_refuses() {
    let mut scene = Scene::new();
    assert_eq!(scene.sh("grep Seccomp: /proc/self/status"), "Seccomp:\t2\n");
    scene.config.process.capabilities = BTreeSet::new();
    let refused = scene.script("unshare -U true").run().unwrap();
    assert!(refused.code != 0 && refused.err.contains("Operation not permitted"), "{refused:?}");
    scene.config.process.seccomp = SeccompProfile::Unconfined;
    assert_eq!(scene.sh("grep Seccomp: /proc/self/status; unshare -U true && echo made"), "Seccomp:\t0\nmade\n");
}

fn the_filter_loads_without_no_new_privs() {
    let mut scene = Scene::new();
    scene.config.process.no_new_privileges = false;
    for user in [None, Some("web".parse().unwrap())] {
        scene.config.process.user = user;
        assert_eq!(scene.sh("grep -e NoNewPrivs -e Seccomp: /proc/self/status"), "NoNewPrivs:\t0\nSeccomp:\t2\n");
    }
}

fn nothing_open_leaks_in() {
    let mut scene = Scene::new();
    let leaked = File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let text = scene.sh("ls /proc/self/fd");
    // The fourth is the listing itself.
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{} leaks", leaked.as_raw_fd());
}

fn signals_begin_afresh() {
    let mut scene = Scene::new();
    let text = scene.sh("grep -e SigBlk -e SigIgn -e SigCgt /proc/self/status; umask");
    let none = "0000000000000000";
    assert_eq!(text, format!("SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n0022\n"));
}

fn only_loopback_is_there_and_up() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.sh("ls /sys/class/net; cat /sys/class/net/lo/operstate; ping -c 1 -W 2 127.0.0.1 > /dev/null && echo answers"),
        "lo\nunknown\nanswers\n"
    );
}

fn disks_cannot_be_opened() {
    let mut scene = Scene::new();
    let root = fs::metadata("/").unwrap().dev();
    let (major, minor) = (rustix::fs::major(root), rustix::fs::minor(root));
    let script = format!("mknod /tmp/disk b {major} {minor} && echo made; head -c 1 /tmp/disk > /dev/null");
    let outcome = scene.script(&script).run().unwrap();
    assert_eq!(outcome.out, "made\n", "{outcome:?}");
    assert!(outcome.err.contains("Operation not permitted"), "{outcome:?}");
}

fn a_user_namespace_maps_root_to_nobody() {
    let mut scene = Scene::new();
    scene.config.user_namespace = Some(IdMapping { first: 200_000, count: 65_536 });
    let volume = scene.path("volume");
    fs::create_dir(&volume).unwrap();
    scene.config.mounts = vec![crate::scene::bind(&volume, "/data")];
    let text = scene.sh("id -u; stat -c %u /bin/busybox /etc/hosts /data; echo x > /made; echo x > /data/made; echo x > /dev/null; grep Seccomp: /proc/self/status; ls -d /sys/class /proc/1");
    assert_eq!(text, "0\n0\n0\n0\nSeccomp:\t2\n/proc/1\n/sys/class\n");
    assert_eq!(fs::metadata(scene.path("container/upper/made")).unwrap().uid(), 200_000);
    assert_eq!(fs::metadata(volume.join("made")).unwrap().uid(), 0, "a volume can be given to another container");
    let running = scene.background();
    assert_eq!(fs::metadata(format!("/proc/{}", running.process.pid)).unwrap().uid(), 200_000);
    kill(&running);
}

/// The program is a link to /proc/self/exe: our own binary runs inside, and tries to open itself for writing.
fn our_binary_cannot_be_written_by_what_it_starts() {
    runtime::process::protect_own_binary().unwrap();
    // Truncating asks the mount before it asks whether the file is being executed.
    let written = File::options().write(true).truncate(true).open("/proc/self/exe").unwrap_err();
    assert_eq!(written.raw_os_error(), Some(libc::EROFS), "not only busy");
    let mut scene = Scene::new();
    let text = scene.script("(echo x > /proc/1/exe) 2>&1; ls -l /proc/1/exe").run().unwrap().out;
    assert!(text.contains("busybox"), "{text}");
}
