//! Live views: state that is told what happens and says how it looks at a moment, drawn over itself where a person watches.

mod images;
mod steps;
mod teller;

pub(super) use images::Images;
pub(super) use steps::Progress;
pub(super) use teller::{Kind, Teller};

use super::render::{Render, Size, fit, paint, style, width};
use anstyle::Style;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a view is drawn: often enough for running seconds, seldom enough to cost nothing. What is over before the first time is
/// shown once, as it ended.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Fewest columns between what a line says and its time.
const GAP: usize = 2;

/// State that can be drawn.
pub(super) trait View: Send + 'static {
    /// How it looks at a moment: at most `size.rows` lines of at most `size.columns` columns.
    fn lines(&self, at: Instant, size: Size) -> Vec<String>;
}

/// A view that is drawn until it ends. Dropped without an end, it is taken away.
pub(super) struct Live<V> {
    render: Render,
    view: Arc<Mutex<V>>,
    /// Whoever draws it, and what tells them to stop.
    drawer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl<V: View> Live<V> {
    /// Begins to draw a view.
    pub(super) fn new(render: Render, view: V) -> Self {
        let view = Arc::new(Mutex::new(view));
        let (stop, stopped) = channel();
        let drawn = Arc::clone(&view);
        let drawer = std::thread::spawn(move || {
            while stopped.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
                render.draw(&drawn.lock().unwrap_or_else(PoisonError::into_inner).lines(Instant::now(), render.size()));
            }
        });
        Self { render, view, drawer: Some((stop, drawer)) }
    }

    /// Tells the view something.
    pub(super) fn tell(&self, what: impl FnOnce(&mut V)) {
        what(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Draws the view a last time, as long as it is, and leaves it there.
    pub(super) fn leave(mut self) {
        self.stop();
        let all = Size { rows: usize::MAX, ..self.render.size() };
        self.render.draw(&self.view.lock().unwrap_or_else(PoisonError::into_inner).lines(Instant::now(), all));
        self.render.leave();
    }

    fn stop(&mut self) {
        if let Some((stop, drawer)) = self.drawer.take() {
            drop(stop);
            // A panic of it has been printed; a view more or less changes nothing.
            let _ = drawer.join();
        }
    }
}

impl<V> Drop for Live<V> {
    fn drop(&mut self) {
        if let Some((stop, drawer)) = self.drawer.take() {
            drop(stop);
            // As above.
            let _ = drawer.join();
            self.render.clear();
        }
    }
}

/// How a row looks, and how soon it gives way where there are more rows than lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// Over and well: goes first, the oldest before all others.
    Done,
    /// More about the row above.
    Detail,
    /// Under way.
    Running,
    /// Broken off.
    Stopped,
    /// Failed.
    Failed,
}

/// A row before it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    look: Look,
    /// How far it is indented below another.
    depth: usize,
    text: String,
    /// What stands at the end of the line.
    time: Option<Duration>,
}

/// Rows below a heading as lines.
fn lay_out(heading: &str, rows: Vec<Row>, size: Size) -> Vec<String> {
    let heading = paint(style::STRONG, fit(heading, size.columns));
    let rows = choose(rows, size.rows.saturating_sub(1));
    std::iter::once(heading).chain(rows.iter().map(|row| line(row, size.columns))).collect()
}

/// As many rows as there are lines for: what matters least goes first, and of that the oldest.
fn choose(mut rows: Vec<Row>, lines: usize) -> Vec<Row> {
    for look in [Look::Done, Look::Detail, Look::Running, Look::Stopped, Look::Failed] {
        let mut surplus = rows.len().saturating_sub(lines);
        rows.retain(|row| {
            let goes = surplus > 0 && row.look == look;
            surplus -= usize::from(goes);
            !goes
        });
    }
    rows
}

/// ` => => text      1.2s`, as BuildKit has it.
fn line(row: &Row, columns: usize) -> String {
    let time = row.time.map(seconds).unwrap_or_default();
    let style = match row.look {
        Look::Done => style::DONE,
        Look::Detail => style::FAINT,
        Look::Running => Style::new(),
        Look::Stopped => style::CHANGED,
        Look::Failed => style::BAD,
    };
    let text = format!("{} {}", " =>".repeat(row.depth + 1), row.text);
    let text = fit(&text, columns.saturating_sub(time.len() + if time.is_empty() { 0 } else { GAP }));
    let gap = columns.saturating_sub(width(&text) + time.len());
    let line = if time.is_empty() { text } else { format!("{text}{}{time}", " ".repeat(gap)) };
    paint(style, fit(&line, columns))
}

/// `1.2s`.
fn seconds(span: Duration) -> String {
    format!("{:.1}s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(look: Look, text: &str) -> Row {
        Row { look, depth: 0, text: text.to_owned(), time: Some(Duration::from_millis(1234)) }
    }

    #[test]
    fn what_matters_least_gives_way() {
        let rows =
            vec![row(Look::Done, "a"), row(Look::Running, "b"), row(Look::Detail, "c"), row(Look::Done, "d"), row(Look::Failed, "e")];
        let left = |lines| choose(rows.clone(), lines).into_iter().map(|row| row.text).collect::<String>();
        assert_eq!([5, 4, 3, 2, 1, 0].map(left), ["abcde", "bcde", "bce", "be", "e", ""]);
    }

    #[test]
    fn times_stand_at_the_end_of_any_line() {
        let plain = |text: &str, columns| anstream::adapter::strip_str(&line(&row(Look::Running, text), columns)).to_string();
        assert_eq!(plain("RUN make", 24), " => RUN make        1.2s");
        assert_eq!(plain("RUN make all the things", 24), " => RUN make all …  1.2s");
        assert_eq!(plain("日本語日本語日本語", 24), " => 日本語日本語…   1.2s");
        assert_eq!(plain("RUN make", 5), " 1.2s");
        assert_eq!(plain("RUN make", 1), "…");
    }
}
