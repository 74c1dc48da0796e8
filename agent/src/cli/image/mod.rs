//! `agent image …`: what is in the store, and ways to get something into it. A verb a file.

mod build;
mod cache;
mod find;
mod given;
mod history;
mod import;
mod inspect;
mod lint;
mod load;
mod login;
mod logout;
mod ls;
mod output;
mod platform;
mod prune;
mod pull;
mod push;
mod rm;
pub(super) mod save;
mod tag;
mod verify;

use super::{Outcome, Session, container};
pub(super) use cache::{CacheCommand, run as cache};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// List images
    #[command(alias = "list")]
    Ls(ls::LsArgs),
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// List and remove what builds keep for the next ones
    #[command(subcommand)]
    Cache(cache::CacheCommand),
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
    /// Make an image from a root file system tar
    Import(import::ImportArgs),
    /// Write images to an archive
    Save(save::SaveArgs),
    /// Add the images of an archive, with their names
    Load(load::LoadArgs),
    /// Make an image of a container as it is now
    Commit(container::CommitArgs),
    /// Write a container's files to a tar
    Export(container::ExportArgs),
    /// Give an image one more name
    Tag(tag::TagArgs),
    /// Show what is known of images, as JSON
    Inspect(inspect::InspectArgs),
    /// Show how an image came to be
    History(history::HistoryArgs),
    /// Remove names of images, and the images when no name is left
    #[command(alias = "remove")]
    Rm(rm::RmArgs),
    /// Remove images that nothing uses, after showing them
    Prune(prune::PruneArgs),
    /// Check that everything in the store is what it should be, and repair it
    Verify(verify::VerifyArgs),
}

pub(super) fn run(command: &ImageCommand, session: &Session) -> Outcome {
    match command {
        ImageCommand::Ls(args) => ls::run(args, session),
        ImageCommand::Build(args) => build::run(args, session),
        ImageCommand::Cache(command) => cache::run(command, session),
        ImageCommand::Lint(args) => lint::run(args, session),
        ImageCommand::Pull(args) => pull::run(args, session),
        ImageCommand::Push(args) => push::run(args, session),
        ImageCommand::Login(args) => login::run(args, session),
        ImageCommand::Logout(args) => logout::run(args, session),
        ImageCommand::Import(args) => import::run(args, session),
        ImageCommand::Tag(args) => tag::run(args, session),
        ImageCommand::Inspect(args) => inspect::run(args, session),
        ImageCommand::Rm(args) => rm::run(args, session),
        ImageCommand::Save(args) => save::run(args, session),
        ImageCommand::Load(args) => load::run(args, session),
        ImageCommand::Commit(args) => container::commit(args, session),
        ImageCommand::Export(args) => container::export(args, session),
        ImageCommand::History(args) => history::run(args, session),
        ImageCommand::Prune(args) => prune::run(args, session),
        ImageCommand::Verify(args) => verify::run(args, session),
    }
}
