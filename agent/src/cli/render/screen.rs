//! The lower end of a terminal, where a live view is drawn over itself. Pure: it gives the text that draws.
//!
//! Nothing is set that would have to be put back: the cursor waits below the view, where the next prompt belongs. However the
//! process ends, the screen is sane.

use super::text::width;
use std::fmt::Write as _;

/// How much of a terminal can be drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns of a line. The terminal's last one stays empty: what a terminal does behind it differs.
    pub columns: usize,
    /// Lines. The terminal's last one belongs to the cursor.
    pub rows: usize,
}

impl Size {
    /// Of a terminal of so many columns and rows; one that does not know has the usual size.
    pub fn of_terminal(columns: u16, rows: u16) -> Self {
        let known = |count: u16, usual: usize| if count == 0 { usual } else { usize::from(count) };
        Self { columns: known(columns, 80).saturating_sub(1).max(1), rows: known(rows, 24).saturating_sub(1).max(1) }
    }
}

/// What is drawn now.
#[derive(Debug, Default)]
pub struct Screen {
    lines: Vec<String>,
}

impl Screen {
    /// An empty screen.
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// Whether nothing is drawn.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines that are drawn.
    pub fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }

    /// Text that draws these lines over those that are there. Each has at most the columns of `size`.
    pub fn draw(&mut self, lines: Vec<String>, size: Size) -> String {
        if lines == self.lines {
            return String::new();
        }
        let mut text = self.back(size);
        self.lines = lines;
        self.write(&mut text);
        text
    }

    /// Text that writes other text, of whole lines, above what is drawn.
    pub fn above(&self, other: &str, size: Size) -> String {
        let mut text = self.back(size);
        // Cleared first: what is written may be shorter than what was there.
        text.push_str(if self.is_empty() { "" } else { "\x1b[J" });
        text.push_str(other);
        self.write(&mut text);
        text
    }

    /// Text that takes away what is drawn.
    pub fn clear(&mut self, size: Size) -> String {
        let mut text = self.back(size);
        text.push_str(if self.is_empty() { "" } else { "\x1b[J" });
        self.lines.clear();
        text
    }

    /// Leaves what is drawn where it is: the next thing is written below it.
    pub fn leave(&mut self) {
        self.lines.clear();
    }

    /// Leads the cursor back to where the first line begins. A terminal that got narrower meanwhile has broken long lines in two.
    fn back(&self, size: Size) -> String {
        let rows: usize = self.lines.iter().map(|line| width(line).div_ceil(size.columns + 1).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\r\x1b[{rows}A") }
    }

    fn write(&self, text: &mut String) {
        for line in &self.lines {
            // Whatever stood there before ends with the line, not with a flicker before it.
            writeln!(text, "{line}\x1b[K").expect("a string takes all");
        }
        text.push_str(if self.is_empty() { "" } else { "\x1b[J" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 79, rows: 23 };

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_view_is_drawn_over_itself() {
        let mut screen = Screen::new();
        assert_eq!(screen.draw(lines(&["a", "b"]), SIZE), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(screen.draw(lines(&["a", "b"]), SIZE), "", "nothing has changed");
        assert_eq!(screen.draw(lines(&["c"]), SIZE), "\r\x1b[2Ac\x1b[K\n\x1b[J");
        assert_eq!(screen.above("said\n", SIZE), "\r\x1b[1A\x1b[Jsaid\nc\x1b[K\n\x1b[J");
        assert_eq!(screen.clear(SIZE), "\r\x1b[1A\x1b[J");
        assert_eq!((screen.above("said\n", SIZE), screen.clear(SIZE)), ("said\n".to_owned(), String::new()));
    }

    #[test]
    fn lines_that_a_narrower_terminal_broke_are_drawn_over_too() {
        let mut screen = Screen::new();
        screen.draw(lines(&[&"x".repeat(70), "y"]), SIZE);
        let narrow = Size::of_terminal(40, 24);
        assert!(screen.draw(lines(&["z"]), narrow).starts_with("\r\x1b[3A"));
        screen.leave();
        assert_eq!(screen.draw(lines(&["below"]), narrow), "below\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_terminal_that_knows_no_size_has_the_usual_one() {
        assert_eq!(Size::of_terminal(0, 0), SIZE);
        assert_eq!(Size::of_terminal(1, 1), Size { columns: 1, rows: 1 });
    }
}
