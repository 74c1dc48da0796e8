//! docker: a daemon and a containerd of its own, a containerd-shim beside each container.

use super::{Network, Peer, many, version_of};
use crate::ground::{Ground, run};
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const IMAGE: &str = "bench:1";

/// How long the daemon may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// docker with a daemon of its own.
pub struct Docker {
    directory: PathBuf,
    daemon: Child,
}

impl Docker {
    /// Starts the daemon and imports the image.
    pub fn new(ground: &Ground) -> Result<Self> {
        let directory = ground.path("docker");
        fs::create_dir_all(&directory)?;
        let log = File::create(directory.join("log"))?;
        let mut daemon = Command::new("dockerd");
        daemon.arg("--data-root").arg(directory.join("root")).args(["--exec-root", "/run/docker-bench"]);
        daemon.arg("--pidfile").arg(directory.join("pid")).arg("--host").arg(address(&directory));
        daemon.arg(format!("--cgroup-parent=/{}", ground.control_group()));
        // Its default is above what a host may allow.
        daemon.args(["--default-ulimit", "nofile=1024:1024"]);
        let daemon = daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("run dockerd")?;
        let mut docker = Self { directory, daemon };
        match docker.await_daemon().and_then(|()| run(docker.command("import").arg(ground.archive()).arg(IMAGE))) {
            Ok(_) => Ok(docker),
            Err(error) => {
                docker.end_daemon()?;
                Err(error)
            }
        }
    }

    fn await_daemon(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = run(&mut self.command("info")) {
            if self.daemon.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("{error:#}; the last of its log: {}", log.lines().last().unwrap_or_default());
            }
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn end_daemon(&mut self) -> Result<()> {
        run(Command::new("kill").arg(self.daemon.id().to_string()))?;
        self.daemon.wait()?;
        Ok(())
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", address(&self.directory)).env("DOCKER_CONFIG", self.directory.join("config")).arg(verb);
        command
    }

    fn run(&self, network: Network) -> Command {
        let mut command = self.command("run");
        let network = match network {
            Network::None => "none",
            Network::Bridge => "bridge",
        };
        command.args(["--network", network]);
        command
    }
}

fn address(directory: &Path) -> String {
    format!("unix://{}", directory.join("sock").display())
}

impl Peer for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn version(&self) -> String {
        let format = ["--format", "client {{.Client.Version}}, server {{.Server.Version}}"];
        version_of(self.command("version").args(format))
    }

    fn has(&self, _: Network) -> bool {
        true
    }

    fn run_true(&self, network: Network) -> Result<()> {
        run(self.run(network).args(["--rm", IMAGE, "true"])).map(drop)
    }

    fn start(&mut self, count: usize, network: Network) -> Result<()> {
        many(count, |number| {
            let mut command = self.run(network);
            command.args(["--detach", "--name", &format!("bench-{number}"), IMAGE, "sleep", "3600"]);
            command
        })
    }

    fn stop(&mut self, count: usize) -> Result<()> {
        run(self.command("rm").arg("--force").args((0..count).map(|number| format!("bench-{number}")))).map(drop)
    }

    fn monitor(&self) -> Option<&'static str> {
        Some("containerd-shim")
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        self.end_daemon()
    }
}
