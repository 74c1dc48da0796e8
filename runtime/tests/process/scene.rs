//! A container to be: an image of busybox alone in a directory of its own, and a cgroup below a mark of its own. Cleans up after itself.

use runtime::cgroup::Cgroup;
use runtime::container::config::{ContainerConfig, MountConfig, NetworkConfig, Process, ResourceLimits, SeccompProfile, Updatable};
use runtime::places::Places;
use runtime::process::pidfd::{self, ExitStatus};
use runtime::process::{ExecRequest, StartError, StartRequest, Started, Stdio, TerminalSize, exec, start};
use spec::desired::LogLimits;
use spec::value::{ByteSize, Capability, Digest, RestartPolicy, Signal};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) struct Scene {
    pub(crate) config: ContainerConfig,
    pub(crate) places: Places,
    pub(crate) cgroup: Cgroup,
    pub(crate) netns: Option<PathBuf>,
    directory: tempfile::TempDir,
}

/// What a finished process left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let places = Places { state: at("state"), run: at("run"), config: at("etc") };
        let layer = at("layer");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
            fs::create_dir_all(layer.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "ls", "id", "mount", "sleep", "true", "env", "stat", "unshare", "readlink", "tty", "ps", "chroot"] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).unwrap();
        }
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n").unwrap();
        fs::write(layer.join("etc/group"), "root:x:0:\nextra:x:55:web\nweb:x:34:\n").unwrap();
        fs::create_dir_all(at("container")).unwrap();
        let config = config(layer);
        let cgroup = Cgroup::of_container(&places, &config.id).unwrap();
        Self { config, places, cgroup, netns: None, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn layer(&self) -> &Path {
        &self.config.layers[0]
    }

    pub(crate) fn script(&mut self, script: &str) -> &mut Self {
        self.config.process.args = ["/bin/sh", "-c", script].map(str::to_owned).into();
        self
    }

    pub(crate) fn start(&self, stdio: Stdio<'_>) -> Result<Started, StartError> {
        let directory = self.path("container");
        let network_namespace = self.netns.as_deref();
        start(&StartRequest { config: &self.config, directory: &directory, cgroup: &self.cgroup, network_namespace, stdio })
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(&self) -> Result<Outcome, StartError> {
        self.with_pipes(|stdio| self.start(stdio))
    }

    pub(crate) fn sh(&mut self, script: &str) -> String {
        let outcome = self.script(script).run().unwrap();
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.out
    }

    /// A container that sleeps, for others to look at.
    pub(crate) fn background(&mut self) -> Started {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        self.config.process.args = ["sleep", "1000"].map(str::to_owned).into();
        self.start(Stdio::Files { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() }).unwrap()
    }

    pub(crate) fn exec_request<'a>(&'a self, target: &Started, args: &'a [String], stdio: Stdio<'a>) -> ExecRequest<'a> {
        ExecRequest {
            target: target.process,
            cgroup: &self.cgroup,
            user_namespace: self.config.user_namespace,
            args,
            env: &self.config.process.env,
            working_dir: "/",
            user: None,
            capabilities: &self.config.process.capabilities,
            no_new_privileges: true,
            seccomp: SeccompProfile::Default,
            rlimits: &self.config.process.rlimits,
            stdio,
        }
    }

    pub(crate) fn exec_sh(&self, target: &Started, script: &str) -> Outcome {
        let args = ["/bin/sh", "-c", script].map(str::to_owned);
        self.with_pipes(|stdio| exec(&self.exec_request(target, &args, stdio))).unwrap()
    }

    pub(crate) fn with_pipes(&self, begin: impl FnOnce(Stdio<'_>) -> Result<Started, StartError>) -> Result<Outcome, StartError> {
        let ((out, out_in), (err, err_in)) = (pipe(), pipe());
        let null = File::open("/dev/null").unwrap();
        let started = begin(Stdio::Files { stdin: null.as_fd(), stdout: out_in.as_fd(), stderr: err_in.as_fd() })?;
        drop((out_in, err_in));
        Ok(Outcome { out: read(out), err: read(err), code: finish(&started) })
    }

    /// A terminal session: what it printed and its exit code.
    pub(crate) fn on_terminal(&self, begin: impl FnOnce(Stdio<'_>) -> Result<Started, StartError>) -> (String, i32) {
        let started = begin(Stdio::Terminal(TerminalSize { rows: 33, columns: 111 })).unwrap();
        let mut text = Vec::new();
        // Ends with EIO when the other side is closed.
        let _ = File::from(started.terminal.as_ref().unwrap().try_clone().unwrap()).read_to_end(&mut text);
        (String::from_utf8_lossy(&text).replace('\r', ""), finish(&started))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.cgroup.kill_all().unwrap();
        self.cgroup.remove().unwrap();
        Cgroup::remove_instance(&self.places).unwrap();
    }
}

pub(crate) fn finish(started: &Started) -> i32 {
    assert!(pidfd::wait(started.pidfd.as_fd(), Some(Duration::from_secs(20))).unwrap(), "it does not end");
    pidfd::reap(started.pidfd.as_fd()).unwrap().map(ExitStatus::code).unwrap()
}

pub(crate) fn kill(started: &Started) -> i32 {
    pidfd::send_signal(started.pidfd.as_fd(), Signal::KILL).unwrap();
    finish(started)
}

pub(crate) fn bind(source: &Path, target: &str) -> MountConfig {
    MountConfig::Bind { source: source.to_owned(), target: target.parse().unwrap(), read_only: false, copy_up: false }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

fn read(pipe: OwnedFd) -> String {
    let mut text = String::new();
    File::from(pipe).read_to_string(&mut text).unwrap();
    text
}

fn config(layer: PathBuf) -> ContainerConfig {
    ContainerConfig {
        id: "case@1".parse().unwrap(),
        image: Digest::of(b""),
        layers: vec![layer],
        process: Process {
            args: vec!["true".into()],
            env: BTreeMap::new(),
            working_dir: "/".into(),
            user: None,
            capabilities: Capability::DOCKER_DEFAULT.into(),
            no_new_privileges: true,
            seccomp: SeccompProfile::Default,
            rlimits: BTreeMap::new(),
        },
        hostname: "case".into(),
        read_only_root: false,
        mounts: Vec::new(),
        user_namespace: None,
        network: NetworkConfig::None,
        stop_signal: Signal::TERM,
        stop_grace: Duration::from_secs(1),
        health: None,
        logs: LogLimits { max_size: ByteSize::from_bytes(1 << 20), max_files: 1 },
        tty: false,
        stdin_open: false,
        updatable: Updatable { resources: ResourceLimits::default(), restart: RestartPolicy::No, labels: BTreeMap::new() },
    }
}
