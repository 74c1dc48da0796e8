//! A plan as people read it, without colours, and as lines of JSON.
//!
//! ```text
//! ~ container/web  update while it runs
//!     resources.memory: 256Mi → 512Mi  (web.yaml:12)
//!
//! Plan: 1 to update.
//! ```

use super::action::{Blocked, Cause, Change, Consequence, Note, Plan, Purpose, Step, Verb};
use serde::Serialize;
use spec::desired::{Kind, Location};
use std::fmt;

/// Characters of a value that are shown; the whole of it is in the JSON.
const VALUE_CHARS_MAX: usize = 60;
/// Version of the lines of JSON: the minor part grows when something is added, the major part when something changes.
const JSON_VERSION: &str = "1.1";

/// The plan as text: a block a resource, what is blocked, what is worth knowing, and counts in the last line.
pub fn render(plan: &Plan) -> String {
    plan.to_string()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        if !self.blocked.is_empty() {
            writeln!(f, "Blocked:")?;
            for Blocked { resource, why } in &self.blocked {
                writeln!(f, "  {resource}: {}", printable_whole(why))?;
            }
            writeln!(f)?;
        }
        if !self.notes.is_empty() {
            writeln!(f, "Left alone:")?;
            for Note { resource, text } in &self.notes {
                writeln!(f, "  {resource}: {}", printable_whole(text))?;
            }
            writeln!(f)?;
        }
        if !self.warnings.is_empty() {
            writeln!(f, "Warning:")?;
            for Note { resource, text } in &self.warnings {
                writeln!(f, "  {resource}: {}", printable_whole(text))?;
            }
            writeln!(f)?;
        }
        if self.provisional {
            writeln!(f, "What follows from images or networks that come first is known once they are there; then it is planned again.")?;
        }
        writeln!(f, "{}", Summary::of(self))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}  {}", self.glyph(), self.resource, self.words())?;
        for cause in &self.causes {
            writeln!(f, "    {cause}")?;
        }
        Ok(())
    }
}

impl Change {
    /// One sign for what happens: `+ ~ +/- -/+ ^ ! > -`.
    pub fn glyph(&self) -> &'static str {
        match (self.verb, self.consequence) {
            (Verb::Create, _) => "+",
            (Verb::Update, _) => "~",
            (Verb::Replace, Consequence::Replace) => "+/-",
            (Verb::Replace, Consequence::None | Consequence::LiveUpdate | Consequence::Restart | Consequence::Downtime) => "-/+",
            (Verb::Publish, _) => "^",
            (Verb::Repair, _) => "!",
            (Verb::Start, _) => ">",
            (Verb::Remove, _) => "-",
        }
    }

    /// What happens and what it means for what runs.
    pub fn words(&self) -> &'static str {
        match (self.verb, self.consequence) {
            (Verb::Create, _) => "create",
            (Verb::Update, _) if self.resource.kind == Kind::Image => "obtain again",
            (Verb::Update, Consequence::None) => "update the record; nothing that runs is touched",
            (Verb::Update, Consequence::Restart) => "update and start",
            (Verb::Update, Consequence::LiveUpdate | Consequence::Replace | Consequence::Downtime) => "update while it runs",
            (Verb::Replace, Consequence::Replace) => "replace: the new one is ready before the old one goes",
            (Verb::Replace, Consequence::Downtime) => "replace: the old one goes first, downtime until the new one is ready",
            (Verb::Replace, Consequence::None | Consequence::LiveUpdate | Consequence::Restart) => "replace: the old one does not run",
            (Verb::Publish, _) => "publish; nothing that runs is touched",
            (Verb::Repair, Consequence::Restart) => "repair and start",
            (Verb::Repair, Consequence::None | Consequence::LiveUpdate | Consequence::Replace | Consequence::Downtime) => "repair",
            (Verb::Start, _) => "start",
            (Verb::Remove, Consequence::Downtime) => "stop and remove",
            (Verb::Remove, Consequence::None | Consequence::LiveUpdate | Consequence::Replace | Consequence::Restart) => "remove",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |location: &Option<Location>| location.as_ref().map(|at| format!("  ({at})")).unwrap_or_default();
        match self {
            Self::New { location } => write!(f, "new{}", place(location)),
            Self::Field { field, old, new, location, forces_replacement } => {
                let mark = if *forces_replacement { "  # forces replacement" } else { "" };
                write!(f, "{}: {} → {}{}{mark}", printable(field), printable(old), printable(new), place(location))
            }
            Self::Unnamed => f.write_str("no manifest names it any more"),
            Self::Destroyed => f.write_str("the site is to be destroyed"),
            Self::Drift { what } => f.write_str(&printable_whole(what)),
            Self::Publish { reference, location } => write!(f, "would publish as {reference}{}", place(location)),
            Self::Follows { resource, what } => write!(f, "{resource}: {}", printable_whole(what)),
        }
    }
}

/// How many resources meet which fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// New ones.
    pub create: usize,
    /// Changed in place.
    pub update: usize,
    /// Another takes their place.
    pub replace: usize,
    /// Published in registries.
    pub publish: usize,
    /// Mended.
    pub repair: usize,
    /// Started again.
    pub start: usize,
    /// Removed.
    pub remove: usize,
    /// Wanted and impossible now.
    pub blocked: usize,
    /// Left alone on purpose.
    pub left_alone: usize,
    /// Whether the plan is made again after its first steps.
    pub provisional: bool,
    /// What the plan is for.
    #[serde(skip)]
    pub purpose: Purpose,
}

impl Summary {
    /// Counts a plan's changes.
    pub fn of(plan: &Plan) -> Self {
        let count = |verb| plan.changes.iter().filter(|change| change.verb == verb).count();
        Self {
            create: count(Verb::Create),
            update: count(Verb::Update),
            replace: count(Verb::Replace),
            publish: count(Verb::Publish),
            repair: count(Verb::Repair),
            start: count(Verb::Start),
            remove: count(Verb::Remove),
            blocked: plan.blocked.len(),
            left_alone: plan.notes.len(),
            provisional: plan.provisional,
            purpose: plan.purpose,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fates = [
            (self.create, "to create"),
            (self.update, "to update"),
            (self.replace, "to replace"),
            (self.publish, "to publish"),
            (self.repair, "to repair"),
            (self.start, "to start"),
            (self.remove, "to remove"),
        ];
        let some: Vec<String> = fates.iter().filter(|(count, _)| *count > 0).map(|(count, fate)| format!("{count} {fate}")).collect();
        let done = match self.purpose {
            Purpose::Match => "the host matches the site",
            Purpose::Destroy => "nothing of the site is left",
        };
        match (some.is_empty(), self.blocked) {
            (true, 0) if self.left_alone == 0 => write!(f, "Nothing to do: {done}."),
            (true, 0) => write!(f, "Nothing to do: {done}, but for what is left alone."),
            (true, blocked) => write!(f, "Nothing to do, {blocked} blocked."),
            (false, 0) => write!(f, "Plan: {}.", some.join(", ")),
            (false, blocked) => write!(f, "Plan: {}, {blocked} blocked.", some.join(", ")),
        }
    }
}

/// One line of the machine-readable form. Readers ignore types and fields they do not know.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Line<'a> {
    /// Always the first.
    Version { version: &'static str },
    /// What happens to one resource.
    Change {
        #[serde(flatten)]
        change: &'a Change,
        message: &'static str,
    },
    /// One step, with its place.
    Step {
        place: usize,
        #[serde(flatten)]
        step: &'a Step,
    },
    /// What cannot be done.
    Blocked {
        #[serde(flatten)]
        blocked: &'a Blocked,
    },
    /// What is left alone.
    Note {
        #[serde(flatten)]
        note: &'a Note,
    },
    /// What a change will cost.
    Warning {
        #[serde(flatten)]
        warning: &'a Note,
    },
    /// Always the last.
    Summary {
        #[serde(flatten)]
        summary: Summary,
    },
}

/// The plan as lines of JSON: the version, then one object a change, step, blocked resource, note and warning, then the summary.
pub fn json_lines(plan: &Plan) -> String {
    let lines = [Line::Version { version: JSON_VERSION }]
        .into_iter()
        .chain(plan.changes.iter().map(|change| Line::Change { change, message: change.words() }))
        .chain(plan.steps.iter().enumerate().map(|(place, step)| Line::Step { place, step }))
        .chain(plan.blocked.iter().map(|blocked| Line::Blocked { blocked }))
        .chain(plan.notes.iter().map(|note| Line::Note { note }))
        .chain(plan.warnings.iter().map(|warning| Line::Warning { warning }))
        .chain([Line::Summary { summary: Summary::of(plan) }]);
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(&line).expect("our own values have text keys and finite numbers"));
        text.push('\n');
    }
    text
}

/// A value on one line of a terminal: control characters escaped, the middle of a long one left out.
fn printable(text: &str) -> String {
    let clean = printable_whole(text);
    let length = clean.chars().count();
    if length <= VALUE_CHARS_MAX {
        return clean;
    }
    let half = VALUE_CHARS_MAX / 2;
    let head: String = clean.chars().take(half).collect();
    let tail: String = clean.chars().skip(length - half).collect();
    format!("{head}…{tail}")
}

fn printable_whole(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::action::Action;
    use spec::desired::ResourceId;

    fn plan() -> Plan {
        let resource = ResourceId { kind: Kind::Container, name: "web".to_owned() };
        let cause = |old: &str, new: String| Cause::Field {
            field: "env.KEY".to_owned(),
            old: old.to_owned(),
            new,
            location: Some(Location { file: "web.yaml".into(), line: 12, column: 3 }),
            forces_replacement: true,
        };
        let causes = vec![cause("a\nb\u{1b}[2J", "k".repeat(100))];
        let change = Change { resource: resource.clone(), verb: Verb::Replace, causes, consequence: Consequence::Downtime };
        let id = "web@1".parse().unwrap();
        let step = Step { action: Action::StopContainer { id }, resource: resource.clone(), after: vec![0] };
        let blocked = Blocked { resource: resource.clone(), why: "no".to_owned() };
        let note = Note { resource, text: "held".to_owned() };
        Plan {
            changes: vec![change],
            steps: vec![step],
            blocked: vec![blocked],
            notes: vec![note],
            warnings: Vec::new(),
            provisional: true,
            purpose: Purpose::Match,
        }
    }

    #[test]
    fn values_stay_on_their_line_and_never_reach_the_terminal_raw() {
        let text = render(&plan());
        let line = text.lines().nth(1).unwrap();
        assert_eq!(line, format!("    env.KEY: a\\nb\\u{{1b}}[2J → {k}…{k}  (web.yaml:12)  # forces replacement", k = "k".repeat(30)));
    }

    #[test]
    fn json_is_one_object_a_line_between_version_and_summary() {
        let lines: Vec<serde_json::Value> = json_lines(&plan()).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["version", "change", "step", "blocked", "note", "summary"]);
        assert_eq!(lines[0]["version"], "1.1");
        assert_eq!(lines[1]["resource"], serde_json::json!({"kind": "container", "name": "web"}));
        assert_eq!(lines[1]["causes"][0]["field"]["new"].as_str().unwrap().len(), 100, "JSON keeps the whole value");
        assert_eq!(lines[2]["action"]["action"], "stopContainer");
        assert_eq!(lines[2]["after"], serde_json::json!([0]));
        assert_eq!(lines[5]["replace"], 1);
        assert_eq!(lines[5]["provisional"], true);
    }
}
