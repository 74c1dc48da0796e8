//! A host of its own for each test: directories, a busybox image, and proof at the end that nothing is left of it.

use runtime::cgroup::Cgroup;
use runtime::container::config::*;
use runtime::container::state::*;
use runtime::container::{self, LogQuery, Snapshot, Waited, WhileRunning};
use runtime::places::Places;
use runtime::shim::log::record::Stream;
use runtime::shim::protocol::WaitCondition;
use spec::desired::LogLimits;
use spec::value::{ByteSize, Capability, ContainerId, Digest, RestartPolicy, Signal};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait of a test for anything that ought to happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Host {
    pub(crate) places: Places,
    directory: tempfile::TempDir,
}

/// `None`, loudly, where the tests cannot run.
pub(crate) fn host() -> Option<Host> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: containers need root");
        return None;
    }
    if !Path::new("/bin/busybox").exists() {
        eprintln!("SKIPPED: no static /bin/busybox (package busybox-static)");
        return None;
    }
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path();
    let places = Places { state: root.join("state"), run: root.join("run"), config: root.join("config") };
    let bin = root.join("layer/bin");
    for name in ["bin", "etc", "tmp", "root"] {
        std::fs::create_dir_all(root.join("layer").join(name)).expect("directory");
    }
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox");
    for applet in
        ["sh", "true", "false", "sleep", "cat", "echo", "seq", "kill", "test", "touch", "rm", "nslookup", "head", "env", "stty", "tail"]
    {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("applet");
    }
    std::fs::write(root.join("layer/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("passwd");
    std::fs::write(root.join("layer/etc/group"), "root:x:0:\n").expect("group");
    Some(Host { places, directory })
}

pub(crate) fn id(text: &str) -> ContainerId {
    text.parse().expect("container id")
}

impl Host {
    /// A container that runs this in a shell.
    pub(crate) fn config(&self, name: &str, script: &str) -> ContainerConfig {
        ContainerConfig {
            id: id(name),
            image: Digest::of(b"busybox"),
            layers: vec![self.directory.path().join("layer")],
            process: Process {
                args: ["sh", "-c", script].map(str::to_owned).to_vec(),
                env: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
                working_dir: "/".to_owned(),
                user: None,
                capabilities: Capability::DOCKER_DEFAULT.into_iter().collect(),
                no_new_privileges: false,
                seccomp: SeccompProfile::Default,
                rlimits: BTreeMap::new(),
            },
            hostname: "test".to_owned(),
            read_only_root: false,
            mounts: Vec::new(),
            user_namespace: None,
            network: NetworkConfig::None,
            stop_signal: Signal::TERM,
            stop_grace: Duration::from_secs(10),
            health: None,
            logs: LogLimits { max_size: ByteSize::from_bytes(1 << 20), max_files: 100 },
            tty: false,
            stdin_open: false,
            updatable: Updatable { resources: ResourceLimits::default(), restart: RestartPolicy::No, labels: BTreeMap::new() },
        }
    }

    /// Creates and starts.
    pub(crate) fn run(&self, config: &ContainerConfig) -> ContainerState {
        self.create(config);
        container::start(&self.places, &config.id).expect("start")
    }

    pub(crate) fn create(&self, config: &ContainerConfig) {
        container::create(&self.places, config, &serde_json::json!({"test": true}), None).expect("create");
    }

    pub(crate) fn inspect(&self, id: &ContainerId) -> Snapshot {
        container::inspect(&self.places, id).expect("inspect")
    }

    /// Waits for its exit.
    pub(crate) fn exit(&self, id: &ContainerId) -> Exit {
        let waited = container::wait(&self.places, id, WaitCondition::Exited, Some(SOON * 3)).expect("wait");
        match waited {
            Waited::Reached(ContainerState { phase: Phase::Exited { exit }, .. }) => exit,
            other => panic!("no exit: {other:?}"),
        }
    }

    /// All that it wrote.
    pub(crate) fn logs(&self, id: &ContainerId) -> Vec<(Stream, String)> {
        let mut records = Vec::new();
        container::logs(&self.places, id, LogQuery::default(), |record| {
            records.push((record.stream, record.text));
            ControlFlow::Continue(())
        })
        .expect("logs");
        records
    }

    pub(crate) fn stdout(&self, id: &ContainerId) -> String {
        self.logs(id).into_iter().filter(|(stream, _)| *stream == Stream::Stdout).map(|(_, text)| text).collect()
    }

    pub(crate) fn process(&self, id: &ContainerId) -> ProcessRef {
        match self.inspect(id).state.phase {
            Phase::Running { process, .. } => process,
            other => panic!("not running: {other:?}"),
        }
    }

    /// A file as the container's process sees it: what is done below the mount in `upper` it may not notice.
    pub(crate) fn inside(&self, id: &ContainerId, path: &str) -> PathBuf {
        Path::new("/proc").join(self.process(id).pid.to_string()).join("root").join(path)
    }

    /// SIGKILL to its shim, and nothing else.
    pub(crate) fn kill_shim(&self, id: &ContainerId) {
        let shim = self.inspect(id).state.shim.expect("shim");
        kill(shim.pid);
        eventually("the shim is gone", || !self.inspect(id).shim_alive);
    }
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}

pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "it never happened that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let containers = container::list(&self.places).unwrap_or_default();
        let failed: Vec<_> = containers
            .keys()
            .filter_map(|id| container::remove(&self.places, id, WhileRunning::Kill).err().map(|error| format!("{id}: {error:?}")))
            .collect();
        let left = [self.left_groups(), self.left_mounts(), self.left_files(), failed].concat();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}

impl Host {
    /// Control groups of containers; the instance's own and that of its shims are removed here, as nobody else does.
    fn left_groups(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
        let mut left = Vec::new();
        for hierarchy in hierarchies {
            let group = Path::new(hierarchy).join(self.places.instance());
            let Ok(entries) = std::fs::read_dir(&group) else { continue };
            let groups = entries.flatten().filter(|entry| entry.path().is_dir() && entry.file_name() != "shims");
            left.extend(groups.map(|entry| entry.path().display().to_string()));
        }
        left.extend(Cgroup::remove_instance(&self.places).err().map(|error| format!("{error:?}")));
        left
    }

    fn left_mounts(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let own = self.directory.path().to_str().expect("path");
        mounts.lines().filter(|line| line.contains(own)).map(str::to_owned).collect()
    }

    fn left_files(&self) -> Vec<String> {
        let directories = [self.places.containers(), self.places.run.join("containers")];
        let entries = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    }
}
