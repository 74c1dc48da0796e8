//! What a person sees while a plan is carried out: a line for each finished step with its time, a live view of those under way.

use super::{Images, Live, Look, Row, View, lay_out, seconds};
use crate::apply::Event;
use crate::cli::render::{self, Render, Size, paint, style};
use crate::host::HostError;
use crate::plan::action::{Plan, Step};
use crate::plan::text;
use crate::progress;
use crate::reconcile::Watcher;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lines of output shown of an image that is built: there may be several, beside much else.
const OUTPUT_LINES: usize = 3;

/// Prints progress; shared by the threads that carry out steps.
pub(in crate::cli) struct Progress {
    render: Render,
    quiet: bool,
    /// Where a person watches.
    live: Option<Live<Steps>>,
}

/// Steps under way.
struct Steps {
    since: Instant,
    /// How many the plan has, and how many of them are over.
    planned: usize,
    over: usize,
    /// By place in the plan.
    running: BTreeMap<usize, Running>,
}

struct Running {
    what: String,
    since: Instant,
    /// What it does with images.
    images: Images,
}

impl Progress {
    pub(in crate::cli) fn new(render: Render, quiet: bool) -> Self {
        let steps = Steps { since: Instant::now(), planned: 0, over: 0, running: BTreeMap::new() };
        Self { render, quiet, live: render.is_watched().then(|| Live::new(render, steps)) }
    }

    fn tell(&self, what: impl FnOnce(&mut Steps)) {
        if let Some(live) = &self.live {
            live.tell(what);
        }
    }

    fn line(&self, step: &Step, line: &str) {
        self.render.say(format_args!("    {} | {line}", step.resource));
    }

    fn finished(&self, index: usize, step: &Step, took: Duration, error: Option<&HostError>) {
        self.tell(|steps| steps.finish(index));
        let (style, mark) = if error.is_none() { (style::GOOD, "✓") } else { (style::BAD, "✗") };
        let took = paint(style::FAINT, format_args!("{:.2}s", took.as_secs_f64()));
        self.render.say(format_args!("  {} {step} {took}", paint(style, mark)));
        if let Some(error) = error {
            self.render.say(format_args!("    {}", error.chain()));
        }
    }

    fn json(&self, index: usize, step: &Step, event: Event<'_>) {
        let mut object = match event {
            Event::Progress(_) => return,
            Event::Started => serde_json::json!({"type": "started"}),
            Event::Line(line) => serde_json::json!({"type": "line", "line": line}),
            Event::Finished { took, error } => {
                serde_json::json!({"type": "finished", "tookMs": took.as_millis(), "error": error.map(HostError::chain)})
            }
        };
        object["step"] = index.into();
        object["resource"] = step.resource.to_string().into();
        self.render.json_line(&object);
    }
}

impl Watcher for Progress {
    fn planned(&self, plan: &Plan) {
        self.tell(|steps| (steps.planned, steps.over) = (plan.steps.len(), 0));
        if self.render.json {
            self.render.text(&text::json_lines(plan));
        } else if !self.quiet {
            self.render.text(&render::plan(plan));
        }
    }

    fn step(&self, index: usize, step: &Step, event: Event<'_>) {
        if self.render.json {
            return self.json(index, step, event);
        }
        match event {
            Event::Started => self.tell(|steps| steps.start(index, step.to_string(), Instant::now())),
            Event::Progress(progress::Progress::Note(line)) if self.live.is_some() => self.line(step, line),
            Event::Progress(progress) => self.tell(|steps| steps.progress(index, progress, Instant::now())),
            Event::Line(line) if self.live.is_none() => self.line(step, line),
            Event::Line(_) => {}
            Event::Finished { took, error } => self.finished(index, step, took, error),
        }
    }
}

impl Steps {
    fn start(&mut self, index: usize, what: String, at: Instant) {
        self.running.insert(index, Running { what, since: at, images: Images::new("", at) });
    }

    fn progress(&mut self, index: usize, progress: &progress::Progress<'_>, at: Instant) {
        if let Some(running) = self.running.get_mut(&index) {
            running.images.tell(progress, at);
        }
    }

    fn finish(&mut self, index: usize) {
        self.running.remove(&index);
        self.over += 1;
    }
}

impl View for Steps {
    fn lines(&self, at: Instant, size: Size) -> Vec<String> {
        if self.running.is_empty() {
            return Vec::new();
        }
        let mut rows = Vec::new();
        for running in self.running.values() {
            rows.push(Row { look: Look::Running, depth: 0, text: running.what.clone(), time: Some(at.duration_since(running.since)) });
            let under_way = running.images.rows(at, OUTPUT_LINES).into_iter().filter(|row| row.look != Look::Done);
            rows.extend(under_way.map(|row| Row { look: Look::Detail, depth: row.depth + 1, ..row }));
        }
        lay_out(&format!("[+] {} ({}/{})", seconds(at.duration_since(self.since)), self.over, self.planned), rows, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::builder::{BuildEvent, StepEvent, StepLabel};

    #[test]
    fn steps_under_way_show_their_time_and_what_they_do() {
        let since = Instant::now();
        let at = |milliseconds| since + Duration::from_millis(milliseconds);
        let mut steps = Steps { since, planned: 5, over: 0, running: BTreeMap::new() };
        let shown = |steps: &Steps, milliseconds, rows| {
            let lines = steps.lines(at(milliseconds), Size { columns: 40, rows });
            anstream::adapter::strip_str(&lines.join("\n")).to_string()
        };
        assert_eq!(shown(&steps, 0, 9), "");
        steps.start(0, "build image/web".to_owned(), at(0));
        steps.start(3, "start web@1".to_owned(), at(1000));
        let label = |number, instruction: &str| StepLabel {
            stage: 0,
            stage_name: String::new(),
            number,
            steps: 2,
            instruction: instruction.to_owned(),
        };
        for (step, what) in [
            (label(1, "FROM scratch"), StepEvent::Started),
            (label(1, "FROM scratch"), StepEvent::Finished { took: Duration::ZERO }),
            (label(2, "RUN make"), StepEvent::Started),
            (label(2, "RUN make"), StepEvent::Output { line: "cc main.c" }),
        ] {
            steps.progress(0, &progress::Progress::Build(&BuildEvent { step: &step, what }), at(500));
        }
        let both = "\
[+] 3.0s (0/5)
 => build image/web                 3.0s
 => => [2/2] RUN make               2.5s
 => => => # cc main.c
 => start web@1                     2.0s";
        assert_eq!(shown(&steps, 3000, 9), both);
        assert_eq!(
            shown(&steps, 3000, 3),
            "[+] 3.0s (0/5)\n => build image/web                 3.0s\n => start web@1                     2.0s"
        );
        steps.finish(0);
        assert_eq!(shown(&steps, 3000, 9), "[+] 3.0s (1/5)\n => start web@1                     2.0s");
    }
}
