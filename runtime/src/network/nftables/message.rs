//! Batches: everything in one takes effect at the same instant, or nothing does. Pure but for [`Batch::commit`].

use super::super::attributes::Attributes;
use super::super::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NetlinkError, Request, Socket};
use super::expression::Expressions;
use super::{DATA_VALUE, FAMILY_IP, LIST_ELEMENT, SUBSYSTEM_NFTABLES, USERDATA_COMMENT, chain, header, kind, rule, set, table};

/// Elements in one message: an attribute holds 64 KiB, an element at most 100 bytes.
const ELEMENTS_PER_MESSAGE: usize = 500;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// Where packets enter a base chain, in the order of `enum nf_inet_hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Everything that comes in.
    Prerouting = 0,
    /// What passes through.
    Forward = 2,
    /// What this host sends.
    Output = 3,
    /// Everything that goes out.
    Postrouting = 4,
}

/// Where a base chain sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    /// The hook.
    pub(crate) hook: Hook,
    /// Lower comes first.
    pub(crate) priority: i32,
}

/// What keys and data are made of; each component fills whole registers of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    /// An address of IPv4.
    Address,
    /// The number of a transport protocol.
    Transport,
    /// A port.
    Port,
    /// The name of a link.
    LinkName,
}

impl Component {
    /// Its number among the types of `nft` (its `enum datatypes`), by which `nft list` knows how to show it.
    fn number(self) -> u32 {
        match self {
            Self::Address => 7,
            Self::Transport => 12,
            Self::Port => 13,
            Self::LinkName => 41,
        }
    }

    fn bytes(self) -> u32 {
        match self {
            Self::Address | Self::Transport | Self::Port => 4,
            Self::LinkName => 16,
        }
    }
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Keys.
    Keys,
    /// Keys that lead to data of this type.
    Map(&'static [Component]),
    /// Ranges of keys: the first, and as its data the last.
    Ranges,
}

/// The number of a concatenation, six bits a component, and its size.
fn data_type(components: &[Component]) -> (u32, u32) {
    let number = components.iter().fold(0, |number, component| number << 6 | component.number());
    (number, components.iter().map(|component| component.bytes()).sum())
}

/// Messages to one table of family `ip` that take effect together.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    table: &'a str,
    requests: Vec<Request>,
    sets: u32,
}

/// A key and, in a map, what it leads to; with ranges the last of one.
pub(crate) type Element<'a> = (&'a [u8], &'a [u8]);

impl<'a> Batch<'a> {
    /// Nothing yet.
    pub(crate) fn new(table: &'a str) -> Self {
        Self { table, requests: Vec::new(), sets: 0 }
    }

    /// Makes the table if it is absent. The comment of a table that exists stays.
    pub(crate) fn ensure_table(&mut self, comment: &str) {
        let attributes = self.body().text(table::NAME, self.table).bytes(table::USERDATA, &userdata(comment));
        self.push(kind::NEW_TABLE, NLM_F_CREATE, attributes);
    }

    /// Makes the table, to be changed by the socket of this batch alone and gone with it.
    pub(crate) fn create_own_table(&mut self, comment: &str) {
        let attributes = self.body().text(table::NAME, self.table).u32(table::FLAGS, table::FLAG_OWNER);
        self.push(kind::NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, attributes.bytes(table::USERDATA, &userdata(comment)));
    }

    /// Deletes the table and all in it; it must exist.
    pub(crate) fn delete_table(&mut self) {
        let attributes = self.body().text(table::NAME, self.table);
        self.push(kind::DELETE_TABLE, 0, attributes);
    }

    /// Makes a chain, hooked or to be jumped to. Its policy is accept.
    pub(crate) fn create_chain(&mut self, name: &str, base: Option<Base>) {
        const POLICY_ACCEPT: u32 = 1;
        let mut attributes = self.body().text(chain::TABLE, self.table).text(chain::NAME, name);
        if let Some(base) = base {
            let hook =
                Attributes::new().u32(chain::HOOK_NUMBER, base.hook as u32).bytes(chain::HOOK_PRIORITY, &base.priority.to_be_bytes());
            attributes = attributes.nested(chain::HOOK, &hook).u32(chain::POLICY, POLICY_ACCEPT).text(chain::TYPE, base.kind);
        }
        self.push(kind::NEW_CHAIN, NLM_F_CREATE, attributes);
    }

    /// Appends a rule to a chain.
    pub(crate) fn append_rule(&mut self, chain: &str, comment: &str, expressions: &Expressions) {
        let attributes = self
            .body()
            .text(rule::TABLE, self.table)
            .text(rule::CHAIN, chain)
            .nested(rule::EXPRESSIONS, expressions.attributes())
            .bytes(rule::USERDATA, &userdata(comment));
        self.push(kind::NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, attributes);
    }

    /// Makes a set or map.
    pub(crate) fn create_set(&mut self, name: &str, key: &[Component], shape: Shape) {
        self.sets += 1;
        let flags = match shape {
            Shape::Keys => 0,
            Shape::Map(_) => set::FLAG_MAP,
            Shape::Ranges => set::FLAG_INTERVAL | set::FLAG_CONCATENATION,
        };
        let (key_type, key_bytes) = data_type(key);
        let mut attributes = self
            .body()
            .text(set::TABLE, self.table)
            .text(set::NAME, name)
            .u32(set::FLAGS, flags)
            .u32(set::KEY_TYPE, key_type)
            .u32(set::KEY_BYTES, key_bytes)
            .u32(set::ID, self.sets);
        match shape {
            Shape::Keys => {}
            Shape::Map(data) => {
                let (data_type, data_bytes) = data_type(data);
                attributes = attributes.u32(set::DATA_TYPE, data_type).u32(set::DATA_BYTES, data_bytes);
            }
            Shape::Ranges => {
                let field = |component: &Component| Attributes::new().u32(set::FIELD_BYTES, component.bytes());
                let fields = key.iter().fold(Attributes::new(), |fields, component| fields.nested(LIST_ELEMENT, &field(component)));
                let description = Attributes::new().nested(set::DESCRIPTION_FIELDS, &fields);
                attributes = attributes.nested(set::DESCRIPTION, &description);
            }
        }
        self.push(kind::NEW_SET, NLM_F_CREATE, attributes);
    }

    /// Adds elements. Refused if a key is there and leads elsewhere.
    pub(crate) fn add_elements<'e>(&mut self, set: &str, shape: Shape, elements: impl IntoIterator<Item = Element<'e>>) {
        self.elements((kind::NEW_ELEMENT, NLM_F_CREATE), set, shape, elements);
    }

    /// Deletes elements. Refused if one is absent.
    pub(crate) fn delete_elements<'e>(&mut self, set: &str, shape: Shape, elements: impl IntoIterator<Item = Element<'e>>) {
        self.elements((kind::DELETE_ELEMENT, 0), set, shape, elements);
    }

    /// Makes it so, all at once. An empty batch does nothing.
    pub(crate) fn commit(self, socket: &mut Socket) -> Result<(), NetlinkError> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let mark = |kind| Request { kind, flags: 0, payload: header(0, SUBSYSTEM_NFTABLES >> 8).to_vec() };
        let mut requests = Vec::with_capacity(self.requests.len() + 2);
        requests.push(mark(BATCH_BEGIN));
        requests.extend(self.requests);
        requests.push(mark(BATCH_END));
        socket.transact(&requests)
    }

    fn elements<'e>(&mut self, (kind, flags): (u16, u16), set: &str, shape: Shape, elements: impl IntoIterator<Item = Element<'e>>) {
        let elements: Vec<Element<'e>> = elements.into_iter().collect();
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let list = chunk.iter().fold(Attributes::new(), |list, (key, data)| {
                let value = |bytes: &[u8]| Attributes::new().bytes(DATA_VALUE, bytes);
                let element = Attributes::new().nested(set::ELEMENT_KEY, &value(key));
                let element = match shape {
                    Shape::Keys => element,
                    Shape::Map(_) => element.nested(set::ELEMENT_DATA, &value(data)),
                    Shape::Ranges => element.nested(set::ELEMENT_KEY_END, &value(data)),
                };
                list.nested(LIST_ELEMENT, &element)
            });
            let attributes = self.body().text(set::LIST_TABLE, self.table).text(set::LIST_SET, set).nested(set::LIST_ELEMENTS, &list);
            self.push(kind, flags, attributes);
        }
    }

    fn body(&self) -> Attributes {
        Attributes::after_header(&header(FAMILY_IP, 0))
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: Attributes) {
        self.requests.push(Request { kind, flags, payload: attributes.into_bytes() });
    }

    /// All messages as bytes: what a digest of a layout is made of.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        self.requests.iter().flat_map(|request| request.kind.to_be_bytes().into_iter().chain(request.payload.iter().copied())).collect()
    }
}

/// User data with a comment, at most 128 bytes as `nft` has it.
fn userdata(comment: &str) -> Vec<u8> {
    debug_assert!(comment.len() < 128, "{comment}");
    let length = comment.len() as u8 + 1;
    let mut bytes = vec![USERDATA_COMMENT, length];
    bytes.extend_from_slice(comment.as_bytes());
    bytes.push(0);
    bytes
}
