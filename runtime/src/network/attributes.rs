//! Netlink attributes: type, length, value, padded to four bytes, nested at will (netlink(7)). Pure: no I/O.

/// Set in the type of an attribute that holds attributes.
const NLA_F_NESTED: u16 = 0x8000;
/// The bits of a type that are not flags.
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 4;

/// Rounds up to the alignment of netlink.
pub(super) fn align(bytes: usize) -> usize {
    bytes.next_multiple_of(4)
}

/// Attributes being written, perhaps after a fixed header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// No attributes yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// No attributes yet, behind a header whose length is a multiple of four.
    pub(super) fn after_header(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// One attribute of raw bytes.
    #[must_use]
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // Longer values cannot occur: names are limited, and element lists are cut into chunks.
        debug_assert!(value.len() + HEADER_BYTES <= usize::from(u16::MAX), "attribute of {} bytes", value.len());
        let length = (HEADER_BYTES + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    /// One byte.
    #[must_use]
    pub(super) fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    /// Two bytes in network order.
    #[must_use]
    pub(super) fn u16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Four bytes in network order, as all of netfilter has them.
    #[must_use]
    pub(super) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A text with its terminating NUL.
    #[must_use]
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Attributes within an attribute.
    #[must_use]
    pub(super) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &value.0)
    }

    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads attributes; stops at the first that is cut off.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (&[l0, l1, k0, k1], _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    })
}

/// The first attribute of this type.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A text without its terminating NUL; what is not UTF-8 is replaced.
pub(super) fn as_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// A number of four bytes in network order.
pub(super) fn as_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let inner = Attributes::new().u32(1, 7).text(2, "web");
        let outer = Attributes::new().u8(5, 9).nested(6, &inner).u16(7, 80).into_bytes();
        assert_eq!(find(&outer, 5), Some([9].as_slice()));
        let nested = find(&outer, 6).unwrap();
        assert_eq!(find(nested, 1).and_then(as_u32), Some(7));
        assert_eq!(find(nested, 2).map(as_text).as_deref(), Some("web"));
        assert_eq!(find(&outer, 7), Some([0, 80].as_slice()));
        assert_eq!(outer.len() % 4, 0);
    }

    #[test]
    fn cut_off_attributes_end_the_reading() {
        let bytes = Attributes::new().u32(1, 7).u32(2, 8).into_bytes();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).count() <= 1);
        }
        assert_eq!(read(&[2, 0, 1, 0]).count(), 0, "a length below the header's own");
    }
}
