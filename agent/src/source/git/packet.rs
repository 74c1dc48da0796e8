//! Packet lines, the framing of the Git protocol: four hexadecimal digits of length, then that many bytes less four
//! (gitprotocol-common(5)). Pure but for the reader it is given.

use std::io::{self, Read};

/// Longest packet: 65520 bytes with its length (gitprotocol-common(5)).
const PACKET_BYTES_MAX: usize = 65520;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// A line or a piece of a stream, as sent: lines mostly end in a newline.
    Data(Vec<u8>),
    /// `0000`: the end of a section.
    Flush,
}

/// Reads one packet. An end of the stream between packets is `UnexpectedEof`, as is one within.
pub(super) fn read(reader: &mut impl Read) -> io::Result<Packet> {
    let mut digits = [0; 4];
    reader.read_exact(&mut digits)?;
    let length = std::str::from_utf8(&digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|text| usize::from_str_radix(text, 16).ok())
        .ok_or_else(|| malformed(format!("{:?} where a packet's length should be", String::from_utf8_lossy(&digits))))?;
    match length {
        0 => Ok(Packet::Flush),
        4..=PACKET_BYTES_MAX => {
            let mut data = vec![0; length - 4];
            reader.read_exact(&mut data)?;
            Ok(Packet::Data(data))
        }
        _ => Err(malformed(format!("a packet of length {length}"))),
    }
}

/// Appends a line to a request.
pub(super) fn write_line(request: &mut Vec<u8>, line: &str) {
    request.extend_from_slice(format!("{:04x}{line}\n", line.len() + 5).as_bytes());
}

/// Appends the end of a section.
pub(super) fn write_flush(request: &mut Vec<u8>) {
    request.extend_from_slice(b"0000");
}

/// A line's text without its newline.
pub(super) fn text(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

/// An error of the other side's making.
pub(super) fn malformed(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut request = Vec::new();
        write_line(&mut request, "done");
        write_flush(&mut request);
        assert_eq!(request, b"0009done\n0000");
        let mut reader = request.as_slice();
        assert_eq!(read(&mut reader).unwrap(), Packet::Data(b"done\n".to_vec()));
        assert_eq!(read(&mut reader).unwrap(), Packet::Flush);
        assert_eq!(read(&mut reader).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&b"<htm"[..], b"+00f", b"0001", b"0003", b"fff1", b"0009do"] {
            assert!(read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
