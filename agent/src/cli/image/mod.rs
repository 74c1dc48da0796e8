//! `agent image …`: what is in the store, and ways to get something into it. A verb a file.

mod build;
mod find;
mod import;
mod inspect;
mod lint;
mod login;
mod logout;
mod ls;
mod pull;
mod push;
mod rm;
mod tag;

use super::{Outcome, Session};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// List images
    Ls(ls::LsArgs),
    /// Build an image from a Dockerfile
    Build(build::BuildArgs),
    /// Check a Dockerfile for what builds but is likely not meant
    Lint(lint::LintArgs),
    /// Fetch an image from a registry
    Pull(pull::PullArgs),
    /// Publish an image in a registry
    Push(push::PushArgs),
    /// Log in to a registry
    Login(login::LoginArgs),
    /// Forget the password for a registry
    Logout(logout::LogoutArgs),
    /// Make an image from a root file system tar, an OCI archive or a docker archive
    Import(import::ImportArgs),
    /// Give an image one more name
    Tag(tag::TagArgs),
    /// Show an image's configuration, as JSON
    Inspect(inspect::InspectArgs),
    /// Remove names of images, and the images when no name is left
    Rm(rm::RmArgs),
}

pub(super) fn run(command: &ImageCommand, session: &Session) -> Outcome {
    match command {
        ImageCommand::Ls(args) => ls::run(args, session),
        ImageCommand::Build(args) => build::run(args, session),
        ImageCommand::Lint(args) => lint::run(args, session),
        ImageCommand::Pull(args) => pull::run(args, session),
        ImageCommand::Push(args) => push::run(args, session),
        ImageCommand::Login(args) => login::run(args, session),
        ImageCommand::Logout(args) => logout::run(args, session),
        ImageCommand::Import(args) => import::run(args, session),
        ImageCommand::Tag(args) => tag::run(args, session),
        ImageCommand::Inspect(args) => inspect::run(args, session),
        ImageCommand::Rm(args) => rm::run(args, session),
    }
}
