//! One way to ask, whatever the transport.

use super::metered::{PACK_BYTES_MAX, explain};
use super::upload_pack::{Advertisement, Pack, request};
use super::{http, ssh};
use crate::source::address::{Access, GitAddress, Transport};
use crate::source::time_limit::TimeLimit;
use crate::source::{CommitId, FetchError};
use std::io::{self, Read};

/// A remote that has told what it has.
pub(super) enum Connection {
    Http(http::Session),
    Ssh(ssh::Session),
}

/// Asks what a remote has.
pub(super) fn open(address: &GitAddress, access: &Access, limit: TimeLimit) -> Result<(Advertisement, Connection), FetchError> {
    match &address.transport {
        Transport::Http { tls, authority, user, password } => {
            let server = http::Server { tls: *tls, authority, user: user.as_deref(), password: password.as_ref() };
            http::connect(address, &server, access, limit).map(|(found, session)| (found, Connection::Http(session)))
        }
        Transport::Ssh { host, port, user } => {
            let server = ssh::Server { host, port: *port, user: user.as_deref() };
            ssh::connect(address, &server, access, limit).map(|(found, session)| (found, Connection::Ssh(session)))
        }
        Transport::File => unreachable!("repositories of this host are read in place"),
    }
}

impl Connection {
    /// Wants nothing, politely, so that the other side logs no broken connection.
    pub(super) fn hang_up(self) {
        match self {
            Self::Http(_) => {}
            Self::Ssh(session) => session.hang_up(),
        }
    }

    /// Asks for one commit and passes its pack on, piece by piece. An error of `sink` comes back as it is.
    pub(super) fn receive(
        self,
        address: &GitAddress,
        wanted: Wanted<'_>,
        limit: TimeLimit,
        mut sink: impl FnMut(&[u8]) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let repository = address.to_string();
        let told = |error: io::Error| explain(error, &repository, PACK_BYTES_MAX, limit);
        let body = request(wanted.commit, wanted.have, wanted.shallow);
        let answer = match self {
            Self::Http(session) => session.send(&body)?,
            Self::Ssh(session) => session.send(&body)?,
        };
        let mut pack = Pack::begin(answer).map_err(told)?;
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = pack.read(&mut piece).map_err(told)?;
            if count == 0 {
                return Ok(());
            }
            sink(&piece[..count])?;
        }
    }
}

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) commit: &'a CommitId,
    /// A commit that is here with all its files.
    pub(super) have: Option<&'a CommitId>,
    /// Whether the server can leave the history away.
    pub(super) shallow: bool,
}
