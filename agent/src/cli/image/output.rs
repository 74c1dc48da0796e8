//! `agent image build --output`: where a build's result goes besides the store, in BuildKit's words.

use super::save;
use crate::cli::view::{Kind, Teller};
use crate::cli::{Failure, Session};
use crate::linux::write_layout;
use anyhow::{Context as _, anyhow, bail};
use runtime::builder::{export_directory, export_tar};
use runtime::engine::Engine;
use runtime::image::ImageId;
use runtime::image::archive::save::{Format, ToSave};
use runtime::image::registry::Tagged;
use spec::value::ImageReference;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One place a result goes to, with the names it gets besides those of `--tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    to: Place,
    names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The store, where it is anyway.
    Store,
    /// The registries that its names say.
    Registry,
    /// A directory of its files.
    Directory(PathBuf),
    /// A tar of its files.
    Tar(Sink),
    /// An archive of the image.
    Archive(Archive, Sink),
    /// An OCI layout directory of the image.
    Layout(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sink {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Archive {
    Oci,
    Docker,
}

impl Sink {
    fn of(destination: Option<&str>) -> Self {
        destination.filter(|path| *path != "-").map_or(Self::Stdout, |path| Self::File(path.into()))
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Output {
    /// `DIR`, `-`, or `type=local|tar|oci|docker|image|registry[,dest=…][,name=…][,push=true][,tar=false]`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if !text.contains('=') {
            let to = if text == "-" { Place::Tar(Sink::Stdout) } else { Place::Directory(text.into()) };
            return Ok(Self { to, names: Vec::new() });
        }
        Self::options(text).with_context(|| format!("--output {text}"))
    }

    fn options(text: &str) -> anyhow::Result<Self> {
        let pairs = text.split(',').map(|option| option.split_once('=').ok_or_else(|| anyhow!("{option:?} is not name=value")));
        let mut options: BTreeMap<&str, &str> = pairs.collect::<anyhow::Result<_>>()?;
        let kind = options.remove("type").ok_or_else(|| anyhow!("say which: type=local, tar, oci, docker, image or registry"))?;
        let destination = options.remove("dest");
        let names = options.remove("name").map(str::to_owned).into_iter().collect();
        let push = is_on(options.remove("push").unwrap_or("false"))?;
        let tar = is_on(options.remove("tar").unwrap_or("true"))?;
        if let Some(name) = options.keys().next() {
            bail!("there is no option {name:?}");
        }
        let to = match (kind, destination) {
            ("local", Some(directory)) if directory != "-" => Place::Directory(directory.into()),
            ("local", _) => bail!("type=local goes to a directory: dest=DIR"),
            ("tar", destination) => Place::Tar(Sink::of(destination)),
            ("oci", Some(directory)) if !tar => Place::Layout(directory.into()),
            ("oci", destination) => Place::Archive(Archive::Oci, Sink::of(destination)),
            ("docker", None) => Place::Store,
            ("docker", destination) => Place::Archive(Archive::Docker, Sink::of(destination)),
            ("image", None) if !push => Place::Store,
            ("image" | "registry", None) => Place::Registry,
            ("image" | "registry", Some(_)) => bail!("type={kind} goes to no file"),
            (other, _) => bail!("there is no type {other:?}: write local, tar, oci, docker, image or registry"),
        };
        Ok(Self { to, names })
    }

    /// What `--push` stands for.
    pub(super) fn push() -> Self {
        Self { to: Place::Registry, names: Vec::new() }
    }

    /// What `--load` stands for.
    pub(super) fn load() -> Self {
        Self { to: Place::Store, names: Vec::new() }
    }

    /// The names that the result gets for its sake.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it takes the standard output: nothing else may be printed there.
    pub(super) fn takes_stdout(&self) -> bool {
        matches!(self.to, Place::Tar(Sink::Stdout) | Place::Archive(_, Sink::Stdout))
    }

    /// Refuses, before anything is built, what could not be done in the end.
    pub(super) fn check(outputs: &[Self], names: &[String]) -> anyhow::Result<()> {
        if outputs.iter().filter(|output| output.takes_stdout()).count() > 1 {
            bail!("only one --output can go to the standard output");
        }
        if outputs.iter().any(|output| output.to == Place::Registry) && names.is_empty() {
            bail!("to be pushed the image needs a name that says where to: --tag registry.example/shop/web:1");
        }
        Ok(())
    }

    /// Writes an image that has these names.
    pub(super) fn write(&self, engine: &Engine, image: &ImageId, names: &[String], session: &Session) -> Result<(), Failure> {
        let store = engine.images();
        let _lease = store.lease()?;
        match &self.to {
            Place::Store => {}
            Place::Registry => {
                for reference in references(names)? {
                    let teller = Teller::new(Kind::Auto, format!("Pushing {reference}"), session.render)?;
                    let pushed = crate::linux::push(engine, image, &reference, Tagged::Image, &|progress| teller.tell(progress));
                    teller.end();
                    pushed?;
                }
            }
            Place::Directory(path) => {
                export_directory(store, image, path).with_context(|| format!("write the image's files to {}", path.display()))?;
            }
            Place::Tar(sink) => {
                save::write(sink.path(), |sink| Ok(export_tar(store, image, sink).context("write the image's files")?))?;
            }
            Place::Archive(kind, sink) => {
                let format = match kind {
                    Archive::Oci => Format::Oci,
                    Archive::Docker => Format::Docker,
                };
                let images = [ToSave { id: *image, names: references(names)? }];
                save::write(sink.path(), |sink| Ok(runtime::image::archive::save::save(store, &images, format, sink)?))?;
            }
            Place::Layout(path) => write_layout(store, image, path).with_context(|| format!("write {}", path.display()))?,
        }
        Ok(())
    }
}

fn is_on(text: &str) -> anyhow::Result<bool> {
    text.parse().map_err(|_| anyhow!("{text:?} is neither true nor false"))
}

/// The names as references, completed as Docker would.
fn references(names: &[String]) -> anyhow::Result<BTreeSet<ImageReference>> {
    names.iter().map(|name| Ok(name.parse()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_in_buildkits_words() {
        let to = |text: &str| Output::parse(text).map(|output| output.to).map_err(|error| format!("{error:#}"));
        let file = |name: &str| Sink::File(name.into());
        let cases = [
            ("out", Place::Directory("out".into())),
            ("-", Place::Tar(Sink::Stdout)),
            ("type=local,dest=out", Place::Directory("out".into())),
            ("type=tar,dest=f.tar", Place::Tar(file("f.tar"))),
            ("type=tar", Place::Tar(Sink::Stdout)),
            ("type=oci,dest=f", Place::Archive(Archive::Oci, file("f"))),
            ("type=oci,dest=d,tar=false", Place::Layout("d".into())),
            ("dest=-,type=docker", Place::Archive(Archive::Docker, Sink::Stdout)),
            ("type=docker", Place::Store),
            ("type=image", Place::Store),
            ("type=image,push=true", Place::Registry),
            ("type=registry", Place::Registry),
        ];
        for (text, expected) in cases {
            assert_eq!(to(text), Ok(expected), "{text}");
        }
        for (text, problem) in [
            ("type=local", "type=local goes to a directory: dest=DIR"),
            ("dest=x", "say which: type=local, tar, oci, docker, image or registry"),
            ("type=zip,dest=x", "there is no type \"zip\": write local, tar, oci, docker, image or registry"),
            ("type=tar,dest=x,compression=zstd", "there is no option \"compression\""),
            ("type=tar,x", "\"x\" is not name=value"),
            ("type=image,push=maybe", "\"maybe\" is neither true nor false"),
            ("type=registry,dest=x", "type=registry goes to no file"),
        ] {
            assert_eq!(to(text), Err(format!("--output {text}: {problem}")));
        }
        assert_eq!(Output::parse("type=image,name=a:1").map(|output| output.names).unwrap_or_default(), ["a:1"]);
        let stdout = || Output::parse("-").expect("an output");
        assert!(Output::check(&[stdout(), stdout()], &[]).is_err());
        assert!(Output::check(&[Output::push()], &[]).is_err());
        assert!(Output::check(&[Output::push(), stdout()], &["a".to_owned()]).is_ok());
    }
}
