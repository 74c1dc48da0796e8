//! The process of a container: its words, environment, directory and host name.

use super::pairs::{self, PairKind};
use super::{Resolver, env_file, words};
use crate::manifest::{Container, TextOrList};
use crate::parse::{Document, Spot};
use crate::site::SiteFiles as _;
use crate::value::Name;
use std::collections::{BTreeMap, BTreeSet};

/// Longest host name the kernel takes: HOST_NAME_MAX of sethostname(2).
const HOSTNAME_BYTES_MAX: usize = 64;

impl Resolver<'_> {
    /// A command: a list as it is, a text split into words.
    pub(super) fn words(&mut self, written: Option<&TextOrList>, spot: Spot<'_>) -> Option<Vec<String>> {
        let words = match written? {
            TextOrList::Text(text) => words::split(text).map_err(|problem| self.bad_value(spot, problem)).ok()?,
            TextOrList::List(list) => list.iter().map(|word| word.0.clone()).collect(),
        };
        if words.iter().any(|word| word.contains('\0')) {
            self.report(spot.error("a word has a NUL byte, which no program can be given"));
        }
        Some(words)
    }

    /// `command` and `args`: the latter follow the former, or stand alone.
    pub(super) fn command(&mut self, document: &Document, container: &Container) -> Option<Vec<String>> {
        let command = self.words(container.command.as_ref(), document.spec().key("command"));
        let args = self.words(container.args.as_ref(), document.spec().key("args"));
        match (command, args) {
            (Some(mut command), Some(args)) => {
                command.extend(args);
                Some(command)
            }
            (command, args) => command.or(args),
        }
    }

    pub(super) fn entrypoint(&mut self, document: &Document, container: &Container) -> Option<Vec<String>> {
        self.words(container.entrypoint.as_ref(), document.spec().key("entrypoint"))
    }

    /// Environment files in order, then `env`.
    /// Every variable, and the names of those whose values come from files.
    pub(super) fn environment(&mut self, document: &Document, container: &Container) -> (BTreeMap<String, String>, BTreeSet<String>) {
        let spot = document.spec().key("envFiles");
        let files: Vec<(&str, Spot<'_>)> = match &container.env_files {
            None => Vec::new(),
            Some(TextOrList::Text(path)) => vec![(path, spot)],
            Some(TextOrList::List(paths)) => paths.iter().map(|path| path.0.as_str()).zip(spot.items()).collect(),
        };
        let mut environment = BTreeMap::new();
        for (written, spot) in files {
            let Some(path) = self.site_path(document, written, spot) else { continue };
            match self.site.read_text(&path) {
                Ok(text) => environment.extend(env_file::parse(&path, &text, &mut self.problems)),
                Err(error) => self.unusable_file(spot, &error),
            }
        }
        let spot = document.spec().key("env");
        let written = pairs::resolve(container.env.as_ref(), spot, PairKind::Variable, &mut self.problems);
        let from_files = environment.keys().filter(|name| !written.contains_key(*name)).cloned().collect();
        environment.extend(written);
        (environment, from_files)
    }

    pub(super) fn working_dir(&mut self, document: &Document, container: &Container) -> Option<String> {
        let directory = container.working_dir.as_ref()?;
        if !directory.starts_with('/') || directory.contains('\0') {
            let problem = document.spec().key("workingDir").error(format!("working directory {directory:?} is not absolute"));
            self.report(problem.help(format!("write /{directory}")));
        }
        Some(directory.clone())
    }

    pub(super) fn hostname(&mut self, document: &Document, name: &Name, container: &Container) -> String {
        let Some(hostname) = &container.hostname else { return name.to_string() };
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| {
            !label.is_empty() && label.len() <= 63 && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        };
        if hostname.len() > HOSTNAME_BYTES_MAX || !hostname.split('.').all(label) {
            let problem = document.spec().key("hostname").error(format!("{hostname:?} is not a host name"));
            let help = format!("use letters, digits and '-' between dots, at most {HOSTNAME_BYTES_MAX} characters");
            self.report(problem.help(help));
        }
        hostname.clone()
    }
}
