//! Which rules count: `# check=skip=A,B;experimental=C;error=true`.

use super::Rule;

/// Which rules count, and how much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    skip: Selection,
    experimental: Selection,
    /// `error=true`: what is found fails the build.
    pub(super) error: bool,
}

/// Some rules, by name: a name that no rule has selects none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Selection {
    all: bool,
    names: Vec<String>,
}

impl Selection {
    fn parse(text: &str) -> Self {
        Self { all: text == "all", names: text.split(',').map(|name| name.trim().to_owned()).collect() }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.names.contains(&rule.to_string())
    }
}

impl Options {
    /// Reads the value of a `check` directive. The error is what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
            match (key, value) {
                ("skip", value) => options.skip = Selection::parse(value),
                ("experimental", value) => options.experimental = Selection::parse(value),
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => options.error = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => options.error = false,
                ("error", value) => return Err(format!("error is true or false, not {value:?}")),
                (key, _) => return Err(format!("unknown check option {key:?}: there are skip, experimental and error")),
            }
        }
        Ok(options)
    }

    /// What the comments above an instruction say: `# check=skip=A`. One that is not right says nothing.
    pub(super) fn of_comments(comments: &[String]) -> Self {
        let values = comments.iter().filter_map(|comment| comment.strip_prefix("check")?.trim_start().strip_prefix('='));
        values.filter_map(|value| Self::parse(value.trim()).ok()).next().unwrap_or_default()
    }

    /// Whether a rule counts, given what the comments above the instruction add.
    pub(super) fn counts(&self, rule: Rule, here: &Self) -> bool {
        if rule.is_experimental() {
            self.experimental.has(rule) || here.experimental.has(rule)
        } else {
            !self.skip.has(rule) && !here.skip.has(rule)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directive_asks_for() {
        let counts = |text: &str, rule| Options::parse(text).expect(text).counts(rule, &Options::default());
        assert!(counts("", Rule::UndefinedVar));
        assert!(!counts("skip=all", Rule::UndefinedVar));
        assert!(!counts("skip=FromAsCasing, UndefinedVar;error=true", Rule::UndefinedVar));
        assert!(counts("skip=FromAsCasing", Rule::UndefinedVar));
        assert!(!counts("error=true", Rule::InvalidDefinitionDescription));
        assert!(counts("skip=all;experimental=InvalidDefinitionDescription", Rule::InvalidDefinitionDescription));
        assert!(counts("experimental=all", Rule::InvalidDefinitionDescription));
        assert!(Options::parse("skip=all;error=true").expect("parses").error);
        assert!(!Options::parse("error=0").expect("parses").error);
        assert_eq!(Options::parse("error=maybe").expect_err("refused"), "error is true or false, not \"maybe\"");
        assert!(Options::parse("warn=x").is_err());
        assert!(Options::parse("skip").is_ok());
    }

    #[test]
    fn a_comment_speaks_for_its_instruction() {
        let here = Options::of_comments(&["why".to_owned(), "check=skip=UndefinedVar".to_owned()]);
        assert!(!Options::default().counts(Rule::UndefinedVar, &here));
        assert_eq!(Options::of_comments(&["check=nonsense=1".to_owned(), "checked = x".to_owned()]), Options::default());
    }
}
