//! `agent image save`.

use super::find::{find, key, reference};
use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use runtime::image::archive::save::{self, Format, ToSave};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

/// Write images to a tar that agent image load, docker load, podman load and skopeo read.
///
/// It is an OCI layout and a docker archive at once, and holds what a push would send: loaded elsewhere, the images have the same
/// digests.
#[derive(Debug, Args)]
pub(in crate::cli) struct SaveArgs {
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
    /// Where to; standard output if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, default_value = "both")]
    format: SaveFormat,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SaveFormat {
    /// An OCI layout that is a docker archive too
    Both,
    /// An OCI layout alone
    Oci,
    /// A docker archive alone
    Docker,
}

pub(super) fn run(args: &SaveArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut images: Vec<ToSave> = Vec::new();
    for name in &args.images {
        let id = find(&engine, name)?;
        // An image that was named by its id is saved without a name, as with docker.
        let named = key(&engine, name).ok().and_then(|key| reference(&key));
        match images.iter_mut().find(|image| image.id == id) {
            Some(image) => image.names.extend(named),
            None => images.push(ToSave { id, names: named.into_iter().collect::<BTreeSet<_>>() }),
        }
    }
    let format = match args.format {
        SaveFormat::Both => Format::Both,
        SaveFormat::Oci => Format::Oci,
        SaveFormat::Docker => Format::Docker,
    };
    let _lease = engine.images().lease()?;
    write(args.output.as_deref(), |sink| Ok(save::save(engine.images(), &images, format, sink)?))
}

/// Lets something be written to a file, which appears whole or not at all, or to standard output, unless a person would see it.
pub(in crate::cli) fn write(output: Option<&Path>, fill: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Outcome {
    let Some(path) = output else {
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            let hint = Some("give a file with --output, or pipe it on".to_owned());
            return Err(Failure::Error { error: anyhow!("an archive is not written to a terminal"), hint });
        }
        let mut sink = BufWriter::with_capacity(1 << 18, stdout.lock());
        fill(&mut sink)?;
        sink.flush().context("write to standard output")?;
        return Ok(exit::DONE);
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let filled = File::create(&part).with_context(|| format!("create {}", part.display())).map_err(Failure::from).and_then(|file| {
        let mut sink = BufWriter::with_capacity(1 << 18, file);
        fill(&mut sink)?;
        sink.flush().with_context(|| format!("write {}", part.display()))?;
        std::fs::rename(&part, path).with_context(|| format!("rename to {}", path.display()))?;
        Ok(exit::DONE)
    });
    if filled.is_err() {
        // The error on its way is the one to report.
        let _ = std::fs::remove_file(&part);
    }
    filled
}
