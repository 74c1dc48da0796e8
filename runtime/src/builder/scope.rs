//! Build arguments and environment: which variable is what, where. Pure.

use super::words::{Lexer, WordError};
use crate::image::platform::Platform;
use std::collections::BTreeMap;

/// Arguments that RUN sees without being declared, and that are in no history and no cache key: they say how to reach the network,
/// not what to build.
const PROXIES: [&str; 10] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"];

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
    /// Declared arguments; `None` is declared without a value.
    arguments: BTreeMap<String, Option<String>>,
}

impl Globals {
    /// The platform arguments of this host, and the given ones where the file declares them.
    pub fn new(target: Option<&str>) -> Self {
        let platform = Platform::host();
        let mut values = BTreeMap::new();
        for side in ["TARGET", "BUILD"] {
            values.insert(format!("{side}PLATFORM"), platform.to_string());
            values.insert(format!("{side}OS"), platform.os.clone());
            values.insert(format!("{side}ARCH"), platform.architecture.clone());
            values.insert(format!("{side}VARIANT"), platform.variant.clone().unwrap_or_default());
        }
        values.insert("TARGETSTAGE".to_owned(), target.unwrap_or("default").to_owned());
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
    /// What a name stands for: the environment wins.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let environment = self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        environment.or_else(|| self.arguments.get(name).cloned().flatten())
    }

    /// Whether a name is declared as an argument, with or without a value.
    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.arguments.contains_key(name)
    }

    /// The names that have a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let arguments = self.arguments.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.as_str());
        self.environment.iter().map(|(name, _)| name.as_str()).chain(arguments)
    }

    /// `ARG name[=default]`: the given value, else the default, else the global value.
    pub(crate) fn declare(
        &mut self,
        name: &str,
        default: Option<&str>,
        given: &BTreeMap<String, String>,
        globals: &Globals,
        lexer: &Lexer,
    ) -> Result<(), WordError> {
        let name = lexer.word(name, &|name| self.get(name))?;
        let value = match (given.get(&name), default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(text)) => Some(lexer.word(text, &|name| self.get(name))?),
            (None, None) => globals.get(&name),
        };
        self.arguments.insert(name, value);
        Ok(())
    }

    /// Sets an environment variable in its old place, or at the end.
    pub(crate) fn set(&mut self, name: String, value: String) {
        match self.environment.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.environment.push((name, value)),
        }
    }

    /// What a RUN step's result may depend on: arguments and, over them, the environment.
    pub(crate) fn run_environment(&self) -> BTreeMap<String, String> {
        let arguments = self.arguments.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        arguments.chain(self.environment.iter().cloned()).collect()
    }

    /// Proxy arguments that were given but not declared.
    pub(crate) fn proxies(&self, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let undeclared = PROXIES.iter().filter(|name| self.get(name).is_none());
        undeclared.filter_map(|name| Some(((*name).to_owned(), given.get(*name)?.clone()))).collect()
    }
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
        let mut globals = Globals::new(None);
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
        scope.set("A".to_owned(), "env".to_owned());
        assert_eq!(scope.get("A").as_deref(), Some("env"));
        assert_eq!(scope.run_environment().get("A").map(String::as_str), Some("env"));
        assert_eq!(scope.proxies(&args), given(&[("HTTP_PROXY", "p")]));
        assert!(globals.get("TARGETOS").is_some());
        let required = Some("${NOPE:?say which}");
        assert_eq!(globals.declare("A", required, &args, &lexer), Ok(()), "a default that is not needed is not looked at");
        assert!(globals.declare("Z", required, &args, &lexer).is_err());
        assert_eq!(scope.declare("A", required, &args, &globals, &lexer), Ok(()));
        assert!(scope.declare("Z", required, &args, &globals, &lexer).is_err());
    }
}
