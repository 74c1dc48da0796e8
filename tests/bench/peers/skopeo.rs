//! skopeo: copies blobs, unpacks nothing; the floor of what a transfer costs.

use super::{ImageStep, Peer, version_of};
use crate::ground::Ground;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// skopeo with a directory for what it fetches.
pub struct Skopeo {
    directory: PathBuf,
}

impl Skopeo {
    /// With nothing fetched.
    pub fn new(ground: &Ground) -> Self {
        Self { directory: ground.path("skopeo") }
    }
}

impl Peer for Skopeo {
    fn name(&self) -> &'static str {
        "skopeo, not unpacked"
    }

    fn version(&self) -> String {
        version_of(Command::new("skopeo").arg("--version"))
    }

    fn image(&self, step: &ImageStep<'_>) -> Option<Command> {
        Some(match *step {
            ImageStep::Pull { reference } => {
                let mut command = Command::new("skopeo");
                command.args(["copy", "--quiet", "--src-tls-verify=false"]);
                command.arg(format!("docker://{reference}")).arg(format!("oci:{}:1", self.directory.display()));
                command
            }
            ImageStep::Forget { .. } => {
                let mut command = Command::new("rm");
                command.arg("-rf").arg(&self.directory);
                command
            }
            ImageStep::Import { .. } | ImageStep::Push { .. } | ImageStep::Build { .. } => return None,
        })
    }

    fn end(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
