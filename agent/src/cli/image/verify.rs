//! `agent image verify`.

use super::find::reference;
use crate::cli::render::{paint, style};
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use runtime::container::state::Phase;
use runtime::engine::Engine;
use runtime::image::store::{Finding, Lost, Repaired, Subject, Verified};
use spec::value::{Digest, ImageReference};
use std::collections::BTreeMap;

/// Check that every image, layer and blob of the store is what it should be.
///
/// Everything is read and compared with its digest; nothing has to stop for it. Exits with 1 if anything is damaged. With --repair, layers
/// are unpacked again from their kept compressed form, else images are fetched again by digest from the registry they came from;
/// what containers that run have mounted is left alone.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// Make whole what can be made whole
    #[arg(long)]
    repair: bool,
    /// Say what is looked at
    #[arg(short, long)]
    progress: bool,
}

pub(super) fn run(args: &VerifyArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut told = |subject: &Subject| {
        if args.progress {
            session.render.say(describe(subject));
        }
    };
    let verified = engine.images().verify(&mut told)?;
    let outcomes = if args.repair { repair(&engine, &verified.findings, session)? } else { Vec::new() };
    report(&verified, &outcomes, session);
    let repaired = args.repair && outcomes.iter().all(|outcome| matches!(outcome, Repaired::Done(_)));
    // What was repaired is looked at again: only then it is whole.
    let whole = verified.findings.is_empty() || (repaired && engine.images().verify(&mut |_| {})?.findings.is_empty());
    Ok(if whole { exit::DONE } else { exit::FAILED })
}

fn report(verified: &Verified, outcomes: &[Repaired], session: &Session) {
    let render = session.render;
    if render.json {
        return render.json_document(&serde_json::json!({"verified": verified, "repaired": outcomes}));
    }
    for (at, finding) in verified.findings.iter().enumerate() {
        render.line(format_args!("{} {}: {}", paint(style::BAD, "damaged"), describe(&finding.subject), finding.problem));
        match outcomes.get(at) {
            Some(Repaired::Done(how)) => render.line(format_args!("  {} {how}", paint(style::GOOD, "repaired:"))),
            Some(Repaired::Left(why)) => render.line(format_args!("  {} {why}", paint(style::CHANGED, "left:"))),
            None => {}
        }
    }
    let Verified { findings, blobs, layers, images } = verified;
    let verdict = if findings.is_empty() { "all whole".to_owned() } else { format!("{} damaged", findings.len()) };
    let count = |count: &usize, one: &str| format!("{count} {one}{}", if *count == 1 { "" } else { "s" });
    let (images, layers, blobs) = (count(images, "image"), count(layers, "layer"), count(blobs, "blob"));
    render.line(format_args!("{images}, {layers}, {blobs}: {verdict}"));
    if !findings.is_empty() && outcomes.is_empty() {
        render.say("agent image verify --repair makes whole what can be made whole");
    }
}

fn describe(subject: &Subject) -> String {
    match subject {
        Subject::Blob(digest) => format!("blob {digest}"),
        Subject::Layer(diff_id) => format!("layer {diff_id}"),
        Subject::Image(id) => format!("image {id}"),
        Subject::Name(path) => format!("name {}", path.display()),
        Subject::Stray(path) => path.display().to_string(),
    }
}

fn repair(engine: &Engine, findings: &[Finding], session: &Session) -> Result<Vec<Repaired>, crate::cli::Failure> {
    let mut mounted: BTreeMap<Digest, String> = BTreeMap::new();
    for (id, snapshot) in engine.containers()? {
        // One that cannot be read may run, on any layer: then none is touched.
        let snapshot = snapshot?;
        if !matches!(snapshot.state.phase, Phase::Created | Phase::Exited { .. }) {
            let layers = snapshot.config.layers.iter().filter_map(|path| engine.images().layer_at(path));
            mounted.extend(layers.map(|layer| (layer, id.to_string())));
        }
    }
    let mut fetch = |lost: &Lost| fetch(engine, lost, session);
    Ok(engine.images().repair(findings, &|layer| mounted.get(layer).cloned(), &mut fetch)?)
}

/// Fetches an image again from a registry that one of its names is of: by digest where that is known, so that it is the same.
fn fetch(engine: &Engine, lost: &Lost, session: &Session) -> Result<(), String> {
    let access = crate::linux::registry_access(engine.places()).map_err(|error| crate::host::chain(&error))?;
    let named = lost.names.iter().filter(|name| name.contains(['/', ':', '@'])).filter_map(|name| reference(name));
    let mut why = "no name of it is one of a registry".to_owned();
    for name in named {
        let exact = match (&lost.manifest, name.digest()) {
            (Some(digest), None) => format!("{}/{}@{digest}", name.registry(), name.repository()).parse::<ImageReference>(),
            (_, Some(_)) | (None, None) => Ok(name.clone()),
        };
        let Ok(exact) = exact else { continue };
        session.render.say(format_args!("fetching {exact}"));
        match crate::linux::fetch(engine.images(), &exact, &access, &|_| {}) {
            Ok(id) if id == lost.id => return Ok(()),
            Ok(_) => why = format!("{exact} is another image now"),
            Err(error) => why = crate::host::chain(&error),
        }
    }
    Err(why)
}
