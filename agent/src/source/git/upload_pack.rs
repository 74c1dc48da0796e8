//! The fetching half of the Git protocol, version 0, which every server speaks: what a server advertises, how one commit is
//! asked for, and the pack it answers with (gitprotocol-pack(5)). Knows nothing of the transport below.

use super::packet::{self, Packet, malformed};
use crate::source::CommitId;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// References a server may have. Each costs us some 100 bytes while the advertisement is read.
const REFERENCES_MAX: usize = 500_000;
/// What may come before the first byte of the pack: shallow lines and acknowledgements.
const PREAMBLE_PACKETS_MAX: usize = 10_000;

/// What a server says it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Advertisement {
    /// Branches without `refs/heads/`.
    pub(super) branches: BTreeMap<String, CommitId>,
    /// Tags without `refs/tags/`, by the commit they stand for.
    pub(super) tags: BTreeMap<String, CommitId>,
    /// The branch HEAD points to.
    pub(super) default_branch: Option<String>,
    /// Whether a commit may be asked for without its history.
    pub(super) shallow: bool,
}

/// Reads a server's advertisement. `InvalidData` carries what a server that refuses has to say.
pub(super) fn read_advertisement(reader: &mut impl Read) -> io::Result<Advertisement> {
    let mut found = Advertisement::default();
    let mut head = None;
    let mut first = true;
    for _ in 0..REFERENCES_MAX {
        let Packet::Data(data) = packet::read(reader)? else {
            if found.default_branch.is_none() {
                // A server too old for the symref capability: the branch that is where HEAD is.
                found.default_branch = head.and_then(|id| found.branches.iter().find(|(_, tip)| **tip == id).map(|(name, _)| name.clone()));
            }
            return Ok(found);
        };
        let (line, capabilities) = match data.split(|b| *b == 0).collect::<Vec<_>>()[..] {
            [line, capabilities] if first => (packet::text(line), packet::text(capabilities)),
            _ => (packet::text(&data), String::new()),
        };
        if let Some(problem) = line.strip_prefix("ERR ") {
            return Err(malformed(problem.trim().to_owned()));
        }
        if line.starts_with("version 1") || line.starts_with("shallow ") {
            continue;
        }
        if first {
            first = false;
            read_capabilities(&capabilities, &mut found)?;
        }
        let Some((id, name)) = line.split_once(' ') else { return Err(malformed(format!("{line:?} where a reference should be"))) };
        if name == "capabilities^{}" {
            continue;
        }
        let id: CommitId = id.parse().map_err(malformed)?;
        if name == "HEAD" {
            head = Some(id);
        } else if let Some(branch) = name.strip_prefix("refs/heads/") {
            found.branches.insert(branch.to_owned(), id);
        } else if let Some(tag) = name.strip_prefix("refs/tags/") {
            // An annotated tag is followed by what it is on, which then stands in its place.
            found.tags.insert(tag.strip_suffix("^{}").unwrap_or(tag).to_owned(), id);
        }
    }
    Err(malformed(format!("more than {REFERENCES_MAX} references")))
}

fn read_capabilities(text: &str, found: &mut Advertisement) -> io::Result<()> {
    let mut side_band = false;
    for capability in text.split_ascii_whitespace() {
        match capability.split_once('=') {
            Some(("symref", value)) => {
                if let Some(branch) = value.strip_prefix("HEAD:refs/heads/") {
                    found.default_branch = Some(branch.to_owned());
                }
            }
            Some(("object-format", format)) if format != "sha1" => {
                return Err(malformed(format!("it is a {format} repository; only sha1 is supported")));
            }
            Some(_) => {}
            None => {
                found.shallow |= capability == "shallow";
                side_band |= capability == "side-band-64k";
            }
        }
    }
    if side_band { Ok(()) } else { Err(malformed("it lacks the side-band-64k capability".to_owned())) }
}

/// The request for one commit, without its history where the server can, and without what `have` and its tree hold.
///
/// It is complete: negotiation ends with it, so that it is the same over HTTP and over a stream. Only for a `thin-pack` does a server
/// look at the files of a commit that is not an ancestor, and without history none is (`--objects-edge-aggressive` of git's
/// pack-objects); the writer of the pack adds the bases it leaves out.
pub(super) fn request(want: &CommitId, have: Option<&CommitId>, shallow: bool) -> Vec<u8> {
    let mut request = Vec::new();
    let agent = concat!("agent=host-agent/", env!("CARGO_PKG_VERSION"));
    let thin = if have.is_some() { " thin-pack" } else { "" };
    packet::write_line(&mut request, &format!("want {want} side-band-64k ofs-delta no-progress{thin} {agent}"));
    if shallow {
        if let Some(have) = have {
            packet::write_line(&mut request, &format!("shallow {have}"));
        }
        packet::write_line(&mut request, "deepen 1");
    }
    packet::write_flush(&mut request);
    if let Some(have) = have {
        packet::write_line(&mut request, &format!("have {have}"));
    }
    packet::write_line(&mut request, "done");
    request
}

/// The bytes of the pack in a server's answer, out of their side band.
pub(super) struct Pack<R> {
    reader: R,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Pack<R> {
    /// Reads an answer up to the pack.
    pub(super) fn begin(mut reader: R) -> io::Result<Self> {
        for _ in 0..PREAMBLE_PACKETS_MAX {
            let Packet::Data(data) = packet::read(&mut reader)? else { continue };
            let line = packet::text(&data);
            if let Some(problem) = line.strip_prefix("ERR ") {
                return Err(malformed(problem.trim().to_owned()));
            }
            if line.starts_with("shallow ") || line.starts_with("unshallow ") {
                continue;
            }
            if line == "NAK" || line.starts_with("ACK ") {
                return Ok(Self { reader, piece: Vec::new(), at: 0, ended: false });
            }
            return Err(malformed(format!("{:?} where the pack should begin", line.chars().take(80).collect::<String>())));
        }
        Err(malformed("no pack begins".to_owned()))
    }

    /// The next piece of the pack into `self.piece`; empty at the end.
    fn next_piece(&mut self) -> io::Result<()> {
        loop {
            let Packet::Data(data) = packet::read(&mut self.reader)? else {
                self.ended = true;
                return Ok(());
            };
            match data.split_first() {
                Some((1, _)) => {
                    (self.piece, self.at) = (data, 1);
                    return Ok(());
                }
                Some((2, _)) => {} // progress, for a terminal
                Some((3, problem)) => return Err(malformed(packet::text(problem))),
                // A second acknowledgement may follow the first one when the server had more than one common commit.
                _ if data.starts_with(b"ACK ") || data.starts_with(b"NAK") => {}
                _ => return Err(malformed("an unknown side band".to_owned())),
            }
        }
    }
}

impl<R: Read> Read for Pack<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.piece.len() && !self.ended {
            (self.piece, self.at) = (Vec::new(), 0);
            self.next_piece()?;
        }
        let rest = &self.piece[self.at.min(self.piece.len())..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn advertised(lines: &[&str]) -> io::Result<Advertisement> {
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| packet::write_line(&mut bytes, line));
        packet::write_flush(&mut bytes);
        read_advertisement(&mut bytes.as_slice())
    }

    #[test]
    fn branches_and_the_default_one_are_found() {
        let found = advertised(&[
            &format!("{A} HEAD\0multi_ack side-band-64k shallow symref=HEAD:refs/heads/main"),
            &format!("{A} refs/heads/main"),
            &format!("{B} refs/heads/next"),
            &format!("{B} refs/tags/v1"),
        ])
        .unwrap();
        assert_eq!(found.branches.keys().collect::<Vec<_>>(), ["main", "next"]);
        assert_eq!(found.default_branch.as_deref(), Some("main"));
        assert!(found.shallow);
    }

    #[test]
    fn an_old_server_tells_the_default_branch_by_its_commit() {
        let found = advertised(&[&format!("{A} HEAD\0side-band-64k"), &format!("{B} refs/heads/a"), &format!("{A} refs/heads/b")]).unwrap();
        assert_eq!(found.default_branch.as_deref(), Some("b"));
        assert!(!found.shallow);
    }

    #[test]
    fn an_empty_repository_has_nothing() {
        let found = advertised(&[&format!("{} capabilities^{{}}\0side-band-64k", "0".repeat(40))]).unwrap();
        assert_eq!(found, Advertisement::default());
    }

    #[test]
    fn refusals_are_quoted() {
        let problem = |lines: &[&str]| advertised(lines).unwrap_err().to_string();
        assert_eq!(problem(&["ERR access denied"]), "access denied");
        assert_eq!(
            problem(&[&format!("{A} HEAD\0side-band-64k object-format=sha256")]),
            "it is a sha256 repository; only sha1 is supported"
        );
        assert_eq!(problem(&["../../x refs/heads/main\0side-band-64k"]).split(" is not").next(), Some("\"../../x\""));
    }

    #[test]
    fn a_pack_comes_out_of_its_band() {
        let mut answer = Vec::new();
        packet::write_line(&mut answer, &format!("shallow {A}"));
        packet::write_flush(&mut answer);
        packet::write_line(&mut answer, "NAK");
        answer.extend_from_slice(b"0009\x01PACK0009\x02note0006\x01!0000");
        let mut pack = Vec::new();
        Pack::begin(answer.as_slice()).unwrap().read_to_end(&mut pack).unwrap();
        assert_eq!(pack, b"PACK!");
    }

    #[test]
    fn an_error_in_the_band_is_an_error() {
        let answer = b"0008NAK\n000b\x03broken0000";
        assert_eq!(Pack::begin(&answer[..]).unwrap().read(&mut [0; 8]).unwrap_err().to_string(), "broken");
        let cut = b"0008NAK\n0009\x01PACK";
        let mut pack = Vec::new();
        assert!(Pack::begin(&cut[..]).unwrap().read_to_end(&mut pack).is_err(), "a cut stream is not a whole pack");
    }
}
