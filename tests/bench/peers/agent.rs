//! Our own side, through its command line like all others: `agent container run` for one, a site and `agent apply` for many.

use super::{ImageStep, Network, Peer, version_of};
use crate::ground::{Ground, run};
use crate::memory::pss_kib;
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const IMAGE: &str = "bench:1";

/// The agent with an instance of its own.
pub struct Agent {
    program: PathBuf,
    directory: PathBuf,
    run: PathBuf,
}

impl Agent {
    /// Imports the image into an instance of this name.
    pub fn new(ground: &Ground, instance: &str) -> Result<Self> {
        // Cargo puts all programs of a workspace into one directory.
        let program = std::env::current_exe()?.with_file_name("agent");
        let agent = Self { program, directory: ground.path(instance), run: PathBuf::from("/run").join(instance) };
        fs::create_dir_all(agent.site())?;
        run(agent.command(&["image", "import", "--tag", IMAGE]).arg(ground.archive()))?;
        Ok(agent)
    }

    /// Writes a site of so many containers and applies it.
    pub fn start_crowd(&self, count: usize, network: Network) -> Result<()> {
        let mode = match network {
            Network::None => ", networkMode: none",
            Network::Bridge => "",
        };
        let mut manifests = String::new();
        for number in 0..count {
            // As the first process of a container it ignores other signals, and everybody else is told not to wait either.
            write!(
                manifests,
                "---\napiVersion: agent/v1\nkind: Container\nmetadata: {{name: bench-{number}}}\n\
                 spec: {{image: {IMAGE}, command: [sleep, \"3600\"], stopSignal: SIGKILL{mode}}}\n"
            )?;
        }
        fs::write(self.site().join("bench.yaml"), manifests)?;
        run(self.command(&["apply"]).arg(self.site())).map(drop)
    }

    /// Removes what the site made.
    pub fn remove_crowd(&self) -> Result<()> {
        run(self.command(&["destroy", "--yes"]).arg(self.site())).map(drop)
    }

    /// A plan that must find nothing to do.
    pub fn plan_unchanged(&self) -> Result<()> {
        run(self.command(&["plan"]).arg(self.site())).map(drop)
    }

    /// Removes the instance.
    pub fn destroy(self) -> Result<()> {
        run(&mut self.command(&["system", "reset", "--force"])).map(drop)
    }

    fn site(&self) -> PathBuf {
        self.directory.join("site")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("AGENT_STATE_DIR", self.directory.join("state")).env("AGENT_RUN_DIR", &self.run);
        command.env("AGENT_CONFIG_DIR", self.directory.join("config")).args(arguments);
        command
    }
}

/// Memory of a watch over so many containers, in KiB, after `settle`.
pub fn watch(ground: &Ground, count: usize, settle: impl FnOnce()) -> Result<f64> {
    let agent = Agent::new(ground, "watch")?;
    agent.start_crowd(count, Network::Bridge)?;
    let mut watch = agent.command(&["watch"]);
    let mut watch =
        watch.arg(agent.site()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("run agent watch")?;
    settle();
    let size = pss_kib(watch.id());
    run(Command::new("kill").arg(watch.id().to_string()))?;
    watch.wait()?;
    agent.remove_crowd()?;
    agent.destroy()?;
    size
}

impl Peer for Agent {
    fn name(&self) -> &'static str {
        "agent"
    }

    fn version(&self) -> String {
        version_of(&mut self.command(&["--version"]))
    }

    fn has(&self, _: Network) -> bool {
        true
    }

    fn run_true(&self, network: Network) -> Result<()> {
        let mut command = self.command(&["container", "run", "--rm"]);
        match network {
            Network::None => drop(command.args(["--network", "none"])),
            Network::Bridge => {}
        }
        run(command.args([IMAGE, "true"])).map(drop)
    }

    fn start(&mut self, count: usize, network: Network) -> Result<()> {
        self.start_crowd(count, network)
    }

    fn stop(&mut self, _: usize) -> Result<()> {
        self.remove_crowd()
    }

    fn monitor(&self) -> Option<&'static str> {
        Some("container-shim")
    }

    fn image(&self, step: &ImageStep<'_>) -> Option<Command> {
        let mut command = self.command(&["image"]);
        match *step {
            ImageStep::Import { archive, reference } => command.args(["import", "--tag", reference]).arg(archive),
            ImageStep::Pull { reference } => command.args(["pull", reference]),
            ImageStep::Push { reference } => command.args(["push", reference]),
            ImageStep::Forget { reference } => command.args(["rm", reference]),
            ImageStep::Build { context, reference, cache } => {
                let caching: &[&str] = if cache { &[] } else { &["--no-cache"] };
                command.args(["build", "--tag", reference]).args(caching).arg(context)
            }
        };
        Some(command)
    }

    fn end(self: Box<Self>) -> Result<()> {
        self.destroy()
    }
}
