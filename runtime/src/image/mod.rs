//! Images: where they come from, how they are kept, what they say about the container made from them.
//!
//! An image is known by its id, the digest of its configuration's bytes. Layers are unpacked once, in overlay format, and shared by
//! the digest of their uncompressed tar stream. Nothing of an image is trusted: every digest is checked, every size is bounded, and
//! what a layer holds is only ever reached through descriptors beneath its root.

pub mod archive;
pub mod config;
pub mod layer;
pub mod manifest;
pub mod platform;
pub mod publish;
pub mod registry;
pub mod store;

#[cfg(test)]
mod tests;

/// The identity of an image: the digest of its configuration's bytes.
pub type ImageId = spec::value::Digest;
