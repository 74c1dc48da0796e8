//! Files of a user namespace as they are seen inside: their owners, and whom their attributes name. Pure: no I/O.

use super::header::Attribute;
use std::ops::Range;

/// A file capability with the user namespace it counts in (linux/capability.h, `vfs_ns_cap_data`), and one without.
const CAPABILITY_BYTES: usize = 24;
const CAPABILITY_VERSION: u32 = 0x0300_0000;
const CAPABILITY_BARE_BYTES: usize = 20;
const CAPABILITY_BARE_VERSION: u32 = 0x0200_0000;
const CAPABILITY_FLAGS: u32 = 0x00ff_ffff;
/// Access lists as the kernel has them (linux/posix_acl_xattr.h): a version, then entries of tag, permissions and id.
const LIST_HEADER_BYTES: usize = 4;
const LIST_ENTRY_BYTES: usize = 8;
const LIST_USER: u16 = 2;
const LIST_GROUP: u16 = 8;

/// The id inside of one of the host's; `None` if it is not among those of the namespace, which begin with 0 inside.
pub(super) fn inside(ids: &Range<u32>, id: u32) -> Option<u32> {
    ids.contains(&id).then(|| id - ids.start)
}

/// An attribute as it is read inside. Whoever it names that is not there stays as it is: the kernel asks nobody else about them.
pub(super) fn attribute(ids: &Range<u32>, (name, value): Attribute) -> Attribute {
    let value = match &name[..] {
        b"security.capability" => capability(ids, value),
        b"system.posix_acl_access" | b"system.posix_acl_default" => list(ids, value),
        _ => value,
    };
    (name, value)
}

/// One that counts in the namespace itself counts wherever the file is: it has no id then.
fn capability(ids: &Range<u32>, value: Vec<u8>) -> Vec<u8> {
    let header = value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if value.len() != CAPABILITY_BYTES || header & !CAPABILITY_FLAGS != CAPABILITY_VERSION {
        return value;
    }
    let root = value.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    match inside(ids, root) {
        Some(0) => {
            let header = CAPABILITY_BARE_VERSION | header & CAPABILITY_FLAGS;
            [&header.to_le_bytes(), &value[4..CAPABILITY_BARE_BYTES]].concat()
        }
        Some(root) => [&value[..CAPABILITY_BARE_BYTES], &root.to_le_bytes()].concat(),
        None => value,
    }
}

fn list(ids: &Range<u32>, mut value: Vec<u8>) -> Vec<u8> {
    let Some(entries) = value.get_mut(LIST_HEADER_BYTES..) else { return value };
    for entry in entries.chunks_exact_mut(LIST_ENTRY_BYTES) {
        let (tag, id) = entry.split_at_mut(4);
        let tag = u16::from_le_bytes([tag[0], tag[1]]);
        let known = id.first_chunk().and_then(|id| inside(ids, u32::from_le_bytes(*id)));
        if let (LIST_USER | LIST_GROUP, Some(inside)) = (tag, known) {
            id.copy_from_slice(&inside.to_le_bytes());
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_ids_of_the_host_names_those_inside() {
        let ids = 100_000..165_536;
        assert_eq!((inside(&ids, 100_000), inside(&ids, 165_535)), (Some(0), Some(65_535)));
        assert_eq!((inside(&ids, 0), inside(&ids, 165_536)), (None, None));
        let rest = [7; 16];
        let of = |version: u32, root: &[u8]| [&version.to_le_bytes()[..], &rest, root].concat();
        let seen = |value: Vec<u8>| attribute(&ids, (b"security.capability".to_vec(), value)).1;
        assert_eq!(seen(of(0x0300_0001, &100_000_u32.to_le_bytes())), of(0x0200_0001, &[]));
        assert_eq!(seen(of(0x0300_0001, &100_005_u32.to_le_bytes())), of(0x0300_0001, &5_u32.to_le_bytes()));
        for unchanged in [of(0x0300_0000, &7_u32.to_le_bytes()), of(0x0200_0001, &[]), b"short".to_vec(), Vec::new()] {
            assert_eq!(seen(unchanged.clone()), unchanged);
        }
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &6_u16.to_le_bytes(), &id.to_le_bytes()].concat();
        let list = |user: u32, group: u32| {
            [2_u32.to_le_bytes().to_vec(), entry(1, u32::MAX), entry(LIST_USER, user), entry(LIST_GROUP, group)].concat()
        };
        let seen = |value: Vec<u8>| attribute(&ids, (b"system.posix_acl_access".to_vec(), value)).1;
        assert_eq!(seen(list(101_000, 100_000)), list(1000, 0));
        assert_eq!(seen(list(5, 6)), list(5, 6));
    }
}
