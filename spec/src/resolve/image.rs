//! `kind: Image`: one source each, and no image built from itself.

use super::index::Index;
use super::pairs::{self, PairKind};
use super::{Resolver, dependencies, path};
use crate::desired::{BuildContextSource, BuildNetwork, Desired, Image, ImageKey, ImageSource, Kind};
use crate::diagnostic::Problems;
use crate::manifest::{self, TextOrMap};
use crate::parse::{Document, Spot};
use crate::site::{Dockerfile, SiteFileError, SiteFileKind, SiteFiles as _};
use crate::value::{Digest, ImageReference, Name, ValueError};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;

/// The Dockerfile unless a manifest names another.
const DOCKERFILE: &str = "Dockerfile";

impl Resolver<'_> {
    pub(super) fn image(&mut self, document: &Document, name: Name, image: &manifest::Image) {
        let written: Vec<&str> = [("build", image.build.is_some()), ("pull", image.pull.is_some()), ("archive", image.archive.is_some())]
            .into_iter()
            .filter_map(|(field, written)| (written || document.spec().lost(field)).then_some(field))
            .collect();
        let spec = document.spec();
        match written.as_slice() {
            [] => {
                let problem = spec.key_error(format!("image {name} has no source"));
                return self.report(problem.help("add one of build, pull and archive".to_owned()));
            }
            [_] => {}
            [first, second, ..] => {
                let problem = spec.key(second).key_error(format!("image {name} has more than one source"));
                return self.report(problem.related(spec.key(first).place(), "the first one"));
            }
        }
        let source = match (&image.build, &image.pull, &image.archive) {
            (Some(build), _, _) => self.build(document, build),
            (_, Some(reference), _) => Some(ImageSource::Pull { reference: reference.clone() }),
            (_, _, Some(archive)) => self.archive(document, archive),
            (None, None, None) => None,
        };
        let push = self.push(document, &name, image);
        if let Some(source) = source {
            self.desired.images.insert(ImageKey::Named(name), Image { source, push });
        }
    }

    fn build(&mut self, document: &Document, build: &TextOrMap<manifest::image::ContextPath, manifest::Build>) -> Option<ImageSource> {
        let spot = document.spec().key("build");
        let (context, context_spot, long) = match build {
            TextOrMap::Short(context) => (&context.0, spot, None),
            TextOrMap::Long(build) => (&build.context, spot.key("context"), Some(build)),
        };
        let dockerfile = long.and_then(|build| build.dockerfile.as_deref()).unwrap_or(DOCKERFILE);
        let args = pairs::resolve(long.and_then(|build| build.args.as_ref()), spot.key("args"), PairKind::Argument, &mut self.problems);
        // The Dockerfile is named relative to the context and may not leave the site either.
        let context = if is_elsewhere(context) { context.clone() } else { self.site_path(document, context, context_spot)? };
        let dockerfile = match path::relative_to("-", dockerfile) {
            Ok(dockerfile) => dockerfile,
            Err(problem) => {
                self.bad_value(spot.key("dockerfile"), problem);
                return None;
            }
        };
        let inline = long.and_then(|build| build.inline.clone());
        if inline.is_some() && long.is_some_and(|build| build.dockerfile.is_some()) {
            let problem = spot.key("inline").key_error("a build has one Dockerfile: inline, or a file".to_owned());
            self.report(problem.related(spot.key("dockerfile").place(), "the file"));
            return None;
        }
        let (contexts, of_contexts) = self.build_contexts(document, long, spot)?;
        let text = inline.as_deref().map_or(Dockerfile::File(&dockerfile), Dockerfile::Inline);
        match self.site.build_context(&context, text) {
            Ok(found) => {
                let written = found.references.iter().map(String::as_str).filter(|reference| !contexts.contains_key(*reference));
                let bases = written.chain(contexts.values().filter_map(BuildContextSource::image)).filter_map(|name| name.parse().ok());
                let bases: BTreeSet<Name> = bases.filter(|name| self.index.contains(Kind::Image, name)).collect();
                bases.iter().for_each(|base| self.site.image(&ImageKey::Named(base.clone())));
                let target = long.and_then(|build| build.target.clone());
                let content = match of_contexts.as_slice() {
                    [] => found.content,
                    bytes => Digest::of(&[&found.content.as_bytes()[..], bytes].concat()),
                };
                let network = match long.and_then(|build| build.network) {
                    None | Some(manifest::image::BuildNetwork::Default) => BuildNetwork::Default,
                    Some(manifest::image::BuildNetwork::None) => BuildNetwork::None,
                    Some(manifest::image::BuildNetwork::Host) => BuildNetwork::Host,
                };
                Some(ImageSource::Build { context, dockerfile, inline, contexts, args, target, network, content, bases })
            }
            Err(error) => {
                // A missing Dockerfile is about the field that names it, if one does.
                let of_dockerfile = long.is_some_and(|build| build.dockerfile.is_some()) && context_is_fine(&error, &context);
                self.unusable_file(if of_dockerfile { spot.key("dockerfile") } else { context_spot }, &error);
                None
            }
        }
    }

    /// Contexts by name, and what they hold: digests of directories and of commits, in the order of the names.
    fn build_contexts(
        &mut self,
        document: &Document,
        build: Option<&manifest::Build>,
        spot: Spot<'_>,
    ) -> Option<(BTreeMap<String, BuildContextSource>, Vec<u8>)> {
        let spot = spot.key("contexts");
        let written = pairs::resolve(build.and_then(|build| build.contexts.as_ref()), spot, PairKind::Context, &mut self.problems);
        let mut contexts = BTreeMap::new();
        let mut digests = Vec::new();
        for (name, value) in written {
            let source = if is_elsewhere(&value) {
                let source = BuildContextSource::Elsewhere { address: value };
                if let (BuildContextSource::Elsewhere { address }, None) = (&source, source.image())
                    && let Some(commit) = self.site.repository(address)
                {
                    digests.extend_from_slice(Digest::of(commit.as_bytes()).as_bytes());
                }
                source
            } else {
                let path = self.site_path(document, &value, spot.key(&name))?;
                match self.site.content(&path) {
                    Ok(content) if content.kind == SiteFileKind::Directory => digests.extend_from_slice(content.digest.as_bytes()),
                    Ok(_) => {
                        self.report(spot.key(&name).error(format!("{path} is a file, a context is a directory")));
                        return None;
                    }
                    Err(error) => {
                        self.unusable_file(spot.key(&name), &error);
                        return None;
                    }
                }
                BuildContextSource::Directory { path }
            };
            contexts.insert(name, source);
        }
        Some((contexts, digests))
    }

    fn archive(&mut self, document: &Document, archive: &str) -> Option<ImageSource> {
        let spot = document.spec().key("archive");
        let path = self.site_path(document, archive, spot)?;
        match self.site.content(&path) {
            Ok(content) if content.kind == SiteFileKind::File => Some(ImageSource::Archive { path, content: content.digest }),
            Ok(_) => {
                self.report(spot.error(format!("{path} is a directory, an archive is a file")));
                None
            }
            Err(error) => {
                self.unusable_file(spot, &error);
                None
            }
        }
    }

    /// What a container's `image` names. A name without a manifest is a reference, as in Docker.
    pub(super) fn image_key(&mut self, document: &Document, written: &str) -> Option<ImageKey> {
        let spot = document.spec().key("image");
        if let Some(name) = written.parse().ok().filter(|name| self.index.contains(Kind::Image, name)) {
            let key = ImageKey::Named(name);
            self.site.image(&key);
            return Some(key);
        }
        let reference: ImageReference = match written.parse() {
            Ok(reference) => reference,
            Err(problem) => {
                self.bad_value(spot, problem);
                return None;
            }
        };
        let plain = !written.contains(['/', ':', '@']);
        if let Some(near) = plain.then(|| self.index.nearest(Kind::Image, written)).flatten() {
            let doubt = spot.warning(format!("no Image of this site is called {written}: {reference} will be pulled"));
            self.report(doubt.help(format!("did you mean {near}?")));
        }
        let key = ImageKey::Reference(reference.clone());
        self.site.image(&key);
        self.desired.images.insert(key.clone(), Image { source: ImageSource::Pull { reference }, push: BTreeSet::new() });
        Some(key)
    }

    /// A path written in this document, relative to the site's root.
    pub(super) fn site_path(&mut self, document: &Document, written: &str, spot: Spot<'_>) -> Option<String> {
        path::relative_to(document.file(), written).map_err(|problem| self.bad_value(spot, problem)).ok()
    }

    pub(super) fn bad_value(&mut self, spot: Spot<'_>, problem: ValueError) {
        self.report(spot.error(problem.problem).help(problem.hint));
    }

    pub(super) fn unusable_file(&mut self, spot: Spot<'_>, error: &SiteFileError) {
        let mut problem = spot.error(error.to_string());
        if let SiteFileError::Missing { .. } = error {
            problem = problem.help("a path is relative to the directory of its manifest".to_owned());
        }
        let mut source = error.source();
        while let Some(cause) = source {
            problem = problem.note(cause.to_string());
            source = cause.source();
        }
        self.report(problem);
    }
}

/// Whether a context is an address, and no path of the site.
fn is_elsewhere(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@")
}

fn context_is_fine(error: &SiteFileError, context: &str) -> bool {
    match error {
        SiteFileError::Missing { path }
        | SiteFileError::WrongType { path, .. }
        | SiteFileError::Outside { path }
        | SiteFileError::TooLarge { path, .. }
        | SiteFileError::NotText { path }
        | SiteFileError::Dockerfile { path, .. }
        | SiteFileError::Read { path, .. } => path != context,
    }
}

/// Reports every cycle among images built from one another.
pub(super) fn check_cycles(index: &Index<'_>, desired: &Desired, problems: &mut Problems) {
    let graph: BTreeMap<&Name, BTreeSet<&Name>> = desired
        .images
        .iter()
        .filter_map(|(key, image)| match (key, &image.source) {
            (ImageKey::Named(name), ImageSource::Build { bases, .. }) => Some((name, bases.iter().collect())),
            (ImageKey::Named(_) | ImageKey::Reference(_), _) => None,
        })
        .collect();
    for cycle in dependencies::cycles(&graph) {
        let Some(document) = cycle.first().and_then(|name| index.find(Kind::Image, name)) else { continue };
        let path = cycle.iter().chain(cycle.first()).map(|name| name.as_str()).collect::<Vec<_>>().join(" -> ");
        let problem = document.spec().key("build").key_error(format!("image {} is built from itself: {path}", cycle[0]));
        problems.push(problem.help("name an image of a registry in full in FROM, such as docker.io/library/debian:12".to_owned()));
    }
}
