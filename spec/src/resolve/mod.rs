//! Manifests to the desired state: defaults applied, references resolved, everything checked against everything. Pure.
//!
//! Nothing stops at the first problem: each part notes what it finds and goes on with a harmless stand-in, and the result is
//! handed out only if no error was noted.

mod attachments;
mod container;
mod dependencies;
mod env_file;
mod health;
mod image;
mod index;
mod mounts;
mod network;
mod origins;
mod pairs;
mod path;
mod ports;
mod process;
mod push;
mod security;
mod words;
mod written;

#[cfg(test)]
mod tests;

use crate::desired::{Desired, ResourceId, Volume};
use crate::diagnostic::{Diagnostic, Problems};
use crate::manifest::Spec;
use crate::parse::{self, Document};
use crate::site::SiteFiles;
use index::Index;
use written::Witness;

/// A site that may be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What the host should be.
    pub desired: Desired,
    /// Doubts that do not stop it, in the order of the files.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and resolves a whole site: parses every file (path relative to the site's root, bytes), then resolves what was read.
///
/// Errors: every problem of every file, in the order of the files; warnings are among them.
pub fn load<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>, site: &dyn SiteFiles) -> Result<Resolved, Vec<Diagnostic>> {
    let mut documents = Vec::new();
    let mut problems = Problems::default();
    for (path, bytes) in files {
        documents.extend(parse::read(path, bytes, &mut problems));
    }
    let (desired, more) = resolve_all(&documents, site);
    problems.append(more);
    if problems.has_error() {
        return Err(problems.into_sorted());
    }
    Ok(Resolved { desired, warnings: problems.into_sorted() })
}

/// Resolves parsed documents. Their order does not matter. What a document lost while it was parsed has been reported
/// there ([`crate::Parsed::problems`]) and is not reported again; such a site must not be applied.
///
/// Errors: every problem, in the order of the files; warnings are among them.
pub fn resolve(documents: &[Document], site: &dyn SiteFiles) -> Result<Resolved, Vec<Diagnostic>> {
    let (desired, problems) = resolve_all(documents, site);
    if problems.has_error() {
        return Err(problems.into_sorted());
    }
    Ok(Resolved { desired, warnings: problems.into_sorted() })
}

/// What the documents say, which is worth nothing if there is an error among the problems.
fn resolve_all(documents: &[Document], site: &dyn SiteFiles) -> (Desired, Problems) {
    let mut problems = Problems::default();
    let index = Index::new(documents, &mut problems);
    let mut resolver = Resolver { index: &index, site: Witness::new(site), desired: Desired::default(), problems };
    for document in index.documents() {
        resolver.document(document);
    }
    resolver.check();
    (resolver.desired, resolver.problems)
}

/// The work in progress.
struct Resolver<'a> {
    index: &'a Index<'a>,
    site: Witness<'a>,
    desired: Desired,
    problems: Problems,
}

impl<'a> Resolver<'a> {
    /// Turns one document into its desired resource.
    fn document(&mut self, document: &'a Document) {
        let Some(manifest) = &document.manifest else { return };
        let name = manifest.metadata.name.clone();
        let resource = ResourceId { kind: document.kind, name: name.to_string() };
        origins::insert(&mut self.desired.origins, document, &resource);
        self.site.begin(document);
        match &manifest.spec {
            Spec::Image(image) => self.image(document, name, image),
            Spec::Network(network) if network.external == Some(true) => {
                let is_more =
                    network.driver.is_some() || network.subnet.is_some() || network.gateway.is_some() || network.internal.is_some();
                self.external(document, resource.clone(), is_more || network.labels.is_some());
            }
            Spec::Volume(volume) if volume.external == Some(true) => self.external(document, resource.clone(), volume.labels.is_some()),
            Spec::Network(network) => self.network(document, name, &manifest.metadata, network),
            Spec::Volume(volume) => {
                let labels = self.labels(document, &manifest.metadata, volume.labels.as_ref());
                self.desired.volumes.insert(name, Volume { labels });
            }
            Spec::Container(container) => self.container(document, name, &manifest.metadata, container),
        }
        self.desired.written.insert(resource, self.site.end());
    }

    /// What others make. It is used as it is: a wish about it would come to nothing.
    fn external(&mut self, document: &Document, resource: ResourceId, is_more_said: bool) {
        if is_more_said {
            let problem = document.spec().key("external").key_error(format!("{} {} is made by others", resource.kind, resource.name));
            self.report(problem.help("leave out either external or everything else".to_owned()));
        }
        self.desired.external.insert(resource);
    }

    /// Checks that need the whole site.
    fn check(&mut self) {
        image::check_cycles(self.index, &self.desired, &mut self.problems);
        network::check_overlaps(self.index, &self.desired, &mut self.problems);
        attachments::check_addresses(self.index, &self.desired, &mut self.problems);
        ports::check_conflicts(self.index, &self.desired, &mut self.problems);
        dependencies::check(self.index, &self.desired, &mut self.problems);
    }

    fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }
}
