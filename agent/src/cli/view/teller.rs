//! How a build, pull or push is shown: as a live view where a person watches, else as lines, or as BuildKit's JSON.

use super::{Images, Live};
use crate::cli::Failure;
use crate::cli::render::Render;
use crate::progress::{Lines, Progress};
use anyhow::anyhow;
use base64::Engine as _;
use clap::ValueEnum;
use runtime::builder::{BuildEvent, StepEvent};
use runtime::image::registry::{Progress as PullProgress, PushProgress};
use serde_json::{Value, json};
use spec::value::Digest;
use std::time::Instant;

/// In which form progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Kind {
    /// Live on a terminal, else plain; plain too with NO_COLOR or TERM=dumb
    Auto,
    /// Every step and every line of output
    Plain,
    /// A live view, on a terminal
    Tty,
    /// Nothing
    Quiet,
    /// BuildKit's status as lines of JSON, on standard error
    Rawjson,
}

/// Shows progress.
pub(in crate::cli) struct Teller {
    render: Render,
    how: How,
}

enum How {
    /// Beside the view, lines that should still be there when it has moved on.
    Live(Live<Images>, Lines),
    Lines(Lines),
    Json,
    Silent,
}

impl How {
    fn live(title: impl Into<String>, render: Render) -> Self {
        Self::Live(Live::new(render, Images::new(title, Instant::now())), Lines::default())
    }
}

impl Teller {
    /// `title` is what goes on: `Building`. Errors if a live view is asked for where none can be drawn.
    pub(in crate::cli) fn new(kind: Kind, title: impl Into<String>, render: Render) -> Result<Self, Failure> {
        let how = match kind {
            Kind::Auto => return Ok(Self::auto(title, render)),
            Kind::Tty if !render.is_terminal() => {
                let hint = Some("--progress plain prints lines".to_owned());
                return Err(Failure::Error { error: anyhow!("--progress tty: standard error is no terminal"), hint });
            }
            Kind::Tty => How::live(title, render),
            Kind::Plain => How::Lines(Lines::default()),
            Kind::Quiet => How::Silent,
            Kind::Rawjson => How::Json,
        };
        Ok(Self { render, how })
    }

    /// As is best here.
    pub(in crate::cli) fn auto(title: impl Into<String>, render: Render) -> Self {
        let how = if render.is_watched() { How::live(title, render) } else { How::Lines(Lines::default()) };
        Self { render, how }
    }

    /// Shows a piece of progress.
    pub(in crate::cli) fn tell(&self, progress: &Progress<'_>) {
        match (&self.how, progress) {
            (How::Silent, _) => {}
            (How::Lines(lines), _) => lines.tell(progress, &|line| self.render.say(line)),
            (How::Json, Progress::Build(event)) => self.render.say(status(event, jiff::Timestamp::now().to_string())),
            (How::Json, Progress::Pull { .. } | Progress::Push { .. } | Progress::Note(_)) => {}
            (How::Live(view, lines), _) => {
                if is_lasting(progress) {
                    lines.tell(progress, &|line| self.render.warn(line));
                }
                view.tell(|images| images.tell(progress, Instant::now()));
            }
        }
    }

    /// Says a line.
    pub(in crate::cli) fn note(&self, line: &str) {
        self.tell(&Progress::Note(line));
    }

    /// All is over.
    pub(in crate::cli) fn end(self) {
        if let How::Live(view, _) = self.how {
            view.tell(|images| images.end(Instant::now()));
            view.leave();
        }
    }
}

/// Whether it should still be there when the view has moved on.
fn is_lasting(progress: &Progress<'_>) -> bool {
    match progress {
        Progress::Note(_) => true,
        Progress::Pull { what, .. } => matches!(what, PullProgress::Retrying { .. }),
        Progress::Push { what, .. } => matches!(what, PushProgress::Retrying { .. }),
        Progress::Build(_) => false,
    }
}

/// An event as BuildKit's `client.SolveStatus`, as `docker buildx build --progress rawjson` prints it.
fn status(event: &BuildEvent<'_>, now: String) -> Value {
    let label = event.step;
    let digest = Digest::of(format!("{} {} {}", label.stage, label.number, label.instruction).as_bytes()).to_string();
    let vertex = |more: Value| {
        let mut vertex = json!({"digest": digest, "name": label.to_string()});
        if let (Value::Object(vertex), Value::Object(more)) = (&mut vertex, more) {
            vertex.extend(more);
        }
        json!({"vertexes": [vertex]})
    };
    match &event.what {
        StepEvent::Started => vertex(json!({"started": now})),
        StepEvent::Cached => vertex(json!({"cached": true})),
        StepEvent::Finished { .. } => vertex(json!({"completed": now})),
        StepEvent::Failed { .. } => vertex(json!({"completed": now, "error": "the step failed"})),
        StepEvent::Stopped => vertex(json!({"completed": now, "error": "context canceled"})),
        StepEvent::Fetching { reference } => {
            json!({"statuses": [{"id": format!("resolve {reference}"), "vertex": digest, "current": 0, "timestamp": now, "started": now}]})
        }
        StepEvent::Output { line } => {
            let data = base64::engine::general_purpose::STANDARD.encode(format!("{line}\n"));
            json!({"logs": [{"vertex": digest, "stream": 1, "data": data, "timestamp": now}]})
        }
    }
}
