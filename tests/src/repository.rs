//! A bare repository made with the git program, a clone to push from, and real servers for it inside a host's network namespace.

use crate::host::Host;
use crate::view::within;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// `site.git` and `work` in a host's directory.
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// Makes both; the clone is empty and on `main`.
    pub fn new(host: &Host) -> Result<Self> {
        let repository = Self { root: host.path().join("git") };
        fs::create_dir_all(&repository.root)?;
        git(&repository.root, &["init", "-q", "--bare", "-b", "main", "site.git"])?;
        git(&repository.root, &["init", "-q", "-b", "main", "work"])?;
        git(&repository.work(), &["remote", "add", "origin", "../site.git"])?;
        Ok(repository)
    }

    /// Whether there is a git program; says so loudly where there is none.
    pub fn is_possible(test: &str) -> bool {
        let possible = Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success());
        if !possible {
            eprintln!("SKIPPED {test}: it needs git");
        }
        possible
    }

    /// The clone, relative to the host's directory.
    pub const WORK: &str = "git/work";

    /// The clone.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The bare repository.
    pub fn bare(&self) -> PathBuf {
        self.root.join("site.git")
    }

    /// As a URL on this machine.
    pub fn url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// Commits all there is in the clone and pushes it; the commit's id.
    pub fn push(&self, message: &str) -> Result<String> {
        self.push_to("main", message)
    }

    /// Commits and force-pushes to a branch; the commit's id.
    pub fn push_to(&self, branch: &str, message: &str) -> Result<String> {
        git(&self.work(), &["add", "-A"])?;
        git(&self.work(), &["commit", "-q", "--allow-empty", "-m", message])?;
        git(&self.work(), &["push", "-q", "--force", "origin", &format!("HEAD:{branch}")])?;
        git(&self.work(), &["rev-parse", "HEAD"])
    }

    /// Runs git in the clone.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        git(&self.work(), arguments)
    }
}

/// Runs git away from the user's configuration, and gives its output.
fn git(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "gc.auto=0"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .context("run git")?;
    if !output.status.success() {
        bail!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// `git http-backend` behind a server that knows just enough HTTP. Stopped when dropped.
pub struct HttpServer<'a> {
    host: &'a Host,
    /// Where it listens.
    pub port: u16,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<'a> HttpServer<'a> {
    /// Serves the directory of a repository, at any port.
    pub fn start(host: &'a Host, repository: &Repository) -> Result<Self> {
        Self::start_at(host, repository, 0)
    }

    /// Serves it at this port.
    pub fn start_at(host: &'a Host, repository: &Repository, port: u16) -> Result<Self> {
        let listener = within(host, || TcpListener::bind((Ipv4Addr::LOCALHOST, port)))??;
        let port = listener.local_addr()?.port();
        let (root, closing) = (repository.root.clone(), Arc::new(AtomicBool::new(false)));
        let closes = closing.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if closes.load(Ordering::Acquire) {
                    return;
                }
                // A client that goes away is no concern of the server.
                let _ = serve(stream, &root);
            }
        });
        Ok(Self { host, port, closing, thread: Some(thread) })
    }

    /// The repository's address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/site.git", self.port)
    }
}

impl Drop for HttpServer<'_> {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // Wakes it up; it may have ended already.
        let _ = within(self.host, || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut stream: TcpStream, root: &Path) -> Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let [method, target, _] = line.trim().split(' ').collect::<Vec<_>>()[..] else { bail!("request line {line:?}") };
    let (mut length, mut kind) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "content-type" => kind = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("REQUEST_METHOD", method), ("PATH_INFO", path), ("QUERY_STRING", query), ("CONTENT_TYPE", &kind)])
        .env("CONTENT_LENGTH", length.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    backend.stdin.take().context("its input is a pipe")?.write_all(&body)?;
    let output = backend.wait_with_output()?.stdout;
    let text = String::from_utf8_lossy(&output);
    let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n").as_bytes())?;
    Ok(stream.write_all(&output)?)
}

/// An sshd of our own with its own keys. Killed when dropped.
pub struct SshServer {
    child: Child,
    port: u16,
    directory: PathBuf,
    bare: PathBuf,
}

impl SshServer {
    /// `None`, loudly, where there is no sshd.
    pub fn start(host: &Host, repository: &Repository) -> Result<Option<Self>> {
        let Some(sshd) = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists()) else {
            eprintln!("SKIPPED: no sshd; nothing about ssh was tested");
            return Ok(None);
        };
        let directory = host.path().join("ssh");
        fs::create_dir(&directory)?;
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.join(key)).status()?;
            anyhow::ensure!(made.success(), "ssh-keygen");
        }
        fs::copy(directory.join("user.pub"), directory.join("authorized"))?;
        // Nobody else is in this namespace.
        let port = 2222;
        let here = directory.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {here}/host\nAuthorizedKeysFile {here}/authorized\nStrictModes no\n\
             UsePAM no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        );
        fs::write(directory.join("config"), config)?;
        let host_key = fs::read_to_string(directory.join("host.pub"))?;
        fs::write(directory.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}"))?;
        // sshd wants /run/sshd: it gets one in a mount namespace of its own, and the machine keeps its /run as it is.
        let script = format!("mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec {sshd} -D -e -f {here}/config");
        let mut command = host.command("unshare");
        let child = command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).stderr(Stdio::null()).spawn()?;
        let server = Self { child, port, directory, bare: repository.bare() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while within(host, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)))?.is_err() {
            anyhow::ensure!(Instant::now() < deadline, "sshd does not listen on port {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(server))
    }

    /// The arguments that name the repository, the key that is accepted and the host that is known.
    pub fn arguments(&self) -> Vec<String> {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let url = format!("ssh://root@127.0.0.1:{}{}", self.port, self.bare.display());
        vec![url, "--ssh-key".to_owned(), file("user"), "--known-hosts".to_owned(), file("known_hosts")]
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
