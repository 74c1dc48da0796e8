//! The only printer: data goes to standard output, everything said about it to standard error.

mod screen;
mod text;

pub use screen::Size;
pub use text::{fit, tame, width};

use super::Color;
use crate::plan::action::Plan;
use anstyle::{AnsiColor, Style};
use screen::Screen;
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Colours of the parts of speech, the sixteen every terminal has.
pub mod style {
    use super::{AnsiColor, Style};

    /// Something made, started, fine.
    pub const GOOD: Style = AnsiColor::Green.on_default();
    /// Something changed in place, or to look at.
    pub const CHANGED: Style = AnsiColor::Yellow.on_default();
    /// Something removed, failed.
    pub const BAD: Style = AnsiColor::Red.on_default();
    /// Something done, in a list of what is under way.
    pub const DONE: Style = AnsiColor::Cyan.on_default();
    /// Something beside the point.
    pub const FAINT: Style = Style::new().dimmed();
    /// Headings, names.
    pub const STRONG: Style = Style::new().bold();
    /// `error:`
    pub const ERROR: Style = AnsiColor::Red.on_default().bold();
    /// `warning:`
    pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    /// `hint:`
    pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
}

/// Spaces between the columns of a table, as Docker and kubectl have it.
const COLUMN_GAP: usize = 3;

/// What is drawn at the lower end of the terminal. There is one of both in a process.
static SCREEN: Mutex<Screen> = Mutex::new(Screen::new());

/// How and where things are printed.
#[derive(Debug, Clone, Copy)]
pub struct Render {
    /// Whether data is printed as JSON.
    pub json: bool,
}

impl Render {
    /// Takes the choice of colour for the whole process, and the choice of JSON.
    pub(super) fn new(json: bool, color: Color) -> Self {
        match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::AlwaysAnsi,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        Self { json }
    }

    /// Text for standard output, as it is. A reader that went away (`| head`) ends the process quietly.
    pub fn text(self, text: &str) {
        let mut screen = screen();
        let below = screen.lines();
        write_raw(&screen.clear(terminal()));
        let mut out = anstream::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
        write_raw(&screen.draw(below, terminal()));
    }

    /// One line for standard output.
    pub fn line(self, line: impl Display) {
        self.text(&format!("{}\n", tame(&line.to_string())));
    }

    /// The one thing a command came to, such as an id: a line of it alone, or JSON under this key.
    pub fn answer(self, key: &str, value: impl Display) {
        if self.json {
            self.json_line(&serde_json::json!({ key: value.to_string() }));
        } else {
            self.line(value);
        }
    }

    /// One object as one line of JSON on standard output.
    pub fn json_line(self, value: &impl Serialize) {
        let json = serde_json::to_string(value).expect("our own values have text keys and finite numbers");
        self.text(&format!("{json}\n"));
    }

    /// One object as indented JSON on standard output.
    pub fn json_document(self, value: &impl Serialize) {
        let json = serde_json::to_string_pretty(value).expect("our own values have text keys and finite numbers");
        self.text(&format!("{json}\n"));
    }

    /// Rows under headings, or one JSON object a row.
    pub fn rows<T: Serialize>(self, headings: &[&str], rows: &[T], cells: impl Fn(&T) -> Vec<String>) {
        if self.json {
            rows.iter().for_each(|row| self.json_line(row));
            return;
        }
        table(headings, rows, cells).iter().for_each(|line| self.line(line));
    }

    /// Something said about the work, on standard error.
    pub fn say(self, line: impl Display) {
        self.say_text(&format!("{}\n", tame(&line.to_string())));
    }

    /// Text for standard error, as it is.
    pub fn say_text(self, text: &str) {
        let screen = screen();
        if screen.is_empty() {
            // Standard error that is gone leaves nobody to tell.
            let _ = anstream::stderr().lock().write_all(text.as_bytes());
        } else {
            write_raw(&screen.above(&self.coloured(text), terminal()));
        }
    }

    /// Draws the lines of a live view over those drawn before, on standard error, a terminal.
    pub fn draw(self, lines: &[String]) {
        let lines = lines.iter().map(|line| self.coloured(line)).collect();
        write_raw(&screen().draw(lines, terminal()));
    }

    /// Takes the live view away.
    pub fn clear(self) {
        write_raw(&screen().clear(terminal()));
    }

    /// Leaves the live view as it is drawn; what comes next is written below it.
    pub fn leave(self) {
        screen().leave();
    }

    /// Of the terminal that is standard error.
    pub fn size(self) -> Size {
        terminal()
    }

    fn coloured(self, text: &str) -> String {
        if self.colours_errors() { text.to_owned() } else { anstream::adapter::strip_str(text).to_string() }
    }

    /// Something that should be known, on standard error.
    pub fn warn(self, line: impl Display) {
        self.say(format_args!("{} {line}", paint(style::WARNING, "warning:")));
    }

    /// A failure with its chain of reasons and its remedy, on standard error; as JSON on standard output where JSON was asked for.
    pub fn failure(self, error: &anyhow::Error, hint: Option<&str>) {
        if self.json {
            let reasons: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            self.json_line(&serde_json::json!({"type": "error", "message": error.to_string(), "reasons": reasons, "hint": hint}));
        }
        self.say(format_args!("{} {error}", paint(style::ERROR, "error:")));
        for reason in error.chain().skip(1) {
            self.say(format_args!("  {} {reason}", paint(style::FAINT, "because:")));
        }
        if let Some(hint) = hint {
            self.say(format_args!("  {} {hint}", paint(style::HINT, "hint:")));
        }
    }

    /// Whether standard error takes colours: what was asked for, else what the terminal and `NO_COLOR` say.
    pub fn colours_errors(self) -> bool {
        anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
    }

    /// Whether standard error is a terminal.
    pub fn is_terminal(self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Whether a person watches standard error, on a terminal that can be drawn on, and has not asked for plain text.
    pub fn is_watched(self) -> bool {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        !self.json && self.is_terminal() && !is_dumb && !is_set("NO_COLOR")
    }
}

/// Rows under headings, as lines.
pub fn table<T>(headings: &[&str], rows: &[T], cells: impl Fn(&T) -> Vec<String>) -> Vec<String> {
    let cells: Vec<Vec<String>> =
        std::iter::once(headings.iter().map(|heading| heading.to_uppercase()).collect()).chain(rows.iter().map(cells)).collect();
    let width_of = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width_of).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, column) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', column - width(cell) + COLUMN_GAP));
        }
        line.trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

fn screen() -> MutexGuard<'static, Screen> {
    // Every change of it is whole before the lock is given up.
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn terminal() -> Size {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(Size::of_terminal(0, 0), |size| Size::of_terminal(size.ws_col, size.ws_row))
}

/// Text that steers the terminal, in one piece. A terminal that went away needs none.
fn write_raw(text: &str) {
    if !text.is_empty() {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// A plan in colours: each block by what happens to its resource.
pub fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for line in plan.to_string().lines() {
        let line = match line.split(' ').next() {
            Some("+" | ">") => paint(style::GOOD, line),
            Some("~" | "!" | "+/-" | "-/+") => paint(style::CHANGED, line),
            Some("-") => paint(style::BAD, line),
            Some("Blocked:") => paint(style::ERROR, line),
            Some("Plan:" | "Nothing") => paint(style::STRONG, line),
            Some(_) | None => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Text in a style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
