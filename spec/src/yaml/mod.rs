//! YAML as a tree with positions, read by serde: the only place that knows the YAML parser.
//!
//! ```text
//! text ─load─► Tree (one a document) ─read─► T: Deserialize, and every problem on the way
//! ```
//!
//! Why not a serde YAML crate: they stop at the first problem, lose positions in every "short or long form" type, and turn
//! scalars into numbers before the type is known (`1.10` into 1.1, `0755` into 755). Here a scalar stays the text as written
//! until the field says what it is, and a value that cannot be read is reported, cut out, and the rest is read on.

mod load;
mod nearest;
mod read;
mod tree;

pub(crate) use load::load;
pub use nearest::nearest;
pub(crate) use read::{SHAPES, read};
pub(crate) use tree::{Content, NodeId, Tree};
