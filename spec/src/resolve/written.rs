//! What a resource is made of, as written: its manifest, and every answer about files beside it that resolving it took.
//!
//! Defaults are no part of it. Two resources with the same digest want the same, whatever this or another version fills in.

use crate::desired::ImageKey;
use crate::parse::Document;
use crate::site::{BuildContext, Dockerfile, SiteContent, SiteFileError, SiteFiles};
use crate::value::Digest;
use std::cell::RefCell;
use std::path::Path;

/// The files of a site, with a memory of what was asked about them. What could not be answered refuses the site: it is not kept.
pub(super) struct Witness<'a> {
    site: &'a dyn SiteFiles,
    seen: RefCell<Vec<u8>>,
}

impl<'a> Witness<'a> {
    pub(super) fn new(site: &'a dyn SiteFiles) -> Self {
        Self { site, seen: RefCell::default() }
    }

    /// Begins with what the document itself says.
    pub(super) fn begin(&self, document: &Document) {
        let mut seen = self.seen.borrow_mut();
        seen.clear();
        document.encode(&mut seen);
    }

    /// An image that was named: whether it is one of the site depends on other manifests.
    pub(super) fn image(&self, key: &ImageKey) {
        match key {
            ImageKey::Named(name) => self.see("named", name.as_str()),
            // As it was written: what completes it is a default.
            ImageKey::Reference(_) => self.see("reference", ""),
        }
    }

    /// The digest of all that was seen since the beginning.
    pub(super) fn end(&self) -> Digest {
        Digest::of(&self.seen.borrow())
    }

    fn see(&self, what: &str, answer: &str) {
        let mut seen = self.seen.borrow_mut();
        for text in [what, answer] {
            seen.extend_from_slice(&text.len().to_le_bytes());
            seen.extend_from_slice(text.as_bytes());
        }
    }
}

impl SiteFiles for Witness<'_> {
    fn read_text(&self, path: &str) -> Result<String, SiteFileError> {
        self.site.read_text(path).inspect(|text| self.see("text", text))
    }

    fn content(&self, path: &str) -> Result<SiteContent, SiteFileError> {
        self.site.content(path).inspect(|content| self.see(path, &content.digest.to_string()))
    }

    fn build_context(&self, context: &str, dockerfile: Dockerfile<'_>) -> Result<BuildContext, SiteFileError> {
        self.site.build_context(context, dockerfile).inspect(|found| {
            let (Dockerfile::File(text) | Dockerfile::Inline(text)) = dockerfile;
            self.see(context, text);
            self.see("context", &found.content.to_string());
        })
    }

    fn repository(&self, address: &str) -> Option<String> {
        self.site.repository(address).inspect(|commit| self.see(address, commit))
    }

    fn live_root(&self) -> Option<&Path> {
        let root = self.site.live_root();
        self.see("root", &root.map(Path::to_string_lossy).unwrap_or_default());
        root
    }
}
