//! Where output is cut into records. Pure: no I/O.

/// Longest record: docker's copier cuts there too, and readers of its files rely on it (moby, `daemon/logger/copier.go`).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What to do with the last line when its end has not come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Leave it: more may come.
    Keep,
    /// It is a record of its own, without a line end.
    Cut,
}

/// The next record at the head of these bytes: a line with its end, or a part of a line too long for one record.
/// `None` if nothing is to be cut off yet.
pub fn next(bytes: &[u8], tail: Tail) -> Option<&[u8]> {
    let window = &bytes[..bytes.len().min(RECORD_BYTES_MAX)];
    if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
        return Some(&bytes[..=end]);
    }
    if window.len() == RECORD_BYTES_MAX {
        return Some(&bytes[..character_boundary(window)]);
    }
    match tail {
        Tail::Cut if !window.is_empty() => Some(window),
        Tail::Cut | Tail::Keep => None,
    }
}

/// The length of these bytes without a character cut in two at their end. Bytes that are no UTF-8 anyway are kept whole.
fn character_boundary(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    let Some(lead) = bytes[start..].iter().rposition(|byte| *byte & 0b1100_0000 != 0b1000_0000).map(|at| start + at) else {
        return bytes.len();
    };
    let length = match bytes[lead] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if lead + length > bytes.len() { lead } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8], tail: Tail) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(record) = next(bytes, tail) {
            lengths.push(record.len());
            bytes = &bytes[record.len()..];
        }
        lengths
    }

    #[test]
    fn lines_are_cut_after_their_end() {
        assert_eq!(all(b"a\nbc\n\nd", Tail::Keep), [2, 3, 1]);
        assert_eq!(all(b"a\nbc\n\nd", Tail::Cut), [2, 3, 1, 1]);
        assert_eq!(all(b"", Tail::Cut), [0usize; 0]);
    }

    #[test]
    fn long_lines_are_split_at_16_kib() {
        let line = [vec![b'x'; 40_000], vec![b'\n']].concat();
        assert_eq!(all(&line, Tail::Keep), [16_384, 16_384, 7_233]);
    }

    #[test]
    fn no_character_is_split() {
        for shift in 0..4 {
            let text = format!("{}{}\n", "x".repeat(shift), "\u{1F40B}".repeat(9_000));
            let mut rest = text.as_bytes();
            while let Some(record) = next(rest, Tail::Keep) {
                assert!(std::str::from_utf8(record).is_ok());
                rest = &rest[record.len()..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_still_cut() {
        assert_eq!(all(&[0xFF; 20_000], Tail::Cut), [16_384, 3_616]);
        assert_eq!(all(&[0x80; 20_000], Tail::Cut), [16_384, 3_616]);
    }
}
