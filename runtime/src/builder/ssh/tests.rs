//! Asked by OpenSSH's own client.

use super::*;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Whether OpenSSH is here; says so loudly where it is not.
fn is_possible() -> bool {
    let found = ["ssh-keygen", "ssh-add", "ssh-agent"].iter().all(|program| Command::new(program).arg("-?").output().is_ok());
    if !found {
        eprintln!("SKIPPED: ssh agents, without OpenSSH");
    }
    found
}

fn generate(directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-C", name, "-f"]).arg(&path).args(arguments).status().unwrap();
    assert!(made.success());
    path
}

fn ssh_add(socket: &Path, arguments: &[&str]) -> Output {
    Command::new("ssh-add").env("SSH_AUTH_SOCK", socket).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Has something signed with the private half of a key, as Git has commits, and looks at the signature.
fn sign_and_verify(socket: &Path, public: &Path) {
    let data = public.with_extension("data");
    std::fs::write(&data, "signed").unwrap();
    let run = |command: &mut Command| {
        let output = command.env("SSH_AUTH_SOCK", socket).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", public.display());
    };
    run(Command::new("ssh-keygen").args(["-Y", "sign", "-n", "test", "-U", "-f"]).arg(public).arg(&data));
    let signature = public.with_extension("data.sig");
    let mut check = Command::new("ssh-keygen");
    check.args(["-Y", "check-novalidate", "-n", "test", "-s"]).arg(signature).stdin(std::fs::File::open(&data).unwrap());
    run(&mut check);
}

/// An agent of OpenSSH, ended when dropped.
struct OpenSsh(Child);

impl Drop for OpenSsh {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn listed(socket: &Path) -> String {
    String::from_utf8(ssh_add(socket, &["-L"]).stdout).unwrap()
}

#[test]
fn keys_of_every_kind_sign_and_are_not_seen() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let kinds: [(&str, &[&str]); 5] = [
        ("ed25519", &["-t", "ed25519", "-N", ""]),
        ("p256", &["-t", "ecdsa", "-b", "256", "-N", ""]),
        ("p384", &["-t", "ecdsa", "-b", "384", "-N", ""]),
        ("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]),
        ("rsa-odd", &["-t", "rsa", "-b", "3000", "-N", ""]),
    ];
    let paths: Vec<PathBuf> = kinds.iter().map(|(name, arguments)| generate(directory.path(), name, arguments)).collect();
    let read = |path: &PathBuf| PrivateKey::parse(&std::fs::read_to_string(path).unwrap());
    let keys: Vec<_> = paths[..4].iter().map(|path| read(path).unwrap()).collect();
    assert_eq!(read(&paths[4]).err(), Some(KeyError::Broken), "of a length that is no multiple of eight bits and half as long a prime");
    assert_eq!(format!("{keys:?}"), "[***, ***, ***, ***]");
    let socket = Socket::open(directory.path(), "agent", SshAgent::Keys(keys), (0o600, 0, 0)).unwrap();
    for path in &paths[..4] {
        let public = path.with_extension("pub");
        assert!(listed(socket.path()).contains(std::fs::read_to_string(&public).unwrap().trim()));
        sign_and_verify(socket.path(), &public);
    }
    for refused in [&["-D"][..], &["-X"], &[paths[0].to_str().unwrap()]] {
        assert!(!ssh_add(socket.path(), refused).status.success(), "{refused:?}");
    }
    assert_eq!(listed(socket.path()).lines().count(), 4);
    let gone = socket.path().to_owned();
    drop(socket);
    assert!(!gone.exists());
    let locked = generate(directory.path(), "locked", &["-t", "ed25519", "-N", "secret"]);
    assert_eq!(read(&locked).err(), Some(KeyError::Passphrase));
    let other = generate(directory.path(), "p521", &["-t", "ecdsa", "-b", "521", "-N", ""]);
    assert_eq!(read(&other).err(), Some(KeyError::Kind("ecdsa-sha2-nistp521".to_owned())));
}

#[test]
fn the_hosts_agent_is_asked_and_never_changed() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let key = generate(directory.path(), "key", &["-t", "ed25519", "-N", ""]);
    let path = directory.path().join("openssh");
    let _agent = OpenSsh(Command::new("ssh-agent").args(["-D", "-a"]).arg(&path).stdout(Stdio::null()).spawn().unwrap());
    while !std::fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(ssh_add(&path, &[key.to_str().unwrap()]).status.success());
    let socket = Socket::open(directory.path(), "relay", SshAgent::Socket(path.clone()), (0o600, 0, 0)).unwrap();
    assert_eq!(listed(socket.path()), listed(&path));
    let public = key.with_extension("pub");
    assert!(ssh_add(socket.path(), &["-T", public.to_str().unwrap()]).status.success());
    for refused in [&["-D"][..], &["-x"], &["-d", public.to_str().unwrap()], &[key.to_str().unwrap()]] {
        assert!(!ssh_add(socket.path(), refused).status.success(), "{refused:?}");
    }
    assert_eq!(listed(&path).lines().count(), 1);
}
