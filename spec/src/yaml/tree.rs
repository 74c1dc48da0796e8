//! One YAML document as a tree with positions.

use crate::diagnostic::Span;

/// A node of a [`Tree`]. An alias is the id of the node it refers to, so a tree with aliases is a graph without cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(super) usize);

/// A document.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) content: Content,
    /// How many nodes it is when its aliases are followed.
    pub(super) weight: usize,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Nothing: an absent value, `~` or `null`.
    Null,
    /// A text as written, escapes undone. What it means is up to the field.
    Scalar(String),
    /// Values.
    List(Vec<NodeId>),
    /// Keys, each once, in the order written.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: NodeId,
}

impl Tree {
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// What the node says, as bytes: equal for two exactly if they say the same, in whatever order and formatting.
    pub(crate) fn encode(&self, id: NodeId, bytes: &mut Vec<u8>) {
        match &self.node(id).content {
            Content::Null => put(bytes, b'n', 0, ""),
            Content::Scalar(text) => put(bytes, b's', text.len(), text),
            Content::List(items) => {
                put(bytes, b'l', items.len(), "");
                items.iter().for_each(|item| self.encode(*item, bytes));
            }
            Content::Map(entries) => {
                put(bytes, b'm', entries.len(), "");
                let mut entries: Vec<&Entry> = entries.iter().collect();
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                for entry in entries {
                    put(bytes, b'k', entry.key.len(), &entry.key);
                    self.encode(entry.value, bytes);
                }
            }
        }
    }

    /// The entry of a map with this key; `None` if it has none or is not a map.
    pub(crate) fn entry(&self, id: NodeId, key: &str) -> Option<&Entry> {
        match &self.node(id).content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Content::Null | Content::Scalar(_) | Content::List(_) => None,
        }
    }
}

/// One part of an encoding: what it is, how long, and its text.
fn put(bytes: &mut Vec<u8>, kind: u8, length: usize, text: &str) {
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

impl Content {
    /// What it is, for a message: `a list`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "an empty value".to_owned(),
            Self::Scalar(text) => format!("{text:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}
