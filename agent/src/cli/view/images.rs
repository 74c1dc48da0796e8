//! The view of builds, pulls and pushes: steps with their times and the last lines of those that run, layers with bytes and rates.

use super::{Look, Row, View, lay_out, seconds};
use crate::cli::render::{Size, tame};
use crate::human::size;
use crate::progress::Progress;
use runtime::builder::{BuildEvent, StepEvent, StepLabel};
use runtime::image::manifest::Descriptor;
use runtime::image::registry::{Progress as PullProgress, PushProgress};
use spec::value::{Digest, ImageReference};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Lines of output shown of a step that runs, as in BuildKit.
const OUTPUT_LINES: usize = 6;
/// Columns of a bar between its ends.
const BAR_COLUMNS: u64 = 15;

/// What goes on with images.
pub(in crate::cli) struct Images {
    /// `Building`, `Pulling docker.io/library/debian:12`.
    title: String,
    since: Instant,
    /// When all was over.
    ended: Option<Instant>,
    /// In the order in which they began.
    steps: Vec<Step>,
    /// In the order in which they began.
    transfers: Vec<Transfer>,
}

/// A step of a build.
struct Step {
    label: StepLabel,
    since: Instant,
    state: State,
    /// What it waits for.
    fetching: Option<ImageReference>,
    output: VecDeque<String>,
}

enum State {
    Running,
    Cached,
    Done(Duration),
    Failed(Duration),
    Stopped(Duration),
}

/// Blobs on their way from or to a registry.
struct Transfer {
    reference: ImageReference,
    since: Instant,
    /// What there is to say beside its blobs.
    remark: Option<(Look, &'static str)>,
    blobs: Vec<Blob>,
}

struct Blob {
    digest: Digest,
    bytes: u64,
    state: Course,
}

enum Course {
    Waiting,
    /// So many bytes are there; so many were when it began.
    Moving {
        done: u64,
        from: u64,
        since: Instant,
    },
    /// It moved, in this time.
    Moved(Duration),
    /// It did not have to.
    Spared(String),
}

impl Images {
    pub(in crate::cli) fn new(title: impl Into<String>, since: Instant) -> Self {
        Self { title: title.into(), since, ended: None, steps: Vec::new(), transfers: Vec::new() }
    }

    /// All is over.
    pub(in crate::cli) fn end(&mut self, at: Instant) {
        self.ended = Some(at);
    }

    /// Something happened.
    pub(in crate::cli) fn tell(&mut self, progress: &Progress<'_>, at: Instant) {
        match progress {
            Progress::Build(event) => self.build(event, at),
            Progress::Pull { reference, what } => self.transfer(reference, "looking it up", at).pull(*what, at),
            Progress::Push { reference, what } => self.transfer(reference, "compressing", at).push(*what, at),
            Progress::Note(_) => {}
        }
    }

    fn build(&mut self, event: &BuildEvent<'_>, at: Instant) {
        // What is told of is nearly always one of the last.
        let index = match self.steps.iter().rposition(|step| step.label == *event.step) {
            Some(index) => index,
            None => {
                self.steps.push(Step::new(event.step.clone(), at));
                self.steps.len() - 1
            }
        };
        let step = &mut self.steps[index];
        match &event.what {
            // A build that is tried again begins its steps anew.
            StepEvent::Started => *step = Step::new(event.step.clone(), at),
            StepEvent::Fetching { reference } => step.fetching = Some((*reference).clone()),
            StepEvent::Cached => step.state = State::Cached,
            StepEvent::Output { line } => {
                if step.output.len() == OUTPUT_LINES {
                    step.output.pop_front();
                }
                step.output.push_back(tame(line).into_owned());
            }
            StepEvent::Finished { took } => {
                if !matches!(step.state, State::Cached) {
                    step.state = State::Done(*took);
                }
            }
            StepEvent::Failed { took } => step.state = State::Failed(*took),
            StepEvent::Stopped => step.state = State::Stopped(at.duration_since(step.since)),
        }
    }

    /// `first` is what is done before the first blob moves.
    fn transfer(&mut self, reference: &ImageReference, first: &'static str, at: Instant) -> &mut Transfer {
        let index = match self.transfers.iter().position(|it| it.reference == *reference) {
            Some(index) => index,
            None => {
                let remark = Some((Look::Running, first));
                self.transfers.push(Transfer { reference: reference.clone(), since: at, remark, blobs: Vec::new() });
                self.transfers.len() - 1
            }
        };
        &mut self.transfers[index]
    }

    /// `3.2s (5/9)`: the time so far, steps and blobs that are done, and those that are known of.
    fn heading(&self, at: Instant) -> String {
        let took = seconds(self.ended.unwrap_or(at).duration_since(self.since));
        let mut stages: BTreeMap<usize, usize> = BTreeMap::new();
        for step in &self.steps {
            let known = stages.entry(step.label.stage).or_default();
            *known = (*known).max(step.label.steps).max(step.label.number);
        }
        let alone: Vec<&Blob> = if self.steps.is_empty() { self.transfers.iter().flat_map(|it| &it.blobs).collect() } else { Vec::new() };
        let all = stages.values().sum::<usize>() + alone.len();
        let done = self.steps.iter().filter(|step| matches!(step.state, State::Cached | State::Done(_))).count()
            + alone.iter().filter(|blob| blob.is_done()).count();
        let counts = if all == 0 { String::new() } else { format!(" ({done}/{all})") };
        let bytes = match alone.iter().fold((0, 0), |(done, all), blob| (done + blob.done(), all + blob.moving_bytes())) {
            (_, 0) => String::new(),
            (done, all) if done == all => format!("  {}", size(all)),
            (done, all) => format!("  {} / {}", size(done), size(all)),
        };
        let end = if self.ended.is_some() && done == all { " FINISHED" } else { "" };
        format!("[+] {} {took}{counts}{end}{bytes}", self.title)
    }

    /// All rows, or those of what is under way.
    pub(super) fn rows(&self, at: Instant, output_lines: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for step in &self.steps {
            rows.push(step.row(at));
            if matches!(step.state, State::Running) {
                let fetched = self.transfers.iter().find(|it| step.fetching.as_ref() == Some(&it.reference));
                rows.extend(fetched.into_iter().flat_map(|transfer| transfer.rows(1, at)));
                let hidden = step.output.len().saturating_sub(output_lines);
                let detail = |line: &String| Row { look: Look::Detail, depth: 1, text: format!("# {line}"), time: None };
                rows.extend(step.output.iter().skip(hidden).map(detail));
            }
        }
        let is_fetched = |transfer: &Transfer| self.steps.iter().any(|step| step.fetching.as_ref() == Some(&transfer.reference));
        for transfer in self.transfers.iter().filter(|it| !is_fetched(it)) {
            if self.steps.is_empty() {
                rows.extend(transfer.rows(0, at));
            } else {
                let look = if transfer.blobs.iter().all(Blob::is_done) { Look::Done } else { Look::Running };
                rows.push(Row { look, depth: 0, text: transfer.reference.to_string(), time: None });
                rows.extend(transfer.rows(1, at).into_iter().filter(|row| row.look != Look::Done));
            }
        }
        rows
    }
}

impl View for Images {
    fn lines(&self, at: Instant, size: Size) -> Vec<String> {
        // Every step that runs gets its share of the lines that are left.
        let running = self.steps.iter().filter(|step| matches!(step.state, State::Running)).count();
        let share = size.rows.saturating_sub(1 + running).checked_div(running).unwrap_or_default();
        lay_out(&self.heading(at), self.rows(at, share.min(OUTPUT_LINES)), size)
    }
}

impl Step {
    fn new(label: StepLabel, since: Instant) -> Self {
        Self { label, since, state: State::Running, fetching: None, output: VecDeque::new() }
    }

    fn row(&self, at: Instant) -> Row {
        let (look, mark, time) = match self.state {
            State::Running => (Look::Running, "", at.duration_since(self.since)),
            State::Cached => (Look::Done, "CACHED ", Duration::ZERO),
            State::Done(took) => (Look::Done, "", took),
            State::Failed(took) => (Look::Failed, "ERROR ", took),
            State::Stopped(took) => (Look::Stopped, "CANCELED ", took),
        };
        Row { look, depth: 0, text: format!("{mark}{}", self.label), time: Some(time) }
    }
}

impl Transfer {
    fn pull(&mut self, what: PullProgress<'_>, at: Instant) {
        if let PullProgress::LayerPresent { .. } | PullProgress::LayerBytes { .. } | PullProgress::LayerDone { .. } = what {
            // A layer may come without the rest of its image.
            self.remark = None;
        }
        match what {
            PullProgress::Resolved { layers, .. } => self.expect(layers),
            PullProgress::UpToDate { .. } => self.remark = Some((Look::Done, "up to date")),
            PullProgress::LayerPresent { layer } => self.blob(layer).state = Course::Spared("already exists".to_owned()),
            PullProgress::LayerBytes { layer, done } => self.blob(layer).moves(done, at),
            PullProgress::LayerDone { layer } => self.blob(layer).arrives(at),
            // Said above the view: it should stay.
            PullProgress::Retrying { .. } => {}
        }
    }

    fn push(&mut self, what: PushProgress<'_>, at: Instant) {
        match what {
            PushProgress::Ready { blob } => drop(self.blob(blob)),
            PushProgress::Prepared { .. } => self.remark = None,
            PushProgress::Present { blob } => self.blob(blob).state = Course::Spared("already exists".to_owned()),
            PushProgress::Mounted { blob, from } => self.blob(blob).state = Course::Spared(format!("mounted from {from}")),
            PushProgress::Bytes { blob, done } => self.blob(blob).moves(done, at),
            PushProgress::Sent { blob } => self.blob(blob).arrives(at),
            // As above.
            PushProgress::Retrying { .. } => {}
        }
    }

    fn expect<'a>(&mut self, blobs: impl IntoIterator<Item = &'a Descriptor>) {
        self.remark = None;
        for blob in blobs {
            self.blob(blob);
        }
    }

    fn blob(&mut self, wanted: &Descriptor) -> &mut Blob {
        let index = match self.blobs.iter().position(|blob| blob.digest == wanted.digest) {
            Some(index) => index,
            None => {
                self.blobs.push(Blob { digest: wanted.digest, bytes: wanted.size, state: Course::Waiting });
                self.blobs.len() - 1
            }
        };
        &mut self.blobs[index]
    }

    fn rows(&self, depth: usize, at: Instant) -> Vec<Row> {
        let remark = self.remark.map(|(look, what)| {
            let time = (look == Look::Running).then(|| at.duration_since(self.since));
            Row { look, depth, text: format!("{}: {what}", self.reference), time }
        });
        remark.into_iter().chain(self.blobs.iter().map(|blob| blob.row(depth, at))).collect()
    }
}

impl Blob {
    fn moves(&mut self, done: u64, at: Instant) {
        match &mut self.state {
            // Tried again from an earlier byte.
            Course::Moving { done: before, from, .. } => (*before, *from) = (done, done.min(*from)),
            Course::Waiting | Course::Moved(_) | Course::Spared(_) => self.state = Course::Moving { done, from: done, since: at },
        }
    }

    fn arrives(&mut self, at: Instant) {
        let since = if let Course::Moving { since, .. } = self.state { since } else { at };
        self.state = Course::Moved(at.duration_since(since));
    }

    fn is_done(&self) -> bool {
        match self.state {
            Course::Waiting | Course::Moving { .. } => false,
            Course::Moved(_) | Course::Spared(_) => true,
        }
    }

    /// Bytes that have moved.
    fn done(&self) -> u64 {
        match self.state {
            Course::Waiting | Course::Spared(_) => 0,
            Course::Moving { done, .. } => done,
            Course::Moved(_) => self.bytes,
        }
    }

    /// Bytes that move altogether.
    fn moving_bytes(&self) -> u64 {
        if let Course::Spared(_) = self.state { 0 } else { self.bytes }
    }

    fn row(&self, depth: usize, at: Instant) -> Row {
        let short = self.digest.short();
        let (look, text, time) = match &self.state {
            Course::Waiting => (Look::Running, format!("{short} waiting"), None),
            Course::Moving { done, from, since } => {
                let took = at.duration_since(*since);
                let rate = (done - from) as f64 / took.as_secs_f64().max(0.1);
                let amounts = format!("{} / {}", size(*done), size(self.bytes));
                let rate = format!("{}/s", size(rate as u64));
                (Look::Running, format!("{short} {amounts:>23} {rate:>12} {}", bar(*done, self.bytes)), Some(took))
            }
            Course::Moved(took) => (Look::Done, format!("{short} {:>23}", size(self.bytes)), Some(*took)),
            Course::Spared(how) => (Look::Done, format!("{short} {how}"), None),
        };
        Row { look, depth, text, time }
    }
}

/// `[=====>     ]`.
fn bar(done: u64, all: u64) -> String {
    let filled = (done.min(all) as u128 * u128::from(BAR_COLUMNS) / u128::from(all.max(1))) as usize;
    let tip = if filled < BAR_COLUMNS as usize { ">" } else { "" };
    format!("[{:<1$}]", format!("{}{tip}", "=".repeat(filled)), BAR_COLUMNS as usize)
}

#[cfg(test)]
mod tests;
