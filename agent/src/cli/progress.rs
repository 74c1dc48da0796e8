//! What a person sees while a plan is carried out: a line for each finished step with its time, a live line for those under way.

use super::render::{Render, paint, style};
use crate::apply::Event;
use crate::plan::action::{Plan, Step};
use crate::plan::text;
use crate::reconcile::Watcher;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Prints progress; shared by the threads that carry out steps.
pub(super) struct Progress {
    render: Render,
    quiet: bool,
    /// Live lines by step, where a person watches.
    live: Option<(MultiProgress, Mutex<BTreeMap<usize, ProgressBar>>)>,
}

impl Progress {
    pub(super) fn new(render: Render, quiet: bool) -> Self {
        let live = render.is_watched().then(|| (MultiProgress::new(), Mutex::default()));
        Self { render, quiet, live }
    }

    /// Nothing is under way any more.
    pub(super) fn end(&self) {
        if let Some((all, _)) = &self.live {
            // A terminal that went away needs no clearing.
            let _ = all.clear();
        }
    }

    fn line(&self, line: &str) {
        match &self.live {
            Some((all, _)) => all.suspend(|| self.render.say(line)),
            None => self.render.say(line),
        }
    }

    fn started(&self, index: usize, step: &Step) {
        let Some((all, bars)) = &self.live else { return };
        let template = ProgressStyle::with_template("  {spinner} {prefix} {elapsed} {wide_msg}").expect("the template is well formed");
        let bar = all.add(ProgressBar::new_spinner().with_style(template).with_prefix(step.to_string()));
        bar.enable_steady_tick(Duration::from_millis(120));
        bars.lock().unwrap_or_else(PoisonError::into_inner).insert(index, bar);
    }

    fn finished(&self, index: usize, step: &Step, took: Duration, error: Option<&crate::host::HostError>) {
        if let Some((all, bars)) = &self.live
            && let Some(bar) = bars.lock().unwrap_or_else(PoisonError::into_inner).remove(&index)
        {
            bar.finish_and_clear();
            all.remove(&bar);
        }
        let seconds = took.as_secs_f64();
        match error {
            None => self.line(&format!("  {} {} {}", paint(style::GOOD, "✓"), step, paint(style::FAINT, format_args!("{seconds:.2}s")))),
            Some(error) => {
                self.line(&format!("  {} {} {}", paint(style::BAD, "✗"), step, paint(style::FAINT, format_args!("{seconds:.2}s"))));
                self.line(&format!("    {}", error.chain()));
            }
        }
    }

    fn json(&self, index: usize, step: &Step, event: Event<'_>) {
        let mut object = match event {
            Event::Started => serde_json::json!({"type": "started"}),
            Event::Line(line) => serde_json::json!({"type": "line", "line": line}),
            Event::Finished { took, error } => {
                serde_json::json!({"type": "finished", "tookMs": took.as_millis(), "error": error.map(crate::host::HostError::chain)})
            }
        };
        object["step"] = index.into();
        object["resource"] = step.resource.to_string().into();
        self.render.json_line(&object);
    }
}

impl Watcher for Progress {
    fn planned(&self, plan: &Plan) {
        if self.render.json {
            self.render.text(&text::json_lines(plan));
        } else if !self.quiet {
            self.render.text(&super::render::plan(plan));
        }
    }

    fn step(&self, index: usize, step: &Step, event: Event<'_>) {
        if self.render.json {
            return self.json(index, step, event);
        }
        match event {
            Event::Started => self.started(index, step),
            Event::Line(line) => match &self.live {
                Some((_, bars)) => {
                    if let Some(bar) = bars.lock().unwrap_or_else(PoisonError::into_inner).get(&index) {
                        bar.set_message(line.to_owned());
                    }
                }
                None => self.line(&format!("    {} | {line}", step.resource)),
            },
            Event::Finished { took, error } => self.finished(index, step, took, error),
        }
    }
}
