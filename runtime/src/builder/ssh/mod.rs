//! ssh agents for `RUN --mount=type=ssh`: a socket of the step's own, with its owner and mode, behind which an agent of the host or keys
//! read from files answer. A command can list keys and have something signed, as in BuildKit; it can neither add, remove or lock keys of
//! the host's agent, nor see a key.
//!
//! The protocol is draft-ietf-sshm-ssh-agent: a length of four bytes, a type, then strings of RFC 4251.

mod key;
mod socket;
mod wire;

pub use key::{KEY_BYTES_MAX, KeyError, PrivateKey};
pub(crate) use socket::Socket;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use wire::{Reader, Writer};

/// Longest message, as OpenSSH's agent has it.
const MESSAGE_BYTES_MAX: u32 = 256 << 10;

/// `SSH_AGENT_FAILURE`.
const FAILURE: u8 = 5;
/// `SSH_AGENTC_REQUEST_IDENTITIES` and its answer.
const LIST: u8 = 11;
const LISTED: u8 = 12;
/// `SSH_AGENTC_SIGN_REQUEST` and its answer.
const SIGN: u8 = 13;
const SIGNED: u8 = 14;

/// Who answers.
#[derive(Debug, Clone)]
pub enum SshAgent {
    /// The agent behind this socket of the host.
    Socket(PathBuf),
    /// These keys.
    Keys(Vec<PrivateKey>),
}

/// One connection to it.
enum Connection<'a> {
    Agent(UnixStream),
    Keys(&'a [PrivateKey]),
}

impl SshAgent {
    /// Answers a client until it is gone.
    fn serve(&self, mut client: UnixStream) -> io::Result<()> {
        let mut connection = match self {
            Self::Socket(path) => Connection::Agent(UnixStream::connect(path)?),
            Self::Keys(keys) => Connection::Keys(keys),
        };
        while let Some(request) = wire::receive(&mut client, MESSAGE_BYTES_MAX)? {
            let reply = connection.answer(&request)?;
            wire::send(&mut client, &reply)?;
        }
        Ok(())
    }
}

impl Connection<'_> {
    fn answer(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        match (request.first(), self) {
            (Some(&(LIST | SIGN)), Self::Agent(agent)) => {
                wire::send(agent, request)?;
                wire::receive(agent, MESSAGE_BYTES_MAX)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            (Some(&LIST), Self::Keys(keys)) => Ok(list(keys)),
            (Some(&SIGN), Self::Keys(keys)) => Ok(sign(keys, &request[1..]).unwrap_or_else(|| vec![FAILURE])),
            (Some(_) | None, _) => Ok(vec![FAILURE]),
        }
    }
}

fn list(keys: &[PrivateKey]) -> Vec<u8> {
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let all = keys.iter().fold(Writer::default().number(count), |all, key| all.string(key.public()).string(key.comment().as_bytes()));
    [&[LISTED], all.bytes().as_slice()].concat()
}

/// `None` if it is not one of these keys, or cannot be signed as wanted.
fn sign(keys: &[PrivateKey], request: &[u8]) -> Option<Vec<u8>> {
    let mut request = Reader::new(request);
    let (public, data, flags) = (request.string()?, request.string()?, request.number()?);
    let signature = keys.iter().find(|key| key.public() == public)?.sign(data, flags)?;
    Some([&[SIGNED], Writer::default().string(&signature).bytes().as_slice()].concat())
}

#[cfg(test)]
mod tests;
