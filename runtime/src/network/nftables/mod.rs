//! The part of nf_tables' netlink language that we speak: atomic batches out, dumps in. No `nft` program is involved.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`; all of them are in network order on the wire.

pub(super) mod expression;
pub(super) mod message;
pub(super) mod read;

/// nfnetlink's own message types end at this; every subsystem has 256 above it.
const SUBSYSTEM_NFTABLES: u16 = 10 << 8;
/// `NFPROTO_IPV4`: the address family `ip`.
pub(super) const FAMILY_IP: u8 = 2;

/// Message types within the subsystem (`enum nf_tables_msg_types`).
mod kind {
    use super::SUBSYSTEM_NFTABLES;
    pub(super) const NEW_TABLE: u16 = SUBSYSTEM_NFTABLES;
    pub(super) const GET_TABLE: u16 = SUBSYSTEM_NFTABLES | 1;
    pub(super) const DELETE_TABLE: u16 = SUBSYSTEM_NFTABLES | 2;
    pub(super) const NEW_CHAIN: u16 = SUBSYSTEM_NFTABLES | 3;
    pub(super) const GET_CHAIN: u16 = SUBSYSTEM_NFTABLES | 4;
    pub(super) const NEW_RULE: u16 = SUBSYSTEM_NFTABLES | 6;
    pub(super) const GET_RULE: u16 = SUBSYSTEM_NFTABLES | 7;
    pub(super) const NEW_SET: u16 = SUBSYSTEM_NFTABLES | 9;
    pub(super) const NEW_ELEMENT: u16 = SUBSYSTEM_NFTABLES | 12;
    pub(super) const GET_ELEMENT: u16 = SUBSYSTEM_NFTABLES | 13;
    pub(super) const DELETE_ELEMENT: u16 = SUBSYSTEM_NFTABLES | 14;
}

/// Attributes of tables.
mod table {
    pub(super) const NAME: u16 = 1;
    pub(super) const FLAGS: u16 = 2;
    /// `NFT_TABLE_F_OWNER`, Linux 5.12.
    pub(super) const FLAG_OWNER: u32 = 2;
    pub(super) const USERDATA: u16 = 6;
}

/// Attributes of chains and their hooks.
mod chain {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const POLICY: u16 = 5;
    pub(super) const TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
}

/// Attributes of rules.
mod rule {
    pub(super) const TABLE: u16 = 1;
    pub(super) const CHAIN: u16 = 2;
    pub(super) const EXPRESSIONS: u16 = 4;
    pub(super) const USERDATA: u16 = 7;
}

/// Attributes of sets and their elements.
mod set {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const KEY_TYPE: u16 = 4;
    pub(super) const KEY_BYTES: u16 = 5;
    pub(super) const DATA_TYPE: u16 = 6;
    pub(super) const DATA_BYTES: u16 = 7;
    pub(super) const ID: u16 = 10;
    pub(super) const DESCRIPTION: u16 = 9;
    pub(super) const DESCRIPTION_FIELDS: u16 = 2;
    pub(super) const FIELD_BYTES: u16 = 1;
    pub(super) const FLAG_INTERVAL: u32 = 0x4;
    pub(super) const FLAG_MAP: u32 = 0x8;
    pub(super) const FLAG_CONCATENATION: u32 = 0x80;
    pub(super) const LIST_TABLE: u16 = 1;
    pub(super) const LIST_SET: u16 = 2;
    pub(super) const LIST_ELEMENTS: u16 = 3;
    pub(super) const ELEMENT_KEY: u16 = 1;
    pub(super) const ELEMENT_DATA: u16 = 2;
    pub(super) const ELEMENT_KEY_END: u16 = 10;
}

/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;
/// `NFTA_DATA_VALUE`.
const DATA_VALUE: u16 = 1;
/// Type of a comment in user data, the same for tables and rules; `nft list` shows it.
const USERDATA_COMMENT: u8 = 0;

/// The `struct nfgenmsg` every message begins with: family, version, resource id.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
