//! Git over the `ssh` program: the user's own configuration, keys, agents and jump hosts work, and no second implementation of
//! ssh is trusted. Never asks anything: no password, no host key question.

use super::metered::{ADVERTISEMENT_BYTES_MAX, CONNECT_TIME, Metered, PACK_BYTES_MAX, explain};
use super::packet;
use super::upload_pack::{Advertisement, read_advertisement};
use crate::source::FetchError;
use crate::source::address::{Access, GitAddress};
use crate::source::time_limit::TimeLimit;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::{self, Read, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

/// How much of what ssh says is kept for the error.
const COMPLAINT_BYTES_MAX: u64 = 8 * 1024;

/// The part of an address that is about ssh.
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    pub(super) user: Option<&'a str>,
}

/// A server that has told what it has.
pub(super) struct Session {
    process: Process,
    input: ChildStdin,
    output: ChildStdout,
    repository: String,
    limit: TimeLimit,
}

/// The running `ssh`, killed when its time is over or when this value goes.
struct Process {
    child: Child,
    complaint: Option<JoinHandle<String>>,
    /// Its end tells the watchdog that it is no longer needed.
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Asks a server what it has.
pub(super) fn connect(
    address: &GitAddress,
    server: &Server<'_>,
    access: &Access,
    limit: TimeLimit,
) -> Result<(Advertisement, Session), FetchError> {
    let repository = address.to_string();
    let mut command = command(&address.path, server, access);
    let mut child = command.spawn().map_err(FetchError::local("run", "ssh"))?;
    let (Some(input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        unreachable!("stdin and stdout were asked for as pipes");
    };
    let mut process = Process::watch(child, limit).map_err(FetchError::local("watch over", "ssh"))?;
    match read_advertisement(&mut Metered::new(&mut output, ADVERTISEMENT_BYTES_MAX, limit)) {
        Ok(advertisement) => Ok((advertisement, Session { process, input, output, repository, limit })),
        Err(error) => {
            drop((input, output));
            let complaint = process.end();
            Err(classify(&complaint, server.host, &repository)
                .unwrap_or_else(|| timed_out(limit, explain(error, &repository, ADVERTISEMENT_BYTES_MAX, limit))))
        }
    }
}

impl Session {
    /// Wants nothing.
    pub(super) fn hang_up(mut self) {
        let mut nothing = Vec::new();
        packet::write_flush(&mut nothing);
        // Nobody waits for this; if it does not arrive, the other side notices the end of the stream.
        let _ = self.input.write_all(&nothing);
        drop((self.input, self.output));
        self.process.end();
    }

    /// Sends a request and returns the stream of the answer.
    pub(super) fn send(mut self, body: &[u8]) -> Result<Box<dyn Read>, FetchError> {
        let sent = self.input.write_all(body).and_then(|()| self.input.flush());
        sent.map_err(|source| FetchError::Unreachable { repository: self.repository.clone(), source: source.into() })?;
        let limit = self.limit;
        Ok(Box::new(Metered::new(Answer { output: self.output, _input: self.input, _process: self.process }, PACK_BYTES_MAX, limit)))
    }
}

/// The answer's stream; the process lives as long as it is read.
struct Answer {
    output: ChildStdout,
    _input: ChildStdin,
    _process: Process,
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

fn command(path: &str, server: &Server<'_>, access: &Access) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-T", "-x", "-a"]);
    let connect_time = format!("ConnectTimeout={}", CONNECT_TIME.as_secs());
    let settings = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ClearAllForwardings=yes", "PermitLocalCommand=no"];
    let alive = ["ServerAliveInterval=15", "ServerAliveCountMax=3", connect_time.as_str()];
    for setting in settings.iter().chain(&alive) {
        command.args(["-o", setting]);
    }
    if let Some(key) = &access.ssh_key {
        command.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(key);
    }
    if let Some(known_hosts) = &access.known_hosts {
        command.args(["-o", "GlobalKnownHostsFile=/dev/null", "-o"]).arg(format!("UserKnownHostsFile=\"{}\"", known_hosts.display()));
    }
    if let Some(port) = server.port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = server.user {
        command.args(["-l", user]);
    }
    command.args(["--", server.host]).arg(format!("git-upload-pack {}", quoted(path)));
    command.env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A path as one word of the remote shell; `~` and `~user` at its beginning stay theirs to expand.
fn quoted(path: &str) -> String {
    let home = if path.starts_with('~') { path.find('/').unwrap_or(path.len()) } else { 0 };
    let (home, rest) = path.split_at(home);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '~' | '_' | '-' | '.');
    if !home.chars().all(plain) {
        return format!("'{}'", path.replace('\'', r"'\''"));
    }
    format!("{home}'{}'", rest.replace('\'', r"'\''"))
}

impl Process {
    fn watch(mut child: Child, limit: TimeLimit) -> io::Result<Self> {
        let complaint = child.stderr.take().map(|mut stream| {
            thread::spawn(move || {
                let mut text = Vec::new();
                // What does not fit is read and dropped, so that ssh never blocks on it.
                let _ = (&mut stream).take(COMPLAINT_BYTES_MAX).read_to_end(&mut text);
                let _ = io::copy(&mut stream, &mut io::sink());
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(errno.into());
            }
        };
        let (sender, receiver) = mpsc::channel::<()>();
        let handle = thread::spawn(move || {
            if receiver.recv_timeout(limit.left()) == Err(RecvTimeoutError::Timeout) {
                // It may just have ended by itself: then there is nothing to kill.
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        });
        Ok(Self { child, complaint, watchdog: Some((sender, handle)) })
    }

    /// Waits for the end of a process that has closed its output, and returns what it said.
    fn end(&mut self) -> String {
        let _ = self.child.wait();
        if let Some((sender, handle)) = self.watchdog.take() {
            drop(sender);
            let _ = handle.join();
        }
        self.complaint.take().and_then(|handle| handle.join().ok()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.watchdog.is_some() {
            let _ = self.child.kill();
            self.end();
        }
    }
}

fn timed_out(limit: TimeLimit, error: FetchError) -> FetchError {
    match error {
        FetchError::Protocol { repository, .. } if limit.is_over() => FetchError::TimedOut { repository, limit: limit.span },
        error => error,
    }
}

/// What ssh and the command behind it say when they give up (OpenSSH's sshconnect2.c, readconf.c; git's upload-pack and forges).
fn classify(complaint: &str, host: &str, repository: &str) -> Option<FetchError> {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| complaint.contains(phrase));
    let detail = last_line(complaint);
    let repository = repository.to_owned();
    if says(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known for"]) {
        return Some(FetchError::HostKey { host: host.to_owned(), detail });
    }
    if says(&["Permission denied (", "Too many authentication failures", "Load key \""]) {
        let remedy = "give a key that the host accepts, without a passphrase or through an agent: --ssh-key FILE".into();
        return Some(FetchError::Authentication { repository, detail, remedy });
    }
    if says(&["does not appear to be a git repository", "not found", "No such file", "not a git repository", "dubious ownership"]) {
        return Some(FetchError::NotARepository { repository, detail });
    }
    if says(&["Connection refused", "timed out", "Could not resolve", "No route to host", "unreachable", "Connection closed", "reset by"]) {
        return Some(FetchError::Unreachable { repository, source: detail.into() });
    }
    (!detail.is_empty()).then_some(FetchError::Protocol { repository, problem: detail })
}

/// The last line that says something: the ones before are banners, the boxed warning of a changed key, and so on.
fn last_line(complaint: &str) -> String {
    let generic =
        |line: &&str| !line.is_empty() && !line.starts_with("and the repository exists") && !line.starts_with("Please make sure you have");
    let line = complaint.lines().map(str::trim).rfind(generic).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word() {
        let cases = [("/srv/x.git", "'/srv/x.git'"), ("~ann/a b", "~ann'/a b'"), ("it's; rm", r"'it'\''s; rm'"), ("~$(x)/y", "'~$(x)/y'")];
        for (path, expected) in cases {
            assert_eq!(quoted(path), expected);
        }
    }

    #[test]
    fn complaints_are_told_apart() {
        let kind = |complaint: &str| match classify(complaint, "host", "ssh://host/x") {
            Some(FetchError::HostKey { .. }) => "host key",
            Some(FetchError::Authentication { .. }) => "authentication",
            Some(FetchError::NotARepository { .. }) => "not a repository",
            Some(FetchError::Unreachable { .. }) => "unreachable",
            Some(_) => "other",
            None => "none",
        };
        assert_eq!(kind("No ED25519 host key is known for [127.0.0.1]:2222\nHost key verification failed.\r\n"), "host key");
        assert_eq!(kind("git@host: Permission denied (publickey).\n"), "authentication");
        assert_eq!(kind("fatal: '/x' does not appear to be a git repository\n"), "not a repository");
        assert_eq!(kind("ssh: connect to host x port 22: Connection refused\n"), "unreachable");
        assert_eq!(kind("fatal: out of memory\n"), "other");
        assert_eq!(kind(""), "none");
    }
    #[test]
    fn a_process_that_hangs_is_killed_when_its_time_is_over() {
        let child = Command::new("sh").args(["-c", "echo stuck >&2; exec sleep 100"]).stderr(Stdio::piped()).spawn().unwrap();
        let begun = std::time::Instant::now();
        let mut process = Process::watch(child, TimeLimit::of(std::time::Duration::from_millis(200))).unwrap();
        assert_eq!(process.end(), "stuck\n");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }
}
