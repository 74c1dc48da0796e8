//! A registry on loopback: Debian's `docker-registry`, which all peers pull from and push to.

use crate::ground::{Ground, run};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Its address, in the network namespace of the run.
pub const ADDRESS: &str = "127.0.0.1:5000";

/// How long it may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running registry.
pub struct Registry {
    directory: PathBuf,
    process: Child,
}

impl Registry {
    /// Starts it with an empty store.
    pub fn start(ground: &Ground) -> Result<Self> {
        let directory = ground.path("registry");
        fs::create_dir_all(&directory)?;
        let settings = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {ADDRESS}}}\n",
            directory.join("store").display()
        );
        fs::write(directory.join("settings.yml"), settings)?;
        let process = Self::spawn(&directory)?;
        Ok(Self { directory, process })
    }

    fn spawn(directory: &std::path::Path) -> Result<Child> {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(directory.join("settings.yml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().context("run docker-registry")?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(ADDRESS).is_err() {
            if Instant::now() > deadline || process.try_wait()?.is_some() {
                bail!("docker-registry does not answer on {ADDRESS}");
            }
            sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// Lets it forget everything, for a push into an empty registry.
    pub fn empty(&mut self) -> Result<()> {
        self.stop()?;
        fs::remove_dir_all(self.directory.join("store")).or_else(absent)?;
        self.process = Self::spawn(&self.directory)?;
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_none() {
            run(Command::new("kill").arg(self.process.id().to_string()))?;
            self.process.wait()?;
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("docker-registry: {error:#}");
        }
    }
}

fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
