//! What tests ask a host: its containers, their processes, what a page says.

use crate::host::Host;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

/// The Dockerfile of nearly every test: a static busybox beside it, with all its names.
pub const DOCKERFILE: &str =
    "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENV PATH=/bin\n";
/// The image made from it.
pub const IMAGE: &str = "apiVersion: agent/v1\nkind: Image\nmetadata: {name: box}\nspec: {build: {context: ./box}}\n";

impl Host {
    /// A site with the image `box`, these documents (joined by `---`), and nothing else. Gives its directory.
    pub fn site(&self, name: &str, documents: &[&str]) -> Result<String> {
        self.busybox(&format!("{name}/box/busybox"))?;
        self.files(&[(&format!("{name}/box/Dockerfile"), DOCKERFILE)])?;
        self.manifests(name, documents)
    }

    /// Writes the manifests of a site anew. Gives its directory.
    pub fn manifests(&self, name: &str, documents: &[&str]) -> Result<String> {
        let text: Vec<String> =
            std::iter::once(IMAGE.to_owned()).chain(documents.iter().map(|it| format!("apiVersion: agent/v1\n{it}\n"))).collect();
        let directory = self.files(&[(&format!("{name}/site.yaml"), &text.join("---\n"))])?;
        Ok(directory.display().to_string())
    }

    /// The JSON lines `agent` prints.
    pub fn json(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let ran = self.agent(&[arguments, &["--json"]].concat());
        if ran.code == 1 {
            bail!("agent {}: {}{}", arguments.join(" "), ran.stdout, ran.stderr);
        }
        lines_of_json(&ran.stdout)
    }

    /// Everything about one container.
    pub fn inspect(&self, name: &str) -> Result<Value> {
        let documents: Value = serde_json::from_str(&self.agent(&["container", "inspect", name]).ok()?)?;
        Ok(documents[0].clone())
    }

    /// The first process of a running container.
    pub fn pid(&self, name: &str) -> Result<i64> {
        let found = self.inspect(name)?;
        found["state"]["phase"]["process"]["pid"].as_i64().with_context(|| format!("{name} runs: {}", found["state"]["phase"]))
    }

    /// The ids of all containers, running or not.
    pub fn container_ids(&self) -> Result<Vec<String>> {
        Ok(self.agent(&["container", "ps", "--all", "--quiet"]).ok()?.lines().map(str::to_owned).collect())
    }

    /// What a container wrote.
    pub fn logs(&self, name: &str) -> Result<String> {
        let ran = self.agent(&["container", "logs", name]);
        Ok(format!("{}{}", ran.stderr.clone(), ran.ok()?))
    }

    /// The page at an address such as `127.0.0.1:8080/`, as the host itself sees it.
    pub fn page(&self, address: &str) -> Result<String> {
        self.run("curl", &["--silent", "--show-error", "--fail", "--max-time", "5", &format!("http://{address}")]).ok()
    }

    /// A client that asks for a page again and again, each time on a new connection, until it is told to end.
    pub fn visitor(&self, address: &str) -> Result<Visitor> {
        let url = format!("http://{address}?[1-1000000]");
        let mut command = self.command("curl");
        command.args(["--silent", "--max-time", "5", "--no-keepalive", "--rate", "200/s", "--output", "/dev/null"]);
        // A failed connection is no exit but a line with the code 000. Lines for standard output would be lost in its buffer.
        let mut child = command
            .args(["--write-out", "%{stderr}%{http_code} %{errormsg}\\n", &url])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("its output is piped")?;
        let reader = std::thread::spawn(move || BufReader::new(stderr).lines().map_while(|line| line.ok()).collect());
        Ok(Visitor { child, reader: Some(reader) })
    }
}

/// Each line of a text as JSON.
pub fn lines_of_json(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("a line of JSON: {line}"))).collect()
}

/// A client in the background.
pub struct Visitor {
    child: Child,
    reader: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Visitor {
    /// Ends it. Gives how many answers it had, and those that were none.
    pub fn end(mut self) -> Result<(usize, Vec<String>)> {
        self.child.kill()?;
        self.child.wait()?;
        let reader = self.reader.take().context("it is ended once")?;
        let answers: Vec<String> = reader.join().map_err(|_| anyhow::anyhow!("the reader ended unexpectedly"))?;
        let failed = answers.iter().filter(|line| !line.starts_with("200")).cloned().collect();
        Ok((answers.len(), failed))
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
