//! What flows between a shim and a client that has attached, after the request and its answer: frames. Pure: no I/O.
//!
//! ```text
//! ┌──────┬─────────┬───────────────────────┬──────────────┐
//! │ kind │ 0  0  0 │ length, 32 bit, big-  │ payload      │
//! │      │         │ endian                │              │
//! └──────┴─────────┴───────────────────────┴──────────────┘
//! ```
//!
//! The header is that of Docker's attach stream (moby, `pkg/stdcopy`), and so are the numbers of the three standard streams.
//! A container's terminal has one output, which is [`Kind::Stdout`]. [`Kind::Stdin`] and [`Kind::Resize`] are for terminals alone:
//! what a container without one reads, the client writes into the named pipe `<run>/stdin` itself. The kernel then holds a fast
//! client back, and closing it is the end of input.

use crate::process::TerminalSize;

/// Bytes before the payload.
const HEADER_BYTES: usize = 8;
/// Longest payload: a line of the protocol, as [`Kind::End`] holds.
pub const PAYLOAD_BYTES_MAX: usize = super::protocol::LINE_BYTES_MAX;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the shim: typed at the container's terminal.
    Stdin,
    /// From the shim: output.
    Stdout,
    /// From the shim: errors.
    Stderr,
    /// From the shim, its last: a [`super::protocol::Reply`] as JSON. A state says how the process ended, an error why there is no more.
    End,
    /// To the shim: rows and columns of the client's terminal, 16 bit each, big-endian.
    Resize,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Stdin, Self::Stdout, Self::Stderr, Self::End, Self::Resize];

    fn number(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::End => 3,
            Self::Resize => 4,
        }
    }
}

/// The bytes at hand are no frame, nor the start of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoFrame;

/// A frame at the head of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Its payload.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes it takes.
    pub fn length(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// Appends frames of this kind, as many as the payload takes; none for an empty one.
pub fn append(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    for piece in payload.chunks(PAYLOAD_BYTES_MAX) {
        let length = u32::try_from(piece.len()).expect("a payload has at most 64 KiB");
        out.extend_from_slice(&[kind.number(), 0, 0, 0]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(piece);
    }
}

/// Appends a frame with the size of the client's terminal.
pub fn append_size(out: &mut Vec<u8>, size: TerminalSize) {
    append(out, Kind::Resize, &[size.rows.to_be_bytes(), size.columns.to_be_bytes()].concat());
}

/// The size in the payload of a [`Kind::Resize`].
pub fn size_in(payload: &[u8]) -> Option<TerminalSize> {
    let [a, b, c, d] = <[u8; 4]>::try_from(payload).ok()?;
    Some(TerminalSize { rows: u16::from_be_bytes([a, b]), columns: u16::from_be_bytes([c, d]) })
}

/// The frame at the head of these bytes; `Ok(None)` if it is not whole yet.
pub fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>, NoFrame> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let kind = Kind::ALL.into_iter().find(|kind| header[..4] == [kind.number(), 0, 0, 0]).ok_or(NoFrame)?;
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let length = usize::try_from(length).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX).ok_or(NoFrame)?;
    Ok(rest.get(..length).map(|payload| Frame { kind, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        append(&mut bytes, Kind::Stderr, b"oh");
        append_size(&mut bytes, TerminalSize { rows: 24, columns: 300 });
        assert_eq!(bytes[..10], [2, 0, 0, 0, 0, 0, 0, 2, b'o', b'h']);
        for part in 0..10 {
            assert_eq!(first(&bytes[..part]), Ok(None), "{part} bytes");
        }
        let frame = first(&bytes).expect("a frame").expect("whole");
        assert_eq!(frame, Frame { kind: Kind::Stderr, payload: b"oh" });
        let frame = first(&bytes[frame.length()..]).expect("a frame").expect("whole");
        assert_eq!((frame.kind, size_in(frame.payload)), (Kind::Resize, Some(TerminalSize { rows: 24, columns: 300 })));
    }

    #[test]
    fn nonsense_and_too_much_are_refused() {
        assert_eq!(first(b"GET / HTTP/1.1"), Err(NoFrame));
        assert_eq!(first(&[0, 0, 0, 0, 0xFF, 0, 0, 0]), Err(NoFrame));
        assert_eq!(size_in(b"abc"), None);
    }

    #[test]
    fn a_long_payload_is_several_frames() {
        let mut bytes = Vec::new();
        append(&mut bytes, Kind::Stdout, &vec![7; PAYLOAD_BYTES_MAX + 1]);
        let frame = first(&bytes).expect("a frame").expect("whole");
        assert_eq!(frame.payload.len(), PAYLOAD_BYTES_MAX);
        let rest = &bytes[frame.length()..];
        assert_eq!(first(rest).expect("a frame").expect("whole").payload, [7]);
    }
}
