//! buildah: no daemon; builds, pulls and pushes, keeps the layers of steps if asked to.

use super::{ImageStep, Peer, version_of};
use crate::ground::{Ground, run};
use anyhow::Result;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// buildah with a store of its own.
pub struct Buildah {
    directory: PathBuf,
    control_group: String,
}

impl Buildah {
    /// With an empty store.
    pub fn new(ground: &Ground) -> Self {
        Self { directory: ground.path("buildah"), control_group: ground.control_group() }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.directory.join("root")).args(["--runroot", "/run/buildah-bench", "--storage-driver=overlay"]);
        command.arg(verb);
        command
    }
}

impl Peer for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn version(&self) -> String {
        version_of(Command::new("buildah").arg("--version"))
    }

    fn image(&self, step: &ImageStep<'_>) -> Option<Command> {
        Some(match *step {
            ImageStep::Import { archive, reference } => {
                // It has no import: a Dockerfile that unpacks is its way.
                let context = self.directory.join("import");
                fs::create_dir_all(&context).ok()?;
                let _earlier = fs::remove_file(context.join("root.tar"));
                fs::hard_link(archive, context.join("root.tar")).ok()?;
                fs::write(context.join("Dockerfile"), "FROM scratch\nADD root.tar /\n").ok()?;
                let mut command = self.command("bud");
                command.args(["--quiet", "--tag", reference]).arg(context);
                command
            }
            ImageStep::Pull { reference } => {
                let mut command = self.command("pull");
                command.args(["--quiet", "--tls-verify=false", reference]);
                command
            }
            ImageStep::Push { reference } => {
                let mut command = self.command("push");
                command.args(["--quiet", "--tls-verify=false", reference]);
                command
            }
            ImageStep::Forget { reference } => {
                let mut command = self.command("rmi");
                command.args(["--force", reference]);
                command
            }
            ImageStep::Build { context, reference, cache } => {
                let mut command = self.command("bud");
                command.args(["--quiet", "--layers", "--pull-never", "--tag", reference]).args(if cache {
                    &[][..]
                } else {
                    &["--no-cache"]
                });
                // With crun it fails where a host's control groups are hybrid. The limits: its defaults are above what a host may allow.
                command.args(["--runtime", "runc"]);
                command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
                command.arg(format!("--cgroup-parent=/{}", self.control_group)).arg(context);
                command
            }
        })
    }

    fn end(self: Box<Self>) -> Result<()> {
        // The store is mounted onto itself, and a build that failed leaves its root mounted in it.
        let root = self.directory.join("root/overlay");
        run(Command::new("sh").args(["-c", "! mountpoint -q \"$1\" || umount --recursive --lazy \"$1\"", "sh"]).arg(root)).map(drop)
    }
}
