//! A bare Git repository, a clone to push from, and `git http-backend` in front of it.

use crate::host::{Host, Running};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `site.git` of a host, and `work` beside it.
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// Both of them, empty.
    pub fn new(host: &Host) -> Result<Self> {
        let root = host.path().join("git");
        fs::create_dir(&root)?;
        let repository = Self { root };
        git(&repository.root, &["init", "-q", "--bare", "-b", "main", "site.git"])?;
        git(&repository.root, &["init", "-q", "-b", "main", "work"])?;
        git(&repository.work(), &["remote", "add", "origin", "../site.git"])?;
        Ok(repository)
    }

    /// The clone: write here, then [`Self::push`].
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Writes a file of the clone.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().context("a file has a parent")?)?;
        Ok(fs::write(path, text)?)
    }

    /// Commits everything and pushes it.
    pub fn push(&self, message: &str) -> Result<()> {
        git(&self.work(), &["add", "-A"])?;
        git(&self.work(), &["commit", "-q", "-m", message])?;
        git(&self.work(), &["push", "-q", "origin", "HEAD:main"])
    }

    /// Serves it on this port of the host's loopback, over HTTP, until dropped; and its address.
    pub fn serve(&self, host: &Host, port: u16) -> Result<(Running, String)> {
        let script = self.root.join("cgi-bin/git");
        let backend = format!(
            "#!/bin/sh\nexport GIT_PROJECT_ROOT='{}' GIT_HTTP_EXPORT_ALL=1 GIT_CONFIG_GLOBAL=/dev/null\nexec git http-backend\n",
            self.root.display()
        );
        fs::create_dir(self.root.join("cgi-bin"))?;
        fs::write(&script, backend)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let address = format!("127.0.0.1:{port}");
        let home = self.root.display().to_string();
        let server = host.spawn("busybox", &["httpd", "-f", "-p", &address, "-h", &home])?;
        Ok((server, format!("http://{address}/cgi-bin/git/site.git")))
    }
}

/// Runs git away from the user's configuration.
fn git(directory: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "gc.auto=0", "-c", "core.compression=0"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .context("run git")?;
    if !output.status.success() {
        bail!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
