//! Build arguments and environment: which variable is what, where. Pure.

use super::words::{Lexer, WordError};
use crate::image::platform::Platform;
use std::collections::BTreeMap;

/// Arguments that RUN sees without being declared, and that are in no history and no cache key: they say how to reach the network,
/// not what to build.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The arguments before the first FROM.
#[derive(Debug, Clone, Default)]
pub struct Globals {
    values: BTreeMap<String, String>,
}

/// Arguments and environment inside a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Environment of the image, in order.
    pub environment: Vec<(String, String)>,
    /// Declared arguments, in order; `None` is declared and has no value, or one that an ENV after it took over.
    arguments: Vec<(String, Option<String>)>,
}

impl Globals {
    /// The platform arguments: this host's, or as given.
    pub fn new(target: Option<&str>, given: &BTreeMap<String, String>) -> Self {
        let platform = Platform::host();
        let mut values = BTreeMap::new();
        for side in ["TARGET", "BUILD"] {
            values.insert(format!("{side}PLATFORM"), platform.to_string());
            values.insert(format!("{side}OS"), platform.os.clone());
            values.insert(format!("{side}ARCH"), platform.architecture.clone());
            values.insert(format!("{side}VARIANT"), platform.variant.clone().unwrap_or_default());
        }
        values.insert("TARGETSTAGE".to_owned(), target.unwrap_or("default").to_owned());
        for (name, value) in &mut values {
            if let Some(given) = given.get(name) {
                value.clone_from(given);
            }
        }
        Self { values }
    }

    /// `ARG name[=default]` before the first FROM.
    pub fn declare(&mut self, name: &str, default: Option<&str>, given: &BTreeMap<String, String>, lexer: &Lexer) -> Result<(), WordError> {
        let name = lexer.word(name, &|name| self.get(name))?;
        let value = match (given.get(&name), default) {
            // A default that is not needed may well be wrong: `${A:?say which}`.
            (Some(value), _) => Some(value.clone()),
            (None, Some(text)) => Some(lexer.word(text, &|name| self.get(name))?),
            (None, None) => None,
        };
        if let Some(value) = value {
            self.values.insert(name, value);
        }
        Ok(())
    }

    /// The names that have a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A value, if there is one.
    pub fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}

impl Scope {
    /// What a name stands for: ARG and ENV are one scope, the later instruction wins.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let environment = || self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        self.arguments.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.clone()).or_else(environment)
    }

    /// The names declared as arguments, with or without a value, in order.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(|(name, _)| name.as_str())
    }

    /// The names that have a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let arguments = self.arguments.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.as_str());
        self.environment.iter().map(|(name, _)| name.as_str()).chain(arguments)
    }

    /// `ARG name[=default]`: the given value, else the default, else the global value, else what the name stood for before. Returns the
    /// name and which of the first three it was.
    pub(crate) fn declare(
        &mut self,
        name: &str,
        default: Option<&str>,
        given: &BTreeMap<String, String>,
        globals: &Globals,
        lexer: &Lexer,
    ) -> Result<(String, Option<String>), WordError> {
        let name = lexer.word(name, &|name| self.get(name))?;
        let value = match (given.get(&name), default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(text)) => Some(lexer.word(text, &|name| self.get(name))?),
            (None, None) => globals.get(&name),
        };
        match (self.arguments.iter_mut().find(|(known, _)| *known == name), &value) {
            (None, value) => self.arguments.push((name.clone(), value.clone())),
            (Some((_, declared)), Some(value)) => *declared = Some(value.clone()),
            (Some(_), None) => {}
        }
        Ok((name, value))
    }

    /// Sets an environment variable in its old place, or at the end.
    pub(crate) fn set(&mut self, name: String, value: String) {
        if let Some((_, argument)) = self.arguments.iter_mut().find(|(known, _)| *known == name) {
            *argument = None;
        }
        match self.environment.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.environment.push((name, value)),
        }
    }

    /// What a RUN step's result may depend on: the environment and, over it, the arguments declared after it.
    pub(crate) fn run_environment(&self) -> BTreeMap<String, String> {
        let arguments = self.arguments.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        self.environment.iter().cloned().chain(arguments).collect()
    }
}

/// Proxies that were given, declared or not, in both spellings: programs look for the one or the other.
pub(crate) fn proxies(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut proxies = BTreeMap::new();
    for (name, value) in given.iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(name) = PROXIES.iter().find(|known| name.eq_ignore_ascii_case(known)) {
            proxies.insert((*name).to_owned(), value.clone());
            proxies.insert(name.to_ascii_lowercase(), value.clone());
        }
    }
    proxies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn who_wins() {
        let lexer = Lexer::new('\\');
        let args = given(&[("A", "given"), ("HTTP_PROXY", "p")]);
        let mut globals = Globals::new(None, &given(&[("TARGETARCH", "z80")]));
        for (name, default) in [("A", Some("ga")), ("B", Some("gb")), ("C", Some("$B-c")), ("D", None)] {
            globals.declare(name, default, &args, &lexer).expect("global");
        }
        assert_eq!(
            ["A", "B", "C", "D"].map(|name| globals.get(name)),
            [Some("given"), Some("gb"), Some("gb-c"), None].map(|v| v.map(str::to_owned))
        );
        let mut scope = Scope::default();
        assert_eq!(scope.get("B"), None, "a global argument is not seen in a stage before it is declared there");
        for (name, default) in [("A", Some("sa")), ("B", None), ("C", Some("sc")), ("D", None), ("E", Some("${B}x"))] {
            scope.declare(name, default, &args, &globals, &lexer).expect("stage");
        }
        let seen = ["A", "B", "C", "D", "E"].map(|name| scope.get(name));
        assert_eq!(seen, [Some("given"), Some("gb"), Some("sc"), None, Some("gbx")].map(|v| v.map(str::to_owned)));
        scope.declare("E", None, &args, &globals, &lexer).expect("again");
        assert_eq!(scope.get("E").as_deref(), Some("gbx"), "declared once more without a value it keeps the one it has");
        for (value, argument) in [("env", None), ("env", Some("arg"))] {
            scope.set("F".to_owned(), value.to_owned());
            scope.declare("F", argument, &args, &globals, &lexer).expect("stage");
            assert_eq!(scope.get("F").as_deref(), argument.or(Some(value)), "the later of ENV and ARG");
            assert_eq!(scope.run_environment().get("F").map(String::as_str), argument.or(Some(value)));
        }
        scope.set("F".to_owned(), "last".to_owned());
        assert_eq!(scope.get("F").as_deref(), Some("last"));
        assert_eq!(scope.declared().collect::<Vec<_>>(), ["A", "B", "C", "D", "E", "F"]);
        assert_eq!(proxies(&args), given(&[("HTTP_PROXY", "p"), ("http_proxy", "p")]));
        assert!(globals.get("TARGETOS").is_some());
        assert_eq!(globals.get("TARGETARCH").as_deref(), Some("z80"));
        let required = Some("${NOPE:?say which}");
        assert_eq!(globals.declare("A", required, &args, &lexer), Ok(()), "a default that is not needed is not looked at");
        assert!(globals.declare("Z", required, &args, &lexer).is_err());
        assert!(scope.declare("A", required, &args, &globals, &lexer).is_ok());
        assert!(scope.declare("Z", required, &args, &globals, &lexer).is_err());
    }
}
