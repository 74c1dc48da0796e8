//! `agent image build`.

use super::find::name;
use super::given;
use super::output::Output;
use super::platform;
use crate::cli::view::{Kind, Teller};
use crate::cli::{Failure, Outcome, Session, exit};
use crate::linux::build_cache::{self, CacheSource, CacheTarget};
use crate::linux::{Bases, BuildContext, BuildLog, GitDirectory, GivenContext, Supplies, build_request, build_with, image_key, with_room};
use crate::progress::{Progress, Tell};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use runtime::builder::file::RunNetwork;
use runtime::builder::share;
use runtime::builder::{BuildRequest, Caching, HostNetwork, InlineCache, complete_cache};
use runtime::engine::Engine;
use runtime::image::ImageId;
use spec::value::Digest;
use std::path::{Path, PathBuf};

/// Build an image from a Dockerfile.
#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// What the build can use: a directory, a repository (https://host/repo.git#ref:directory), or - for a tar or a Dockerfile on
    /// standard input
    #[arg(default_value = ".")]
    context: String,
    /// The Dockerfile, from here or, where there is none, from the context [default: the context's Dockerfile]; - reads it from
    /// standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// A further context, name=directory, name=docker-image://reference or name=repository: what FROM name and --from=name mean
    #[arg(long, value_name = "NAME=CONTEXT")]
    build_context: Vec<String>,
    /// Name of the result
    #[arg(short, long)]
    tag: Vec<String>,
    /// A build argument, KEY=value, or KEY to take it from the environment
    #[arg(long, value_name = "KEY=VALUE")]
    build_arg: Vec<String>,
    /// A label of the image
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// The stage to build; the last one if not given
    #[arg(long)]
    target: Option<String>,
    /// Run every step, whatever is cached
    #[arg(long)]
    no_cache: bool,
    /// Run every step of these stages, whatever is cached
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Ask registries for base images, also for those that are here
    #[arg(long)]
    pull: bool,
    /// The platform to build for: only this host's
    #[arg(long)]
    platform: Option<String>,
    /// The network of RUN steps that do not say which
    #[arg(long, value_enum, default_value = "default")]
    network: Network,
    /// What steps may ask for besides: network.host, for RUN --network=host (--network host allows it too)
    #[arg(long, value_name = "ENTITLEMENT", value_enum, value_delimiter = ',')]
    allow: Vec<Entitlement>,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE | ,env=VARIABLE]
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// An ssh agent for RUN --mount=type=ssh: default, ID=SOCKET, or ID=KEY,… with files of keys that have no passphrase
    #[arg(long, value_name = "AGENT")]
    ssh: Vec<String>,
    /// Use a build cache of elsewhere: an image, type=registry,ref=IMAGE (of which only the layers come that a step needs) or
    /// type=local,src=DIR
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Leave the build cache behind: an image, type=registry,ref=IMAGE[,mode=max], type=local,dest=DIR[,mode=max] or type=inline
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,
    /// Where the result goes besides the store: a directory for its files, - for them as a tar, or type=local|tar|oci|docker,dest=PATH,
    /// type=image[,name=NAME][,push=true] or type=registry
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Publish the result under its names: type=registry
    #[arg(long)]
    push: bool,
    /// Keep the result in the store, where it is in any case: type=docker
    #[arg(long)]
    load: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what is known of the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// How much is said meanwhile, and in which form
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    progress: Kind,
    /// Say nothing but the image's id
    #[arg(short, long)]
    quiet: bool,
}

/// Which network commands see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Network {
    /// One of its own that leads out as the host's does
    Default,
    /// The one the agent itself is in
    Host,
    /// None but loopback
    None,
}

/// What a step must be allowed, by BuildKit's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Entitlement {
    /// The network that the agent itself is in
    #[value(name = "network.host")]
    NetworkHost,
}

pub(super) fn run(args: &BuildArgs, session: &Session) -> Outcome {
    args.platform.as_deref().map_or(Ok(()), platform::check)?;
    // A name that is none should not cost a build.
    for tag in &args.tag {
        image_key(tag).with_context(|| format!("--tag {tag}"))?;
    }
    let engine = session.engine()?;
    let sources = args.cache_from.iter().map(|text| build_cache::source(text)).collect::<Result<Vec<_>, _>>()?;
    let targets = args.cache_to.iter().map(|text| build_cache::target(text)).collect::<Result<Vec<_>, _>>()?;
    let (outputs, names) = outputs(args)?;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| anyhow::Error::from_boxed(error).context("open the build context");
    let dockerfile = given::dockerfile(Path::new(&args.context), args.file.as_deref());
    let given_context = GivenContext { context: &args.context, dockerfile: &dockerfile, git_directory: git_directory(args) };
    let mut context = BuildContext::open(&engine, &given_context, &mut std::io::stdin().lock()).map_err(failed)?;
    for pair in &args.build_context {
        context.add(&engine, pair).map_err(failed)?;
    }
    let request = BuildRequest {
        dockerfile: dockerfile.clone(),
        inline: context.inline.clone(),
        contexts: context.contexts.clone(),
        args: given::arguments(&args.build_arg),
        labels: given::labels(&args.label),
        target: args.target.clone(),
        caching: caching(args),
        network: match args.network {
            Network::Default => RunNetwork::Default,
            Network::Host => RunNetwork::Host,
            Network::None => RunNetwork::None,
        },
        host_network: if args.allow.contains(&Entitlement::NetworkHost) { HostNetwork::Allow } else { HostNetwork::Refuse },
        inline_cache: if targets.contains(&CacheTarget::Inline) { InlineCache::Add } else { InlineCache::Omit },
        given: given::read(&args.secret, &args.ssh)?,
        ..build_request(&engine, context.directory.clone())
    };
    super::lint::say_warnings(session, &request.context, &request.dockerfile, &request.args);
    let bases = if args.pull { Bases::Refresh } else { Bases::Keep };
    let log = BuildLog::new(&session.places.state);
    let teller = Teller::new(if args.quiet { Kind::Quiet } else { args.progress }, "Building", session.render)?;
    let tell = |progress: &Progress<'_>| teller.tell(progress);
    let built = with_room(&engine, &|line| teller.note(line), &|| {
        let _lease = engine.images().lease()?;
        let from = sources.iter().zip(&args.cache_from);
        let caches: Vec<_> = from.filter_map(|(source, text)| cache(&engine, source, text, &tell, session)).collect();
        let mut built = build_with(&engine, &request, Supplies { bases, caches: &caches }, &log, &tell)?;
        if targets.iter().any(build_cache::takes_all) {
            complete_cache(engine.images(), &caches, &mut built.steps)?;
        }
        name(&engine, built.image, &names).map(|()| built)
    });
    let exported = built.as_ref().map_or(Ok(()), |built| targets.iter().try_for_each(|it| build_cache::export(&engine, built, it, &tell)));
    teller.end();
    let built = built.context("build").map_err(|error| Failure::Error {
        error,
        hint: log.path().map(|path| format!("all that the build said is in {}", path.display())),
    })?;
    exported.context("leave the build cache behind")?;
    outputs.iter().try_for_each(|output| output.write(&engine, &built.image, &names, session))?;
    describe(args, &engine, &built.image, &names)?;
    if !outputs.iter().any(Output::takes_stdout) {
        session.render.answer("id", built.image);
    }
    Ok(exit::DONE)
}

/// A cache of elsewhere. It only saves time: that there is none yet is how every one begins.
fn cache<'a>(
    engine: &'a Engine,
    source: &CacheSource,
    text: &str,
    tell: &'a Tell<'a>,
    session: &Session,
) -> Option<share::SharedCache<'a>> {
    match build_cache::import(engine, source, tell) {
        Ok(cache) => {
            tell(&Progress::Note(&format!("{} cached steps from {text}", cache.len())));
            Some(cache)
        }
        Err(error) => {
            session.render.warn(format_args!("no cache from {text}: {error:#}"));
            None
        }
    }
}

/// Where the result goes, and all its names.
fn outputs(args: &BuildArgs) -> anyhow::Result<(Vec<Output>, Vec<String>)> {
    let mut outputs = args.output.iter().map(|text| Output::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    outputs.extend(args.push.then(Output::push));
    outputs.extend(args.load.then(Output::load));
    let names: Vec<String> = args.tag.iter().chain(outputs.iter().flat_map(Output::names)).cloned().collect();
    Output::check(&outputs, &names)?;
    Ok((outputs, names))
}

/// Writes down what came of it, where that is asked for.
fn describe(args: &BuildArgs, engine: &Engine, image: &ImageId, names: &[String]) -> anyhow::Result<()> {
    if let Some(path) = &args.iidfile {
        write(path, &image.to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, &format!("{:#}\n", metadata(engine.images().manifest_digest(image)?, image, names)))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// What is known of a result, under buildx's names. The manifest's digest is known once the image was published or came from elsewhere.
fn metadata(manifest: Option<Digest>, image: &ImageId, names: &[String]) -> serde_json::Value {
    let mut known = serde_json::Map::new();
    known.insert("containerimage.config.digest".to_owned(), image.to_string().into());
    known.extend(manifest.map(|digest| ("containerimage.digest".to_owned(), digest.to_string().into())));
    known.extend((!names.is_empty()).then(|| ("image.name".to_owned(), names.join(",").into())));
    known.into()
}

/// A build argument that BuildKit takes as an option.
fn git_directory(args: &BuildArgs) -> GitDirectory {
    match given::arguments(&args.build_arg).get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").map(String::as_str) {
        Some("1" | "true") => GitDirectory::Keep,
        Some(_) | None => GitDirectory::Omit,
    }
}

fn caching(args: &BuildArgs) -> Caching {
    match (args.no_cache, args.no_cache_filter.is_empty()) {
        (true, _) => Caching::Ignore,
        (false, true) => Caching::Use,
        (false, false) => Caching::IgnoreStages(args.no_cache_filter.iter().map(|name| name.to_ascii_lowercase()).collect()),
    }
}
