//! crun and runc: no images, no network of their own, nothing that stays beside a container; the floor for everybody else.

use super::{Network, Peer, many, version_of};
use crate::ground::{Ground, run};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An OCI runtime.
pub struct Oci {
    program: &'static str,
    directory: PathBuf,
    root: PathBuf,
    control_group: String,
}

impl Oci {
    /// A runtime by its command.
    pub fn new(program: &'static str, ground: &Ground) -> Result<Self> {
        let directory = ground.path(program);
        fs::create_dir_all(&directory)?;
        let peer = Self { program, directory, root: ground.root(), control_group: ground.control_group() };
        peer.bundle("true", &["true"])?;
        Ok(peer)
    }

    /// Makes the bundle of a container: the runtime's own default with our command.
    fn bundle(&self, id: &str, args: &[&str]) -> Result<PathBuf> {
        let bundle = self.directory.join(id);
        fs::create_dir_all(&bundle)?;
        let file = bundle.join("config.json");
        if !file.exists() {
            run(Command::new(self.program).arg("spec").current_dir(&bundle))?;
        }
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let process = config["process"].as_object_mut().context("config.json has a process")?;
        process.insert("args".into(), json!(args));
        process.insert("terminal".into(), json!(false));
        // A host may not let anybody raise them.
        process.remove("rlimits");
        config["root"]["path"] = json!(self.root);
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{}-{id}", self.control_group, self.program));
        fs::write(&file, serde_json::to_vec(&config)?)?;
        Ok(bundle)
    }

    fn command(&self, verb: &str, bundle: Option<&Path>) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.directory.join("state")).arg(verb);
        bundle.map(|bundle| command.arg("--bundle").arg(bundle));
        command
    }
}

impl Peer for Oci {
    fn name(&self) -> &'static str {
        self.program
    }

    fn version(&self) -> String {
        version_of(Command::new(self.program).arg("--version"))
    }

    fn has(&self, network: Network) -> bool {
        network == Network::None
    }

    fn run_true(&self, _: Network) -> Result<()> {
        run(self.command("run", Some(&self.directory.join("true"))).arg("true")).map(drop)
    }

    fn start(&mut self, count: usize, _: Network) -> Result<()> {
        let bundles = (0..count).map(|number| self.bundle(&number.to_string(), &["sleep", "3600"])).collect::<Result<Vec<_>>>()?;
        // Its pipes would be the container's for as long as that runs.
        many(count, |number| {
            let mut command = Command::new("sh");
            command.args(["-c", "exec \"$@\" >/dev/null 2>&1", "sh"]);
            let run = self.command("run", Some(&bundles[number]));
            command.arg(run.get_program()).args(run.get_args()).arg("--detach").arg(number.to_string());
            command.stdout(Stdio::null());
            command
        })
    }

    fn stop(&mut self, count: usize) -> Result<()> {
        many(count, |number| {
            let mut command = self.command("delete", None);
            command.arg("--force").arg(number.to_string());
            command
        })
    }

    fn monitor(&self) -> Option<&'static str> {
        None
    }

    fn end(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
