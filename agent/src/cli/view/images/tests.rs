//! What the view of builds, pulls and pushes looks like at a moment, as text.

use super::*;

/// A view, its beginning, and what it looks like so many milliseconds later in so many columns and rows.
struct Case {
    view: Images,
    since: Instant,
}

impl Case {
    fn new(title: &str) -> Self {
        let since = Instant::now();
        Self { view: Images::new(title, since), since }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.since + Duration::from_millis(milliseconds)
    }

    fn tell(&mut self, milliseconds: u64, progress: &Progress<'_>) {
        self.view.tell(progress, self.at(milliseconds));
    }

    fn step(&mut self, milliseconds: u64, step: &StepLabel, what: StepEvent<'_>) {
        self.tell(milliseconds, &Progress::Build(&BuildEvent { step, what }));
    }

    fn shown(&self, milliseconds: u64, columns: usize, rows: usize) -> String {
        let lines = self.view.lines(self.at(milliseconds), Size { columns, rows });
        assert!(lines.len() <= rows && lines.iter().all(|line| crate::cli::render::width(line) <= columns), "{lines:#?}");
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }
}

fn step(stage: (usize, &str), number: usize, instruction: &str) -> StepLabel {
    StepLabel { stage: stage.0, stage_name: stage.1.to_owned(), number, steps: 3, instruction: instruction.to_owned() }
}

fn took(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn layer(digit: u8, bytes: u64) -> Descriptor {
    Descriptor { media_type: String::new(), digest: Digest::of(&[digit]), size: bytes, platform: None, annotations: BTreeMap::new() }
}

#[test]
fn a_build_shows_its_steps_and_what_the_running_ones_say() {
    let mut case = Case::new("Building");
    let (from, copy, run) = (step((0, ""), 1, "FROM a"), step((0, ""), 2, "COPY . ."), step((0, ""), 3, "RUN make \\\n  all"));
    case.step(0, &from, StepEvent::Started);
    case.step(0, &from, StepEvent::Finished { took: took(20) });
    case.step(20, &copy, StepEvent::Started);
    case.step(30, &copy, StepEvent::Cached);
    case.step(30, &copy, StepEvent::Finished { took: took(10) });
    case.step(30, &run, StepEvent::Started);
    for number in 1..=8 {
        case.step(500, &run, StepEvent::Output { line: &format!("\x1b[2Jhidden\rline\t{number}") });
    }
    let running = "\
[+] Building 2.0s (2/3)
 => [1/3] FROM a                    0.0s
 => CACHED [2/3] COPY . .           0.0s
 => [3/3] RUN make \\                2.0s
 => => # line   3
 => => # line   4
 => => # line   5
 => => # line   6
 => => # line   7
 => => # line   8";
    assert_eq!(case.shown(2030, 40, 24), running);
    let low = "\
[+] Building 2.0s (2/3)
 => [3/3] RUN make \\  2.0s
 => => # line   7
 => => # line   8";
    assert_eq!(case.shown(2030, 26, 4), low);
    case.step(2530, &run, StepEvent::Finished { took: took(2500) });
    case.view.end(case.at(2600));
    let done = "\
[+] Building 2.6s (3/3) FINISHED
 => [1/3] FROM a                    0.0s
 => CACHED [2/3] COPY . .           0.0s
 => [3/3] RUN make \\                2.5s";
    assert_eq!(case.shown(9000, 40, usize::MAX), done);
}

#[test]
fn steps_side_by_side_share_the_lines() {
    let mut case = Case::new("Building");
    for (stage, name) in [(0, "one"), (1, "two")] {
        let run = step((stage, name), 1, "RUN make");
        case.step(0, &run, StepEvent::Started);
        (1..=8).for_each(|number| case.step(0, &run, StepEvent::Output { line: &format!("{name} {number}") }));
    }
    let low = "\
[+] Building 1.0s (0/6)
 => [one 1/3] RUN make              1.0s
 => => # one 7
 => => # one 8
 => [two 1/3] RUN make              1.0s
 => => # two 7
 => => # two 8";
    assert_eq!(case.shown(1000, 40, 8), low);
}

#[test]
fn a_failure_is_marked_and_what_it_stopped_too() {
    let mut case = Case::new("Building");
    let (one, two) = (step((0, "one"), 1, "RUN false"), step((1, "two"), 1, "RUN sleep 9"));
    case.step(0, &one, StepEvent::Started);
    case.step(0, &two, StepEvent::Started);
    case.step(100, &one, StepEvent::Output { line: "no" });
    case.step(100, &one, StepEvent::Failed { took: took(100) });
    case.step(200, &two, StepEvent::Stopped);
    case.view.end(case.at(200));
    let failed = "\
[+] Building 0.2s (0/6)
 => ERROR [one 1/3] RUN false       0.1s
 => CANCELED [two 1/3] RUN sleep 9  0.2s";
    assert_eq!(case.shown(300, 40, usize::MAX), failed);
}

#[test]
fn a_build_that_is_tried_again_begins_its_steps_anew() {
    let mut case = Case::new("Building");
    let run = step((0, ""), 1, "RUN make");
    case.step(0, &run, StepEvent::Started);
    case.step(0, &run, StepEvent::Output { line: "first" });
    case.step(500, &run, StepEvent::Failed { took: took(500) });
    case.step(1000, &run, StepEvent::Started);
    assert_eq!(case.shown(2000, 40, 9), "[+] Building 2.0s (0/3)\n => [1/3] RUN make                  1.0s");
}

#[test]
fn layers_show_bytes_and_rates() {
    let mut case = Case::new("Pulling example.org/x:1");
    let reference: ImageReference = "example.org/x:1".parse().unwrap();
    let layers = [layer(1, 10 << 20), layer(2, 4 << 20), layer(3, 1 << 20), layer(4, 1)];
    let manifest = Digest::of(b"manifest");
    let pull = |what| Progress::Pull { reference: &reference, what };
    case.tell(0, &pull(PullProgress::Retrying { what: "manifest", reason: "it is away", wait: took(1000) }));
    assert_eq!(case.shown(500, 60, 9), "[+] Pulling example.org/x:1 0.5s\n => example.org/x:1: looking it up                      0.5s");
    case.tell(1000, &pull(PullProgress::Resolved { manifest: &manifest, layers: &layers }));
    // Two megabytes are here from an earlier try.
    case.tell(1000, &pull(PullProgress::LayerBytes { layer: &layers[0], done: 2 << 20 }));
    case.tell(3000, &pull(PullProgress::LayerBytes { layer: &layers[0], done: 5 << 20 }));
    case.tell(1000, &pull(PullProgress::LayerBytes { layer: &layers[1], done: 0 }));
    case.tell(2000, &pull(PullProgress::LayerDone { layer: &layers[1] }));
    case.tell(1000, &pull(PullProgress::LayerPresent { layer: &layers[2] }));
    let [one, two, three, four] = [1, 2, 3, 4].map(|digit| Digest::of(&[digit]).short());
    let wide = format!(
        "\
[+] Pulling example.org/x:1 3.0s (2/4)  9.0 MiB / 14.0 MiB
 => {one}      5.0 MiB / 10.0 MiB    1.5 MiB/s [=======>       ]    2.0s
 => {two}                 4.0 MiB                                   1.0s
 => {three} already exists
 => {four} waiting"
    );
    assert_eq!(case.shown(3000, 79, 24), wide);
    let narrow = format!(
        "\
[+] Pulling example.org/x:1 3.0s (2/4)…
 => {one}      5.0 MiB / …  2.0s
 => {four} waiting"
    );
    assert_eq!(case.shown(3000, 39, 3), narrow);
}

#[test]
fn the_layers_of_a_base_stand_below_its_step_while_they_come() {
    let mut case = Case::new("Building");
    let reference: ImageReference = "example.org/x:1".parse().unwrap();
    let from = step((0, ""), 1, "FROM example.org/x:1");
    let layers = [layer(1, 10 << 20)];
    case.step(0, &from, StepEvent::Started);
    case.step(0, &from, StepEvent::Fetching { reference: &reference });
    let what = PullProgress::Resolved { manifest: &Digest::of(b"manifest"), layers: &layers };
    case.tell(0, &Progress::Pull { reference: &reference, what });
    let one = Digest::of(&[1]).short();
    let waiting = format!("[+] Building 1.0s (0/3)\n => [1/3] FROM example.org/x:1      1.0s\n => => {one} waiting");
    assert_eq!(case.shown(1000, 40, 9), waiting);
    case.step(2000, &from, StepEvent::Finished { took: took(2000) });
    assert_eq!(case.shown(2000, 40, 9), "[+] Building 2.0s (1/3)\n => [1/3] FROM example.org/x:1      2.0s");
}

#[test]
fn bars_are_as_long_as_what_is_done() {
    assert_eq!(bar(0, 0), "[>              ]");
    assert_eq!(bar(0, 100), "[>              ]");
    assert_eq!(bar(50, 100), "[=======>       ]");
    assert_eq!(bar(99, 100), "[==============>]");
    assert_eq!(bar(100, 100), "[===============]");
    assert_eq!(bar(u64::MAX, u64::MAX), "[===============]");
}
