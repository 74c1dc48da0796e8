//! What is told while images are built, fetched and published; and the same as lines, for logs and for who does not watch.

use crate::cli::render::tame;
use runtime::builder::{BuildEvent, StepEvent, StepLabel};
use runtime::image::manifest::Descriptor;
use runtime::image::publish::Origin;
use runtime::image::registry::{Progress as PullProgress, PushProgress};
use spec::value::{Digest, ImageReference};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Blobs that are smaller are sent without a word in between.
const QUARTERS_BYTES_MIN: u64 = 64 << 20;

/// Something happened on the way to an image, or with one.
#[derive(Debug)]
pub enum Progress<'a> {
    /// In a build.
    Build(&'a BuildEvent<'a>),
    /// While it was fetched.
    Pull {
        /// By which name.
        reference: &'a ImageReference,
        /// What.
        what: PullProgress<'a>,
    },
    /// While it was published.
    Push {
        /// Under which name.
        reference: &'a ImageReference,
        /// What.
        what: PushProgress<'a>,
    },
    /// Something else that people should know.
    Note(&'a str),
}

/// Who is told. Called from several threads at once.
pub type Tell<'a> = dyn Fn(&Progress<'_>) + Sync + 'a;

/// Progress as lines. Those of a build are BuildKit's: `#4 [build 2/3] RUN make`, `#4 0.512 output`, `#4 DONE 1.2s`.
#[derive(Default)]
pub struct Lines(Mutex<Told>);

#[derive(Default)]
struct Told {
    /// Steps of a build, numbered in the order in which they began.
    steps: BTreeMap<StepLabel, Step>,
    /// Number of the one whose output came last.
    last: usize,
    /// How much of each blob is said to be sent, in quarters.
    quarters: BTreeMap<Digest, u64>,
    /// Why something was tried again, and after how long: what several blobs meet at once is told once.
    retries: BTreeSet<(String, Duration)>,
}

#[derive(Clone, Copy)]
struct Step {
    number: usize,
    since: Instant,
    cached: bool,
}

impl Lines {
    /// Hands over the lines that a piece of progress is, if it is any.
    pub fn tell(&self, progress: &Progress<'_>, show: &dyn Fn(&str)) {
        // Held while showing: lines of two steps do not come between each other.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Build(event) => told.build(event, show),
            Progress::Pull { what, .. } => told.pull(*what).iter().for_each(|line| show(line)),
            Progress::Push { what, .. } => told.push(*what).iter().for_each(|line| show(line)),
            Progress::Note(line) => show(line),
        }
    }
}

impl Told {
    fn build(&mut self, event: &BuildEvent<'_>, show: &dyn Fn(&str)) {
        let next = Step { number: self.steps.len() + 1, since: Instant::now(), cached: false };
        let step = self.steps.entry(event.step.clone()).or_insert(next);
        if let StepEvent::Started = event.what {
            // A build that is tried again begins its steps anew.
            *step = Step { number: step.number, ..next };
        }
        let Step { number, since, cached } = *step;
        let line = match &event.what {
            StepEvent::Started => event.step.to_string(),
            StepEvent::Cached => {
                step.cached = true;
                "CACHED".to_owned()
            }
            StepEvent::Fetching { reference } => format!("looking for {reference}"),
            StepEvent::Output { line } => {
                if self.last != number {
                    show(&format!("#{number} {}", event.step));
                }
                format!("{:.3} {}", since.elapsed().as_secs_f64(), tame(line))
            }
            StepEvent::Finished { .. } if cached => return,
            StepEvent::Finished { took } => format!("DONE {:.1}s", took.as_secs_f64()),
            StepEvent::Failed { took } => format!("ERROR after {:.1}s", took.as_secs_f64()),
            StepEvent::Stopped => "CANCELED".to_owned(),
        };
        self.last = number;
        show(&format!("#{number} {line}"));
    }

    /// Bytes come too often: of a large blob each quarter is told.
    fn push(&mut self, what: PushProgress<'_>) -> Option<String> {
        let name = |blob: &Descriptor| format!("blob {}", blob.digest.short());
        Some(match what {
            PushProgress::Ready { .. } => return None,
            PushProgress::Prepared { manifest, layers, origin } => {
                let again = match origin {
                    Origin::Kept => String::new(),
                    Origin::Made => ", made now".to_owned(),
                    Origin::Remade { was } => format!(", made anew: a compressed layer of {} is no longer kept here", was.short()),
                };
                format!("{}, manifest {}{again}", layers_of(layers), manifest.short())
            }
            PushProgress::Present { blob } => format!("{} is there already", name(blob)),
            PushProgress::Mounted { blob, from } => format!("{} mounted from {from}", name(blob)),
            PushProgress::Sent { blob } => format!("{} pushed, {} bytes", name(blob), blob.size),
            PushProgress::Bytes { blob, done } => {
                let quarter = (blob.size >= QUARTERS_BYTES_MIN).then(|| done.saturating_mul(4) / blob.size)?;
                let before = self.quarters.insert(blob.digest, quarter).unwrap_or_default();
                (quarter > before && quarter < 4).then(|| format!("{} {} % pushed", name(blob), quarter * 25))?
            }
            PushProgress::Retrying { what, reason, wait } => self.retrying(what, reason, wait)?,
        })
    }

    /// Bytes are not told: they come too often.
    fn pull(&mut self, what: PullProgress<'_>) -> Option<String> {
        Some(match what {
            PullProgress::Resolved { manifest, layers } => format!("{}, manifest {}", layers_of(layers.len()), manifest.short()),
            PullProgress::UpToDate { manifest } => format!("up to date, manifest {}", manifest.short()),
            PullProgress::LayerPresent { layer } => format!("layer {} is here already", layer.digest.short()),
            PullProgress::LayerBytes { .. } => return None,
            PullProgress::LayerDone { layer } => format!("layer {} unpacked", layer.digest.short()),
            PullProgress::Retrying { what, reason, wait } => self.retrying(what, reason, wait)?,
        })
    }

    fn retrying(&mut self, what: &str, reason: &str, wait: Duration) -> Option<String> {
        let is_news = self.retries.insert((reason.to_owned(), wait));
        is_news.then(|| format!("{what}: {reason}; trying again in {:.1} s", wait.as_secs_f32()))
    }
}

fn layers_of(count: usize) -> String {
    format!("{count} {}", if count == 1 { "layer" } else { "layers" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(stage: &str, number: usize, instruction: &str) -> StepLabel {
        StepLabel { stage: 0, stage_name: stage.to_owned(), number, steps: 3, instruction: instruction.to_owned() }
    }

    #[test]
    fn lines_as_buildkit_has_them() {
        let (lines, shown) = (Lines::default(), Mutex::new(Vec::new()));
        let tell = |step: &StepLabel, what: StepEvent<'_>| {
            lines.tell(&Progress::Build(&BuildEvent { step, what }), &|line| shown.lock().unwrap().push(line.to_owned()));
        };
        let (from, run) = (step("", 1, "FROM a"), step("build", 2, "RUN make \\\n  all"));
        tell(&from, StepEvent::Started);
        tell(&run, StepEvent::Started);
        tell(&run, StepEvent::Output { line: "one" });
        tell(&from, StepEvent::Cached);
        tell(&from, StepEvent::Finished { took: Duration::ZERO });
        tell(&run, StepEvent::Output { line: "two" });
        tell(&run, StepEvent::Failed { took: Duration::from_millis(1230) });
        tell(&from, StepEvent::Started);
        tell(&from, StepEvent::Finished { took: Duration::ZERO });
        let shown = shown.into_inner().unwrap().into_iter().map(|line| line.replace("0.000 ", "")).collect::<Vec<_>>();
        let header = "#2 [build 2/3] RUN make \\";
        assert_eq!(
            shown,
            ["#1 [1/3] FROM a", header, "#2 one", "#1 CACHED", header, "#2 two", "#2 ERROR after 1.2s", "#1 [1/3] FROM a", "#1 DONE 0.0s"]
        );
    }

    #[test]
    fn what_several_meet_at_once_is_told_once() {
        let mut told = Told::default();
        let mut retry = |what, seconds| told.retrying(what, "it is away", Duration::from_secs(seconds)).is_some();
        assert_eq!([retry("a", 1), retry("b", 1), retry("a", 2), retry("b", 2)], [true, false, true, false]);
    }

    #[test]
    fn of_a_large_blob_each_quarter_is_told() {
        let (digest, size) = (Digest::of(b""), 4 * QUARTERS_BYTES_MIN);
        let blob = Descriptor { media_type: String::new(), digest, size, platform: None, annotations: BTreeMap::new() };
        let mut told = Told::default();
        let lines = (0..=8).filter_map(|eighth| told.push(PushProgress::Bytes { blob: &blob, done: eighth * blob.size / 8 }));
        let percents: Vec<String> = lines.map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(percents, ["25", "50", "75"]);
    }
}
