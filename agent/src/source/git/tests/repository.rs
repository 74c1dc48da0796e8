//! A real repository made with the git program, and what serves it on loopback.

use crate::source::{Checkout, FetchError, Source, SourceOptions, SourceSpec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A bare repository `site.git`, a clone to push from, and a state directory, all of which go with it.
pub(super) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// With one commit on `main` that has `web.yaml`.
    pub(super) fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        git(place.path(), &["init", "-q", "--bare", "-b", "main", "site.git"]);
        git(place.path(), &["init", "-q", "-b", "main", "work"]);
        git(&place.work(), &["remote", "add", "origin", "../site.git"]);
        place.push(&[("web.yaml", "one")], "first");
        place
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    pub(super) fn bare(&self) -> PathBuf {
        self.path().join("site.git")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Commits these files and pushes them.
    pub(super) fn push(&self, files: &[(&str, &str)], message: &str) {
        for (name, text) in files {
            let path = self.work().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.commit(message);
        git(&self.work(), &["push", "-q", "origin", "HEAD:main"]);
    }

    pub(super) fn commit(&self, message: &str) {
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "--allow-empty", "-m", message]);
    }

    pub(super) fn file_url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// The only home of a source below the state directory.
    pub(super) fn home(&self) -> PathBuf {
        fs::read_dir(self.state().join("sources")).unwrap().next().unwrap().unwrap().path()
    }
}

/// Runs git away from the user's configuration, and gives its output.
pub(super) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "gc.auto=0"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(super) fn source(place: &Place, url: &str, options: SourceOptions) -> Source {
    Source::open(SourceSpec::parse(url, options).unwrap(), &place.state()).unwrap()
}

pub(super) fn read(checkout: &Checkout, path: &str) -> String {
    fs::read_to_string(checkout.root.join(path)).unwrap()
}

/// The whole chain of an error.
pub(super) fn told(error: &FetchError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// What the HTTP server does besides serving.
#[derive(Default)]
pub(super) struct Habits {
    /// Wants `Basic` with this user and password.
    pub(super) password: Option<(&'static str, &'static str)>,
    /// Sends paths below `/moved` to the real place.
    pub(super) redirects: bool,
    /// Answers everything with this page.
    pub(super) page: Option<&'static str>,
    /// Cuts answers off after so many bytes.
    pub(super) cut_after: Option<usize>,
    /// Speaks TLS.
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
}

/// `git http-backend` behind a server that knows just enough HTTP.
pub(super) struct HttpServer {
    pub(super) port: u16,
    /// Bytes sent so far.
    pub(super) sent: Arc<AtomicU64>,
    tls: bool,
}

impl HttpServer {
    pub(super) fn start(root: &Path, habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (root, sent, habits) = (root.to_owned(), Arc::new(AtomicU64::new(0)), Arc::new(habits));
        let (counter, tls) = (sent.clone(), habits.tls.is_some());
        // It ends with the test process: nothing but this loop holds it.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, habits, counter) = (root.clone(), habits.clone(), counter.clone());
                thread::spawn(move || match habits.tls.clone() {
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), &root, &habits, &counter);
                    }
                    None => serve(stream, &root, &habits, &counter),
                });
            }
        });
        Self { port, sent, tls }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/site.git", if self.tls { "https" } else { "http" }, self.port)
    }
}

fn serve(mut stream: impl Read + Write, root: &Path, habits: &Habits, sent: &AtomicU64) {
    let Some(answer) = answer(&mut stream, root, habits) else { return };
    let cut = habits.cut_after.unwrap_or(usize::MAX).min(answer.len());
    sent.fetch_add(cut as u64, Ordering::Relaxed);
    let _ = stream.write_all(&answer[..cut]).and_then(|()| stream.flush());
}

/// `None` if the other side has gone away, for want of trust say.
fn answer(stream: &mut impl Read, root: &Path, habits: &Habits) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, target) = line.trim().trim_end_matches(" HTTP/1.1").split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let (mut length, mut kind, mut authorization) = (0, String::new(), String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "content-type" => kind = value.trim().to_owned(),
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if let Some(page) = habits.page {
        return Some(format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n{page}").into_bytes());
    }
    let wanted = habits.password.map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
    if wanted.is_some_and(|wanted| wanted != authorization) {
        let refused = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return Some(refused.as_bytes().to_vec());
    }
    if let Some(rest) = target.strip_prefix("/moved").filter(|_| habits.redirects) {
        return Some(format!("HTTP/1.1 301 Moved\r\nLocation: {rest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes());
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("REQUEST_METHOD", method.as_str()), ("PATH_INFO", path), ("QUERY_STRING", query), ("CONTENT_TYPE", &kind)])
        .env("CONTENT_LENGTH", length.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    let output = backend.wait_with_output().unwrap().stdout;
    let text = String::from_utf8_lossy(&output);
    let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    Some([format!("HTTP/1.1 {status}\r\nConnection: close\r\n").as_bytes(), &output].concat())
}

/// An sshd of our own on loopback, with its own keys. Killed when dropped.
pub(super) struct SshServer {
    child: Child,
    pub(super) port: u16,
    directory: PathBuf,
}

impl SshServer {
    /// `None`, loudly, where there is no sshd.
    pub(super) fn start(place: &Place) -> Option<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let Some(sshd) = sshd.filter(|_| rustix::process::geteuid().is_root()) else {
            eprintln!("SKIPPED: no sshd, or not root; nothing about ssh was tested");
            return None;
        };
        let directory = place.path().join("ssh");
        fs::create_dir(&directory).unwrap();
        for key in ["host", "user", "stranger"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.join(key)).status().unwrap();
            assert!(made.success());
        }
        fs::copy(directory.join("user.pub"), directory.join("authorized")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let here = directory.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {here}/host\nAuthorizedKeysFile {here}/authorized\nStrictModes no\n\
             UsePAM no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        );
        fs::write(directory.join("config"), config).unwrap();
        let host_key = fs::read_to_string(directory.join("host.pub")).unwrap();
        fs::write(directory.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        // sshd wants /run/sshd: it gets one in a mount namespace of its own, and the host keeps its /run as it is.
        let script = format!("mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec {sshd} -D -e -f {here}/config");
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, directory };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("sshd does not listen on port {port}");
    }

    pub(super) fn url(&self, place: &Place) -> String {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, place.bare().display())
    }

    /// Options with a key that is accepted and a host that is known.
    pub(super) fn options(&self) -> SourceOptions {
        SourceOptions { ssh_key: Some(self.file("user")), known_hosts: Some(self.file("known_hosts")), ..SourceOptions::default() }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
