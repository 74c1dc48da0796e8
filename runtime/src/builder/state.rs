//! What a stage has become so far: configuration, layers, variables.

use super::cache::KeyBuilder;
use super::history;
use super::scope::Scope;
use super::share;
use super::words::{Lexer, WordError};
use crate::image::config::{History, ImageConfig};
use crate::image::platform::Platform;
use crate::image::store::Image;
use spec::value::Digest;
use std::path::PathBuf;

/// `PATH` of an image that says none, as Docker has it.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage in the making, or made.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// What the image will say of itself. Its environment is in `scope` until [`Self::finish`].
    pub config: ImageConfig,
    /// Directories of its layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Arguments and environment.
    pub scope: Scope,
    /// Whether this stage itself set a command: an ENTRYPOINT then leaves it alone.
    pub command_is_own: bool,
}

/// Whether an instruction made a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// Yes.
    Layer,
    /// No: it only says something, or changed nothing.
    Nothing,
}

impl State {
    /// Nothing yet: `FROM scratch`.
    pub(crate) fn scratch() -> Self {
        let mut config = ImageConfig::empty(&Platform::host());
        config.config.working_dir = "/".to_owned();
        let mut state = Self { config, layers: Vec::new(), scope: Scope::default(), command_is_own: false };
        state.ensure_path();
        state
    }

    /// What `FROM image` begins with.
    pub(crate) fn of_image(image: Image) -> Self {
        let mut scope = Scope::default();
        for variable in &image.config.config.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            scope.set(name.to_owned(), value.to_owned());
        }
        let mut state = Self { config: image.config, layers: image.layers, scope, command_is_own: false };
        // What says how the base was built says nothing of what is built on it.
        for field in share::FIELDS_OF_OTHERS.into_iter().chain([share::FIELD]) {
            state.config.other.remove(field);
        }
        state.ensure_path();
        state
    }

    /// What `FROM stage` begins with.
    pub(crate) fn of_stage(stage: &Self) -> Self {
        Self { command_is_own: false, ..stage.clone() }
    }

    /// Expands a text to one word with the stage's variables.
    pub(crate) fn word(&self, lexer: &Lexer, text: &str) -> Result<String, WordError> {
        lexer.word(text, &|name| self.scope.get(name))
    }

    /// The layers by content: what every cache key begins with.
    pub(crate) fn key(&self, kind: &str) -> KeyBuilder {
        KeyBuilder::new(kind, &self.config.rootfs.diff_ids)
    }

    /// Puts a layer on top.
    pub(crate) fn push_layer(&mut self, diff_id: Digest, directory: PathBuf) {
        self.config.rootfs.diff_ids.push(diff_id);
        self.layers.push(directory);
    }

    /// Notes how the image came to be.
    pub(crate) fn push_history(&mut self, created: &str, created_by: String, made: Made) {
        self.config.history.push(History {
            created: Some(created.to_owned()),
            created_by: Some(created_by),
            comment: Some(history::REMARK.to_owned()),
            empty_layer: made == Made::Nothing,
            ..History::default()
        });
    }

    /// The absolute working directory.
    pub(crate) fn working_dir(&self) -> &str {
        if self.config.config.working_dir.is_empty() { "/" } else { &self.config.config.working_dir }
    }

    /// A path seen from the working directory: absolute, without dots; a slash at the end stays, and `.` is a directory too.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.working_dir()) };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let slash =
            if (path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.")) && !parts.is_empty() { "/" } else { "" };
        format!("/{}{slash}", parts.join("/"))
    }

    /// The configuration with everything in it.
    pub(crate) fn finish(&self, created: &str) -> ImageConfig {
        let mut config = self.config.clone();
        config.config.env = self.scope.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        config.created = Some(created.to_owned());
        config
    }

    fn ensure_path(&mut self) {
        if self.scope.environment.iter().all(|(name, _)| name != "PATH") {
            self.scope.set("PATH".to_owned(), DEFAULT_PATH.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_working_directory() {
        let mut state = State::scratch();
        state.config.config.working_dir = "/srv/app".to_owned();
        let cases = [
            ("x", "/srv/app/x"),
            ("x/", "/srv/app/x/"),
            (".", "/srv/app/"),
            ("./", "/srv/app/"),
            ("", "/srv/app/"),
            ("..", "/srv"),
            ("../x", "/srv/x"),
            ("/a/./b/../c", "/a/c"),
            ("/", "/"),
            ("/../..", "/"),
            ("a/.", "/srv/app/a/"),
        ];
        for (path, expected) in cases {
            assert_eq!(state.absolute(path), expected, "{path}");
        }
    }
}
