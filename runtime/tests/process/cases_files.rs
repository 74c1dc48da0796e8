//! What a container sees of files: its root, the kernel's file systems, mounts, generated files; and what nobody sees of it outside.

use crate::Case;
use crate::scene::{Scene, bind};
use runtime::container::config::{Endpoint, MountConfig, NetworkConfig};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

pub(crate) const CASES: &[Case] = &[
    ("the_root_is_an_overlay_and_the_layer_stays_clean", the_root_is_an_overlay_and_the_layer_stays_clean),
    ("a_container_without_layers_has_just_its_upper_directory", a_container_without_layers_has_just_its_upper_directory),
    ("the_host_has_no_mount_of_it", the_host_has_no_mount_of_it),
    ("the_kernels_file_systems_are_mounted_as_docker_does", the_kernels_file_systems_are_mounted_as_docker_does),
    ("masked_paths_are_empty", masked_paths_are_empty),
    ("read_only_paths_refuse_writes", read_only_paths_refuse_writes),
    ("devices_are_the_six_harmless_ones", devices_are_the_six_harmless_ones),
    ("a_read_only_root_has_writable_mounts", a_read_only_root_has_writable_mounts),
    ("a_read_only_bind_covers_what_is_mounted_below", a_read_only_bind_covers_what_is_mounted_below),
    ("a_file_can_be_bound", a_file_can_be_bound),
    ("an_empty_volume_is_filled_from_the_image", an_empty_volume_is_filled_from_the_image),
    ("generated_files_name_the_container", generated_files_name_the_container),
    ("links_to_the_host_lead_nowhere", links_to_the_host_lead_nowhere),
    ("a_link_in_the_place_of_a_kernel_file_system_is_refused", a_link_in_the_place_of_a_kernel_file_system_is_refused),
    ("a_link_into_the_kernels_files_is_no_mount_target", a_link_into_the_kernels_files_is_no_mount_target),
    ("the_working_directory_is_made_and_stays_inside", the_working_directory_is_made_and_stays_inside),
    ("a_missing_source_is_named", a_missing_source_is_named),
];

fn the_root_is_an_overlay_and_the_layer_stays_clean() {
    let mut scene = Scene::new();
    assert_eq!(scene.sh("echo x > /new; rm /etc/group; cat /proc/self/mountinfo | grep ' / / '| sed 's/.* - //; s/ .*//'"), "overlay\n");
    assert!(!scene.layer().join("new").exists() && scene.layer().join("etc/group").exists());
    assert_eq!(fs::read_to_string(scene.path("container/upper/new")).unwrap(), "x\n");
    assert_eq!(scene.sh("cat /new"), "x\n", "changes live from one start to the next");
}

fn a_container_without_layers_has_just_its_upper_directory() {
    let mut scene = Scene::new();
    let layer = scene.config.layers.pop().unwrap();
    fs::rename(layer, scene.path("container/upper")).unwrap();
    assert_eq!(scene.sh("echo inside; touch /made"), "inside\n");
    assert!(scene.path("container/upper/made").exists());
}

fn the_host_has_no_mount_of_it() {
    let mut scene = Scene::new();
    let own = scene.path("").display().to_string();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(&own)).count();
    let running = scene.background();
    assert_eq!(mounts(), 0);
    crate::scene::kill(&running);
    assert_eq!(mounts(), 0);
}

fn the_kernels_file_systems_are_mounted_as_docker_does() {
    let mut scene = Scene::new();
    let table = scene.sh("cat /proc/self/mountinfo");
    let line = |target: &str| {
        let found = table.lines().find(|line| line.split(' ').nth(4) == Some(target));
        found.unwrap_or_else(|| panic!("{target} in {table}")).to_owned()
    };
    for (target, kind, options) in [
        ("/proc", "proc", "rw,nosuid,nodev,noexec"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "rw,nosuid"),
        ("/dev/pts", "devpts", "rw,nosuid,noexec"),
        ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec"),
        ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec"),
        ("/proc/sys", "proc", "ro,nosuid,nodev,noexec"),
    ] {
        assert!(line(target).contains(&format!(" {options}")), "{}", line(target));
        assert!(line(target).contains(&format!(" - {kind} ")), "{}", line(target));
    }
    let writable = |line: &&str| line.contains(" /sys/fs/cgroup") && !line.contains(" ro");
    assert_eq!(table.lines().find(writable), None);
    assert!(!table.contains(" shared:"), "{table}");
}

fn masked_paths_are_empty() {
    let mut scene = Scene::new();
    let script = "for f in kcore keys timer_list sched_debug interrupts latency_stats; do
                    [ -e /proc/$f ] && cat /proc/$f; done
                  for d in acpi scsi asound; do [ -e /proc/$d ] && ls /proc/$d; done
                  ls /sys/firmware; ls /sys/devices/virtual/powercap 2>/dev/null; true";
    assert_eq!(scene.sh(script), "");
}

fn read_only_paths_refuse_writes() {
    let mut scene = Scene::new();
    let script = "for f in /proc/sys/kernel/domainname /proc/sysrq-trigger /sys/kernel/profiling /sys/fs/cgroup/memory/tasks; do
                    (echo 0 > $f) 2>/dev/null && echo $f; done; true";
    assert_eq!(scene.sh(script), "");
}

fn devices_are_the_six_harmless_ones() {
    let mut scene = Scene::new();
    let script = "cd /dev; stat -c '%n %t:%T %a' $(find . -type c -maxdepth 1 | sort); find . -type b; readlink fd; readlink ptmx; echo x > null; head -c 2 zero | wc -c";
    let expected =
        "./full 1:7 666\n./null 1:3 666\n./random 1:8 666\n./tty 5:0 666\n./urandom 1:9 666\n./zero 1:5 666\n/proc/self/fd\npts/ptmx\n2\n";
    symlink("busybox", scene.layer().join("bin/find")).unwrap();
    for name in ["sort", "head", "wc", "grep", "sed"] {
        symlink("busybox", scene.layer().join("bin").join(name)).unwrap();
    }
    assert_eq!(scene.sh(script), expected);
}

fn a_read_only_root_has_writable_mounts() {
    let mut scene = Scene::new();
    scene.config.read_only_root = true;
    let target = "/work".parse().unwrap();
    scene.config.mounts = vec![MountConfig::Tmpfs { target, size: Some("1Mi".parse().unwrap()), mode: 0o1770, executable: false }];
    let script = "(echo x > /x) 2>/dev/null && echo root; echo x > /work/x && echo work; echo x > /dev/shm/x && echo shm; stat -c %a /work";
    assert_eq!(scene.sh(script), "work\nshm\n1770\n");
    let table = scene.sh("cat /proc/self/mountinfo");
    assert!(table.lines().any(|line| line.contains(" /work rw,nosuid,nodev,noexec") && line.contains("size=1024k")), "{table}");
}

fn a_read_only_bind_covers_what_is_mounted_below() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.path("data/sub")).unwrap();
    let below = scene.path("data/sub");
    let tmpfs = rustix::mount::mount("none", &below, "tmpfs", rustix::mount::MountFlags::empty(), None::<&std::ffi::CStr>);
    tmpfs.unwrap();
    let unmount = Unmount(below);
    let source = scene.path("data");
    scene.config.mounts = vec![MountConfig::Bind { source, target: "/data".parse().unwrap(), read_only: true, copy_up: false }];
    let script = "(echo x > /data/x) 2>/dev/null && echo top; (echo x > /data/sub/x) 2>/dev/null && echo below; true";
    assert_eq!(scene.sh(script), "");
    drop(unmount);
}

pub(crate) struct Unmount(pub(crate) std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

fn a_file_can_be_bound() {
    let mut scene = Scene::new();
    fs::write(scene.path("one"), "from outside\n").unwrap();
    scene.config.mounts = vec![bind(&scene.path("one"), "/deep/in/one")];
    assert_eq!(scene.sh("cat /deep/in/one; echo changed > /deep/in/one"), "from outside\n");
    assert_eq!(fs::read_to_string(scene.path("one")).unwrap(), "changed\n");
}

fn an_empty_volume_is_filled_from_the_image() {
    let mut scene = Scene::new();
    let image = scene.layer().join("srv/data");
    fs::create_dir_all(&image).unwrap();
    fs::write(image.join("seed"), "seed\n").unwrap();
    std::os::unix::fs::chown(&image, Some(33), Some(34)).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o750)).unwrap();
    let volume = scene.path("volume");
    fs::create_dir(&volume).unwrap();
    let target = "/srv/data".parse().unwrap();
    scene.config.mounts = vec![MountConfig::Bind { source: volume.clone(), target, read_only: false, copy_up: true }];
    assert_eq!(scene.sh("cat /srv/data/seed; stat -c '%u:%g %a' /srv/data; echo own > /srv/data/seed"), "seed\n33:34 750\n");
    assert_eq!(scene.sh("cat /srv/data/seed"), "own\n", "filled once only");
    assert_eq!(fs::read_to_string(volume.join("seed")).unwrap(), "own\n");
}

fn generated_files_name_the_container() {
    let mut scene = Scene::new();
    let netns = scene.path("netns");
    pin_network(&netns);
    let endpoint = Endpoint { network: "shop".parse().unwrap(), address: [10, 9, 8, 7].into(), aliases: [].into() };
    scene.config.network = NetworkConfig::Bridged { endpoints: vec![endpoint], ports: Vec::new() };
    scene.netns = Some(netns.clone());
    let unpin = Unmount(netns);
    let text = scene.sh("cat /etc/hostname /etc/resolv.conf; grep case /etc/hosts; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; readlink /proc/self/ns/net");
    let inside = fs::metadata(scene.netns.as_ref().unwrap()).map(|at| std::os::unix::fs::MetadataExt::ino(&at)).unwrap();
    assert_eq!(text, format!("case\nnameserver 127.0.0.11\noptions ndots:0\n10.9.8.7\tcase\ncase\n0\nnet:[{inside}]\n"));
    drop(unpin);
}

/// A network namespace kept by a bind mount, as the engine leaves it for the shim.
pub(crate) fn pin_network(at: &std::path::Path) {
    fs::write(at, "").unwrap();
    // The mount must land in our own mount namespace: nsenter goes back there by pid.
    let script =
        format!("nsenter --mount=/proc/{}/ns/mnt -- /bin/sh -c 'mount --bind /proc/'$$'/ns/net {}' ", std::process::id(), at.display());
    let status = std::process::Command::new("unshare").args(["--net", "/bin/sh", "-c", &script]).status().unwrap();
    assert!(status.success());
}

fn links_to_the_host_lead_nowhere() {
    let mut scene = Scene::new();
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(scene.layer().join("etc")).unwrap();
    symlink(&outside, scene.layer().join("etc")).unwrap();
    symlink(format!("../../../../../..{}", outside.display()), scene.layer().join("data")).unwrap();
    fs::create_dir(scene.path("source")).unwrap();
    scene.config.mounts = vec![bind(&scene.path("source"), "/data/volume")];
    scene.config.process.working_dir = "/data/work".into();
    scene.config.process.args = ["/bin/sh", "-c", "echo x > made; echo x > /data/volume/made"].map(str::to_owned).into();
    assert_eq!(scene.run().unwrap().code, 0);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing appears on the host");
    assert!(scene.path("source/made").exists());
    let inside = scene.path("container/upper").join(outside.strip_prefix("/").unwrap());
    assert!(inside.join("work/made").exists() && inside.join("hosts").exists());
}

fn a_link_in_the_place_of_a_kernel_file_system_is_refused() {
    for name in ["proc", "sys", "dev"] {
        let scene = Scene::new();
        fs::remove_dir(scene.layer().join(name)).unwrap();
        symlink("/etc", scene.layer().join(name)).unwrap();
        let error = scene.run().unwrap_err();
        assert_eq!((error.to_string(), error.source.raw_os_error()), (format!("mount /{name}"), Some(libc::ELOOP)));
    }
}

fn a_link_into_the_kernels_files_is_no_mount_target() {
    for (link, copy_up) in [("/proc", false), ("/sys/class", false), ("/proc/1/../sys", true)] {
        let mut scene = Scene::new();
        symlink(link, scene.layer().join("data")).unwrap();
        fs::create_dir(scene.path("volume")).unwrap();
        let source = scene.path("volume");
        scene.config.mounts = vec![MountConfig::Bind { source, target: "/data".parse().unwrap(), read_only: false, copy_up }];
        let error = scene.run().unwrap_err();
        assert_eq!(error.source.to_string(), "it leads into the kernel's own files", "{link}");
        assert_eq!(fs::read_dir(scene.path("volume")).unwrap().count(), 0);
    }
}

fn the_working_directory_is_made_and_stays_inside() {
    let mut scene = Scene::new();
    scene.config.process.working_dir = "/a/new/place".into();
    assert_eq!(scene.sh("pwd"), "/a/new/place\n");
    for fd in 3..20 {
        scene.config.process.working_dir = format!("/proc/self/fd/{fd}");
        let error = scene.run().unwrap_err();
        assert_eq!(error.to_string(), format!("enter working directory /proc/self/fd/{fd}"));
    }
    scene.config.process.working_dir = "/proc/1/cwd".into();
    assert!(scene.run().is_err());
}

fn a_missing_source_is_named() {
    let mut scene = Scene::new();
    scene.config.mounts = vec![bind(&scene.path("absent"), "/data")];
    let error = scene.run().unwrap_err();
    assert_eq!(error.to_string(), format!("open mount source {}", scene.path("absent").display()));
    assert_eq!(error.exit_code(), 128);
}
