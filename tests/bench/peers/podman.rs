//! podman: no daemon, conmon beside each container.

use super::{ImageStep, Network, Peer, many, version_of};
use crate::ground::{Ground, run};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

const IMAGE: &str = "localhost/bench:1";

/// podman with a store of its own.
pub struct Podman {
    directory: PathBuf,
    control_group: String,
}

impl Podman {
    /// Imports the image.
    pub fn new(ground: &Ground) -> Result<Self> {
        let podman = Self { directory: ground.path("podman"), control_group: ground.control_group() };
        run(podman.command("import").arg(ground.archive()).arg(IMAGE))?;
        Ok(podman)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.directory.join("root")).args(["--runroot", "/run/podman-bench", "--tmpdir", "/run/podman-tmp"]);
        command.arg("--network-config-dir").arg(self.directory.join("networks"));
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=none", "--storage-driver=overlay"]).arg(verb);
        command
    }

    fn run(&self, network: Network) -> Command {
        let mut command = self.command("run");
        let network = match network {
            Network::None => "none",
            Network::Bridge => "bridge",
        };
        // Its defaults are above what a host may allow.
        command.args(["--network", network, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        command.arg(format!("--cgroup-parent=/{}", self.control_group));
        command
    }
}

impl Peer for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn version(&self) -> String {
        version_of(Command::new("podman").arg("--version"))
    }

    fn has(&self, _: Network) -> bool {
        true
    }

    fn run_true(&self, network: Network) -> Result<()> {
        run(self.run(network).args(["--rm", IMAGE, "true"])).map(drop)
    }

    fn start(&mut self, count: usize, network: Network) -> Result<()> {
        many(count, |_| {
            let mut command = self.run(network);
            command.args(["--detach", IMAGE, "sleep", "3600"]);
            command
        })
    }

    fn stop(&mut self, _: usize) -> Result<()> {
        run(self.command("rm").args(["--force", "--time", "0", "--all"])).map(drop)
    }

    fn monitor(&self) -> Option<&'static str> {
        Some("conmon")
    }

    fn image(&self, step: &ImageStep<'_>) -> Option<Command> {
        Some(match *step {
            ImageStep::Pull { reference } => {
                let mut command = self.command("pull");
                command.args(["--quiet", "--tls-verify=false", reference]);
                command
            }
            ImageStep::Forget { reference } => {
                let mut command = self.command("rmi");
                command.args(["--force", reference]);
                command
            }
            // It pushes and builds with the code of buildah.
            ImageStep::Import { .. } | ImageStep::Push { .. } | ImageStep::Build { .. } => return None,
        })
    }

    fn end(self: Box<Self>) -> Result<()> {
        run(self.command("rm").args(["--force", "--time", "0", "--all"]))?;
        // The store is mounted onto itself.
        run(self.command("unmount").args(["--all", "--force"]))?;
        let root = self.directory.join("root/overlay");
        run(Command::new("sh").args(["-c", "! mountpoint -q \"$1\" || umount \"$1\"", "sh"]).arg(root)).map(drop)
    }
}
