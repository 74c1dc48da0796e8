//! What is wrong with a site, where, and what to write instead.
//!
//! A diagnostic carries the source line it talks about, so that it can be stored, sent as JSON and rendered without the file.

mod problems;
mod render;
mod source;

use crate::desired::Location;
use serde::{Deserialize, Serialize};

pub(crate) use problems::Problems;
pub use render::{Style, render, render_all};
pub(crate) use source::{Source, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The site is refused.
    Error,
    /// The site is accepted, and probably does not do what was meant.
    Warning,
}

/// A stretch of one line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Where it begins.
    #[serde(flatten)]
    pub location: Location,
    /// How many characters of the line it covers; 0 is a point.
    pub length: u32,
    /// The whole source line without its end; `None` if the problem is with the file as a whole or the line is overlong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A few words beside the underline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// One problem of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, one clause without a full stop: `unknown field "imge"`.
    pub message: String,
    /// Where it is.
    pub place: Place,
    /// Other places that explain it, each with a label: `first defined here`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Place>,
    /// Facts that explain it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem that refuses the site.
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), place, related: Vec::new(), notes: Vec::new(), help: None }
    }

    /// A problem that does not.
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// A problem with a file as a whole: it cannot be read, is too large, is not text.
    pub fn file(path: &str, message: impl Into<String>) -> Self {
        let location = Location { file: path.into(), line: 1, column: 1 };
        Self::error(Place { location, length: 0, text: None, label: None }, message)
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into().or(self.help);
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds another place with words beside it.
    #[must_use]
    pub fn related(mut self, mut place: Place, label: impl Into<String>) -> Self {
        place.label = Some(label.into());
        self.related.push(place);
        self
    }

    /// Puts a few words beside the underline.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.place.label = Some(label.into());
        self
    }

    /// The order in which problems are shown: by file, line, column, then message.
    pub fn sort_key(&self) -> (&Location, Severity, &str) {
        (&self.place.location, self.severity, &self.message)
    }
}

/// Sorts problems into the order in which they are shown, each once.
pub fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    diagnostics.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Diagnostic {
        let location = Location { file: "web.yaml".into(), line: 7, column: 3 };
        let place = Place { location, length: 4, text: Some("  imge: nginx".to_owned()), label: None };
        Diagnostic::error(place, "unknown field \"imge\"").help("write `image`".to_owned())
    }

    #[test]
    fn plain_text_looks_like_rustc() {
        let expected = "\
error: unknown field \"imge\"
 --> web.yaml:7:3
  |
7 |   imge: nginx
  |   ^^^^
  |
  = help: write `image`
";
        assert_eq!(render(&example(), Style::Plain), expected);
    }

    #[test]
    fn colour_adds_escapes_and_nothing_else() {
        let coloured = render(&example(), Style::Coloured);
        assert!(coloured.contains("\u{1b}["));
        let mut plain = String::new();
        let mut escape = false;
        for c in coloured.chars() {
            match (escape, c) {
                (false, '\u{1b}') => escape = true,
                (false, c) => plain.push(c),
                (true, 'm') => escape = false,
                (true, _) => {}
            }
        }
        assert_eq!(plain, render(&example(), Style::Plain));
    }

    #[test]
    fn json_names_the_place_flat_and_reads_back() {
        let json = serde_json::to_value(example()).expect("a diagnostic is plain data");
        assert_eq!(json["place"]["file"], "web.yaml");
        assert_eq!(json["place"]["column"], 3);
        assert_eq!(json["severity"], "error");
        assert_eq!(json.get("notes"), None);
        assert_eq!(serde_json::from_value::<Diagnostic>(json).expect("it reads back"), example());
    }

    #[test]
    fn a_problem_of_a_whole_file_has_no_excerpt() {
        let text = render(&Diagnostic::file("big.yaml", "the file is too large"), Style::Plain);
        assert_eq!(text, "error: the file is too large\n--> big.yaml:1:1\n");
    }

    #[test]
    fn a_wide_character_before_the_place_does_not_shift_the_underline() {
        let location = Location { file: "a.yaml".into(), line: 1, column: 7 };
        let place = Place { location, length: 1, text: Some("\"ä\": [x]".to_owned()), label: None };
        let text = render(&Diagnostic::error(place, "m"), Style::Plain);
        assert!(text.contains(" --> a.yaml:1:7\n"), "{text}");
    }
}
