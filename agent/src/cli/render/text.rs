//! Text as a terminal takes it: what it may hold, how wide it is, cut to fit. Pure.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;
use unicode_width::UnicodeWidthChar as _;

/// Columns between two tab stops.
const TAB_COLUMNS: usize = 8;
/// The escape that ends all colours.
const PLAIN: &str = "\x1b[0m";

/// Text of others, such as a build's output, without what would steer the terminal: of the control characters only line ends and tabs
/// stay, of the escape sequences only colours, and those end with their line. Of a line that was written over (a carriage return, as
/// in progress bars) its last form stays.
pub fn tame(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|it| it.is_control() && it != '\n' && it != '\t') {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let line = line.trim_end_matches('\r');
        let last = line.rsplit('\r').next().unwrap_or_default();
        let mut coloured = false;
        let mut chars = last.chars().peekable();
        while let Some(next) = chars.next() {
            match next {
                '\x1b' => {
                    if let Some(colour) = colour(&mut chars) {
                        coloured = !matches!(colour.as_str(), "" | "0");
                        tamed.push_str("\x1b[");
                        tamed.push_str(&colour);
                        tamed.push('m');
                    }
                }
                '\t' => tamed.push('\t'),
                next if next.is_control() => {}
                next => tamed.push(next),
            }
        }
        tamed.push_str(if coloured { PLAIN } else { "" });
        tamed.push_str(end);
    }
    Cow::Owned(tamed)
}

/// Reads an escape sequence behind its ESC; gives the parameters if it only sets colours. ECMA-48, 5.3 to 5.6 and 8.3.117.
fn colour(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    match chars.peek()? {
        '[' => {
            chars.next();
            let mut parameters = String::new();
            while let Some(next) = chars.next_if(|it| (' '..='?').contains(it)) {
                parameters.push(next);
            }
            let last = chars.next_if(|it| ('@'..='~').contains(it))?;
            let is_colour = last == 'm' && parameters.chars().all(|it| it.is_ascii_digit() || it == ';' || it == ':');
            is_colour.then_some(parameters)
        }
        // A string for the terminal, such as its title: up to BEL or ST. One without an end takes the rest of the line.
        ']' | 'P' | 'X' | '^' | '_' => {
            while let Some(next) = chars.next() {
                if next == '\x07' || next == '\u{9c}' || (next == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
            None
        }
        _ => {
            while chars.next_if(|it| (' '..='/').contains(it)).is_some() {}
            chars.next_if(|it| ('0'..='~').contains(it));
            None
        }
    }
}

/// Columns that a text takes, colours left out.
pub fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).flat_map(|part| part.chars()).map(|next| next.width().unwrap_or_default()).sum()
}

/// A line of plain text in at most so many columns: without colours, tabs as spaces, cut with an ellipsis if it is longer.
pub fn fit(line: &str, columns: usize) -> String {
    let mut fitted = String::new();
    let mut used = 0;
    // Where an ellipsis still fits: length of the text up to there.
    let mut cut = 0;
    for next in anstream::adapter::strip_str(&tame(line)).flat_map(|part| part.chars()) {
        let wide = if next == '\t' { TAB_COLUMNS - used % TAB_COLUMNS } else { next.width().unwrap_or_default() };
        if used + wide > columns {
            fitted.truncate(cut);
            fitted.push_str(if columns > 0 { "…" } else { "" });
            return fitted;
        }
        match next {
            '\t' => fitted.extend(std::iter::repeat_n(' ', wide)),
            next => fitted.push(next),
        }
        used += wide;
        if used < columns {
            cut = fitted.len();
        }
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_left_out() {
        for (text, tamed) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[2J\x1b[Hcleared", "cleared"),
            ("\x1b]0;title\x07named\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "namedlink"),
            ("\x1b]never ended\nnext", "\nnext"),
            ("\x1b[31mred\x1b[0m and \x1b[38;2;1;2;3mmore\nnext", "\x1b[31mred\x1b[0m and \x1b[38;2;1;2;3mmore\x1b[0m\nnext"),
            ("\x1b[?25l\x1b[>1m\x1b(B\x1b7\x1bcreset", "reset"),
            ("bell\x07 back\x08 null\0 \u{9b}31mc1\u{7f}", "bell back null 31mc1"),
            ("10 %\r50 %\r100 %\r\nnext\r\n", "100 %\nnext\n"),
            ("cut short\x1b", "cut short"),
            ("cut short\x1b[3", "cut short"),
        ] {
            assert_eq!(tame(text), tamed, "{text:?}");
        }
    }

    #[test]
    fn lines_are_cut_by_columns() {
        for (line, columns, fitted) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("a\tb", 20, "a       b"),
            ("\x1b[31mred\x1b[0mness", 5, "redn…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
            ("x", 0, ""),
        ] {
            let cut = fit(line, columns);
            assert_eq!(cut, fitted, "{line:?} in {columns}");
            assert!(width(&cut) <= columns);
        }
    }
}
