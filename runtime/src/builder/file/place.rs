//! Where in a Dockerfile something stands, and errors that show it.

use std::fmt;

/// A place in a Dockerfile, with the line that stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name as the user gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole line.
    pub text: String,
}

/// Something in a Dockerfile that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub problem: String,
    /// What to write instead, if that can be guessed.
    pub hint: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Place {
    /// The line with its number, and a mark below the column.
    pub fn excerpt(&self) -> String {
        let number = self.line.to_string();
        let blank = " ".repeat(number.len());
        // Tabs stay tabs in the margin too, so that the mark stands below what it means.
        let margin: String = self.text.chars().take(self.column.saturating_sub(1)).map(|c| if c == '\t' { c } else { ' ' }).collect();
        format!("{number} | {}\n{blank} | {margin}^", self.text)
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n{}", self.place, self.problem, self.place.excerpt())?;
        match &self.hint {
            Some(hint) => write!(f, " {hint}"),
            None => Ok(()),
        }
    }
}

/// The known word nearest to a mistyped one, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|candidate| (distance(word, candidate), candidate)).min()?;
    (best.0 <= word.len().max(2) / 3 + 1 && best.0 < best.1.len()).then_some(best.1)
}

/// Edits (insert, delete, change, swap of neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            let swapped = if swap { rows[i - 2][j - 2] + 1 } else { usize::MAX };
            row.push(change.min(swapped).min(rows[i - 1][j] + 1).min(row[j - 1] + 1));
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn mistyped_words_find_their_neighbour() {
        let known = ["FROM", "RUN", "COPY", "ENTRYPOINT", "ENV"];
        assert_eq!(nearest("FORM", known), Some("FROM"));
        assert_eq!(nearest("COPPY", known), Some("COPY"));
        assert_eq!(nearest("ENTRYPIONT", known), Some("ENTRYPOINT"));
        assert_eq!(nearest("XYZZY", known), None);
    }
}
