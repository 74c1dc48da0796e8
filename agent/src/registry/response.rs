//! Answers as they are written.

use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes sent from a file at a time.
const SEND_BYTES: usize = 256 << 10;

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

/// What follows the head.
#[derive(Debug)]
pub(super) enum Body {
    Bytes(Vec<u8>),
    /// A part of a file.
    File {
        file: File,
        offset: u64,
        length: u64,
    },
}

/// Whether a connection goes on after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    KeepOpen,
    Close,
}

impl Response {
    /// An answer without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("our own values have text keys and finite numbers");
        Self::bytes(status, "application/json", bytes)
    }

    pub(super) fn bytes(status: u16, media_type: &str, bytes: Vec<u8>) -> Self {
        Self { status, headers: vec![("Content-Type", media_type.to_owned())], body: Body::Bytes(bytes) }
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Bytes of the body.
    pub(super) fn length(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { length, .. } => *length,
        }
    }

    /// Writes it; of an answer to HEAD the head only.
    pub(super) fn write(self, to_head: bool, after: After, writer: &mut dyn Write) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        // RFC 9110: 204 and 304 have no body, and 204 no length either.
        if self.status != 204 {
            head.push_str(&format!("Content-Length: {}\r\n", self.length()));
        }
        head.push_str("Docker-Distribution-Api-Version: registry/2.0\r\nX-Content-Type-Options: nosniff\r\n");
        for (name, value) in &self.headers {
            // Values are digests, names that were checked, and texts of our own: no line ends.
            head.push_str(&format!("{name}: {}\r\n", value.replace(['\r', '\n'], " ")));
        }
        if after == After::Close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        if to_head || matches!(self.status, 204 | 304) {
            writer.write_all(head.as_bytes())?;
            return writer.flush();
        }
        match self.body {
            Body::Bytes(bytes) => {
                // One write, so that a small answer is one packet.
                let mut whole = head.into_bytes();
                whole.extend(bytes);
                writer.write_all(&whole)?;
            }
            Body::File { mut file, offset, length } => {
                writer.write_all(head.as_bytes())?;
                file.seek(SeekFrom::Start(offset))?;
                let mut left = file.take(length);
                let mut buffer = vec![0; SEND_BYTES];
                let mut sent = 0;
                loop {
                    match left.read(&mut buffer)? {
                        0 if sent < length => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
                        0 => break,
                        count => {
                            writer.write_all(&buffer[..count])?;
                            sent += count as u64;
                        }
                    }
                }
            }
        }
        writer.flush()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}
