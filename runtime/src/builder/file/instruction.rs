//! What a Dockerfile says, one instruction at a time, before any substitution.

use super::lines::Heredoc;
use std::time::Duration;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Begins a stage.
    From(From),
    /// Declares build arguments with their defaults.
    Arg(Vec<(String, Option<String>)>),
    /// Sets environment variables; names and values are expanded.
    Env(Vec<(String, String)>),
    /// Sets labels.
    Label(Vec<(String, String)>),
    /// Runs a command and keeps what it changed.
    Run(Run),
    /// Copies from the context, a stage or an image.
    Copy {
        /// What goes where.
        transfer: Transfer,
        /// Stage, image or named context it comes from; the context if `None`. Never expanded.
        from: Option<String>,
        /// Whether the sources' parent directories are kept.
        parents: bool,
    },
    /// Copies from the context, unpacking archives, or from a URL or Git repository.
    Add {
        /// What goes where.
        transfer: Transfer,
        /// Digest the fetched content must have.
        checksum: Option<String>,
        /// Whether `.git` of a repository is kept.
        keep_git_dir: bool,
        /// Whether archives are unpacked; `None`: local ones are, fetched ones are not.
        unpack: Option<bool>,
    },
    /// The default command.
    Cmd(CommandLine),
    /// The program that the command is given to.
    Entrypoint(CommandLine),
    /// The shell of shell forms.
    Shell(Vec<String>),
    /// The working directory of what follows and of the container.
    Workdir(String),
    /// The user of what follows and of the container.
    User(String),
    /// Ports the container listens on.
    Expose(Vec<String>),
    /// Paths that are volumes.
    Volume(Vec<String>),
    /// The signal that stops the container.
    StopSignal(String),
    /// How its health is probed.
    HealthCheck(HealthCheck),
    /// An instruction for images built on this one: its text with heredoc bodies.
    OnBuild(String),
    /// The author.
    Maintainer(String),
}

/// `FROM [--platform=p] image [AS name]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// Image, earlier stage or `scratch`; expanded with the global arguments.
    pub image: String,
    /// Accepted; this host's platform is the only one built for.
    pub platform: Option<String>,
    /// Name of the stage, in lower case.
    pub name: Option<String>,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// JSON array: run as it is.
    Exec(Vec<String>),
    /// Text for the shell.
    Shell(String),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: CommandLine,
    /// Bodies of its heredocs.
    pub heredocs: Vec<Heredoc>,
    /// `--mount` values as written.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: RunNetwork,
}

/// Which network a RUN step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build says, and if it says nothing one of its own that leads out as the host's does.
    Default,
    /// None but loopback.
    None,
    /// That of whoever builds.
    Host,
}

/// What COPY and ADD have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What is copied, in order.
    pub sources: Vec<Source>,
    /// Where to.
    pub destination: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded.
    pub chmod: Option<String>,
    /// `--link`: symlinks of the destination are not followed.
    pub link: bool,
    /// `--exclude` patterns, expanded.
    pub exclude: Vec<String>,
}

impl Transfer {
    /// All there is, to the root.
    pub fn whole() -> Self {
        let sources = vec![Source::Path("/".to_owned())];
        Self { sources, destination: "/".to_owned(), chown: None, chmod: None, link: false, exclude: Vec::new() }
    }
}

/// One source of a COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, wildcard or URL; expanded.
    Path(String),
    /// A file written in the Dockerfile itself.
    Inline(Heredoc),
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// No probe, whatever the base says.
    None,
    /// A probe. Times are the runtime's defaults where not said.
    Probe {
        /// What is run.
        command: CommandLine,
        /// Between probes.
        interval: Option<Duration>,
        /// For one probe.
        timeout: Option<Duration>,
        /// Grace at the start.
        start_period: Option<Duration>,
        /// Between probes during the grace.
        start_interval: Option<Duration>,
        /// Failures in a row that make it unhealthy.
        retries: Option<u32>,
    },
}

/// The names of all instructions, for telling a mistyped one.
pub(super) const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
