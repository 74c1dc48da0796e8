//! One record of docker's json-file format: `{"log":"text\n","stream":"stdout","time":"2026-11-22T05:22:00.123456789Z"}`.

use crate::shim::frame::Kind;
use serde::Deserialize;

/// Which of a container's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

impl Stream {
    /// Its name, in the records and as a pipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// What a client is shown it as.
    pub fn kind(self) -> Kind {
        match self {
            Self::Stdout => Kind::Stdout,
            Self::Stderr => Kind::Stderr,
        }
    }
}

/// Appends one record and its line end. Bytes that are no UTF-8 become U+FFFD, as with docker.
pub fn append(out: &mut Vec<u8>, text: &[u8], stream: Stream, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in text.utf8_chunks() {
        append_escaped(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn append_escaped(out: &mut Vec<u8>, text: &str) {
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let hex: [u8; 6];
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                hex = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)];
                &hex
            }
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain_from..at]);
        out.extend_from_slice(escape);
        plain_from = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_record() {
        let mut out = Vec::new();
        append(&mut out, b"hello\n", Stream::Stderr, "T");
        assert_eq!(out, b"{\"log\":\"hello\\n\",\"stream\":\"stderr\",\"time\":\"T\"}\n");
    }

    #[test]
    fn every_byte_survives_a_json_reader() {
        let mut text: Vec<u8> = (0..=0x7F).collect();
        text.extend("\u{e9}\u{1F40B}\u{2028}".as_bytes());
        let mut out = Vec::new();
        append(&mut out, &text, Stream::Stdout, "T");
        let read: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!(read["log"].as_str().map(str::as_bytes), Some(text.as_slice()));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut out = Vec::new();
        append(&mut out, b"a\xFFb", Stream::Stdout, "T");
        let read: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!(read["log"], "a\u{FFFD}b");
    }
}
