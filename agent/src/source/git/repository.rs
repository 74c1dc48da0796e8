//! A `.git` directory for a build that asks for one: a commit with its files, nothing of its history, no time and no credentials. Made
//! from the same commit it is the same.

use crate::source::{CommitId, FetchError};
use git2::{Oid, Repository, RepositoryInitOptions};
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Makes `work/.git` beside files that are there already. `remote` is what `origin` is to be.
pub(super) fn write(objects: &Repository, commit: &CommitId, remote: &str, work: &Path) -> Result<(), FetchError> {
    let of_objects = |action| FetchError::objects(action, objects.path());
    let id = Oid::from_str(commit.as_str()).map_err(of_objects("read a commit id"))?;
    let found = objects.find_commit(id).map_err(of_objects("read the commit"))?;
    let mut pack = objects.packbuilder().map_err(of_objects("begin a pack"))?;
    // One thread finds the same deltas every time.
    pack.set_threads(1);
    pack.insert_commit(id).map_err(of_objects("collect the commit"))?;
    let git = work.join(".git");
    let failed = |action| FetchError::objects(action, git.as_path());
    let mut options = RepositoryInitOptions::new();
    options.external_template(false).no_reinit(true);
    let repository = Repository::init_opts(work, &options).map_err(failed("make a repository"))?;
    let odb = repository.odb().map_err(failed("open the objects"))?;
    let mut writer = odb.packwriter().map_err(failed("begin a pack"))?;
    pack.foreach(|piece| writer.write_all(piece).is_ok()).map_err(failed("write a pack"))?;
    writer.commit().map_err(failed("complete the pack"))?;
    drop(writer);
    odb.refresh().map_err(failed("read the objects anew"))?;
    if found.parent_count() > 0 {
        put(&git.join("shallow"), commit)?;
    }
    // Not through the library: it would note the time in a log.
    put(&git.join("HEAD"), commit)?;
    repository.remote("origin", remote).map_err(failed("name the remote"))?;
    let tree = repository.find_commit(id).and_then(|commit| commit.tree()).map_err(failed("read the commit"))?;
    let mut index = repository.index().map_err(failed("open the index"))?;
    index.read_tree(&tree).and_then(|()| index.write()).map_err(failed("write the index"))
}

fn put(path: &Path, commit: &CommitId) -> Result<(), FetchError> {
    fs::write(path, format!("{commit}\n")).map_err(FetchError::local("write", path))
}
