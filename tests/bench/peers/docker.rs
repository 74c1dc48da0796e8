//! docker: a daemon and a containerd of its own, a containerd-shim beside each container.

use super::{ImageStep, Network, Peer, many, version_of};
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
        client(&self.directory, verb)
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

/// The client, with the builder of the daemon's first years unless asked otherwise.
fn client(directory: &Path, verb: &str) -> Command {
    // That of the daemon's package: others may want plug-ins to build.
    let packaged = Path::new("/usr/bin/docker");
    let mut command = if packaged.exists() { Command::new(packaged) } else { Command::new("docker") };
    command.env("DOCKER_HOST", address(directory)).env("DOCKER_CONFIG", directory.join("config")).env("DOCKER_BUILDKIT", "0").arg(verb);
    command
}

fn build(directory: &Path, context: &Path, reference: &str, cache: bool) -> Command {
    let mut command = client(directory, "build");
    command.args(["--quiet", "--tag", reference]).args(if cache { &[][..] } else { &["--no-cache"] }).arg(context);
    command
}

/// The same daemon's other builder.
pub struct BuildKit {
    directory: PathBuf,
}

impl BuildKit {
    /// With the daemon that [`Docker::new`] started.
    pub fn new(ground: &Ground) -> Result<Self> {
        let directory = ground.path("docker");
        run(&mut client(&directory, "info"))?;
        Ok(Self { directory })
    }
}

impl Peer for BuildKit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn version(&self) -> String {
        "of the same docker".to_owned()
    }

    fn image(&self, step: &ImageStep<'_>) -> Option<Command> {
        match *step {
            ImageStep::Build { context, reference, cache } => {
                let mut command = build(&self.directory, context, reference, cache);
                command.env("DOCKER_BUILDKIT", "1");
                Some(command)
            }
            ImageStep::Import { .. } | ImageStep::Pull { .. } | ImageStep::Push { .. } | ImageStep::Forget { .. } => None,
        }
    }

    fn end(self: Box<Self>) -> Result<()> {
        Ok(())
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

    fn image(&self, step: &ImageStep<'_>) -> Option<Command> {
        let with = |verb: &str, arguments: &[&str]| {
            let mut command = self.command(verb);
            command.args(arguments);
            command
        };
        Some(match *step {
            ImageStep::Import { archive, reference } => {
                let mut command = self.command("import");
                command.arg(archive).arg(reference);
                command
            }
            ImageStep::Pull { reference } => with("pull", &["--quiet", reference]),
            ImageStep::Push { reference } => with("push", &["--quiet", reference]),
            ImageStep::Forget { reference } => with("rmi", &["--force", reference]),
            ImageStep::Build { context, reference, cache } => build(&self.directory, context, reference, cache),
        })
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        self.end_daemon()
    }
}
