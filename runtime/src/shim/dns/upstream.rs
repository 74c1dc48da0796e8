//! The nameservers of the host, from its `resolv.conf`, read again when it changes.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// As many as resolv.conf(5) lets a resolver use.
const SERVERS_MAX: usize = 3;
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The host's nameservers.
#[derive(Debug)]
pub struct Upstream {
    path: PathBuf,
    seen: Option<(u64, i64, i64)>,
    servers: Vec<SocketAddr>,
}

impl Upstream {
    /// Those this file names.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, servers: Vec::new() }
    }

    /// The n-th to try, if there are so many.
    pub fn server(&mut self, attempt: usize) -> Option<SocketAddr> {
        if let Ok(metadata) = std::fs::metadata(&self.path) {
            let seen = Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
            if seen != self.seen {
                let mut text = String::new();
                let read = File::open(&self.path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
                if read.is_ok() {
                    self.servers = parse(&text);
                    self.seen = seen;
                }
            }
        }
        self.servers.get(attempt).copied()
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A zone (fe80::1%eth0) needs an interface index; such servers are left out.
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, 53))
    };
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_taken_in_order() {
        let text = "# x\nsearch a.b\nnameserver 127.0.0.53\n nameserver ::1\nnameserver nonsense\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n";
        let servers: Vec<_> = parse(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["127.0.0.53:53", "[::1]:53", "1.1.1.1:53"]);
    }
}
