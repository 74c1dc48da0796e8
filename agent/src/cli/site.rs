//! The arguments that name a site, and loading it with every problem printed.

use super::render::{paint, style};
use super::{Failure, Session};
use crate::site::repositories::Commits;
use crate::site::{Site, SiteError};
use crate::source::{Source, SourceOptions, SourceSpec};
use clap::Args;
use spec::Diagnostic;
use spec::diagnostic;
use std::path::PathBuf;

/// Which site.
#[derive(Debug, Args)]
pub(super) struct SiteArgs {
    /// A directory, or a Git repository: https://…, ssh://…, git@host:path, file:///path
    #[arg(value_name = "SITE")]
    source: String,
    /// The branch of a Git repository; its default branch if not given
    #[arg(short, long)]
    branch: Option<String>,
    /// The folder of a Git repository that is the site
    #[arg(short, long, value_name = "FOLDER")]
    path: Option<String>,
    /// The name under which this site owns what it makes; where it is, if not given
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// The private key for ssh
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// The known hosts for ssh
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// A file whose first line is the password or token for https
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Accept http:// to other hosts: whoever is on the way can then change what runs here
    #[arg(long)]
    allow_plain_http: bool,
}

impl SiteArgs {
    /// The source they name.
    pub(super) fn open(&self, session: &Session) -> Result<Source, Failure> {
        let options = SourceOptions {
            branch: self.branch.clone(),
            path: self.path.clone(),
            site: self.site.clone(),
            ssh_key: self.ssh_key.clone(),
            known_hosts: self.known_hosts.clone(),
            password_file: self.password_file.clone(),
            allow_plain_http: self.allow_plain_http,
        };
        let spec = SourceSpec::parse(&self.source, options)
            .map_err(|error| Failure::Error { hint: Some(error.hint.clone()), error: error.into() })?;
        Ok(Source::open(spec, &session.places.state)?)
    }
}

/// Fetches, reads and checks a site; prints every problem of it.
pub(super) fn load(source: &Source, session: &Session) -> Result<Site, Failure> {
    match source.fetch().map_err(SiteError::from).and_then(|checkout| crate::site::load(checkout, &session.places.state, &Commits::new())) {
        Ok(site) => {
            print_all(&site.warnings, session);
            Ok(site)
        }
        Err(SiteError::Invalid(problems)) => {
            print_all(&problems, session);
            let errors = problems.iter().filter(|problem| problem.severity == spec::Severity::Error).count();
            session.render.say(format_args!(
                "{} {errors} problem{} in the manifests; nothing was changed",
                paint(style::ERROR, "error:"),
                if errors == 1 { "" } else { "s" }
            ));
            Err(Failure::Shown)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints problems, each with its place.
pub(super) fn print_all(problems: &[Diagnostic], session: &Session) {
    for problem in problems {
        if session.render.json {
            session.render.json_line(&serde_json::json!({"type": "diagnostic", "diagnostic": problem}));
        } else {
            let style = if session.render.colours_errors() { diagnostic::Style::Coloured } else { diagnostic::Style::Plain };
            session.render.say(diagnostic::render(problem, style));
        }
    }
}
