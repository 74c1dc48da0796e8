//! A repository of this host, read in place. Opening it bare runs nothing of it and writes nothing to it, whoever owns it.

use super::branch_missing;
use crate::source::address::GitAddress;
use crate::source::{CommitId, FetchError};
use git2::{BranchType, ErrorCode, Oid, Repository};
use std::path::Path;

/// Opens a bare repository, or the one of a work tree.
pub(super) fn open(address: &GitAddress) -> Result<Repository, FetchError> {
    let path = Path::new(&address.path);
    let nothing = |detail: &str| FetchError::NotARepository { repository: address.to_string(), detail: detail.to_owned() };
    if !path.is_dir() {
        return Err(nothing("there is no such directory"));
    }
    let inner = path.join(".git");
    let path = if inner.exists() { inner } else { path.to_owned() };
    Repository::open_bare(&path).map_err(|error| nothing(error.message()))
}

/// The commit a branch is at; the one HEAD names if none is given.
pub(super) fn tip(repository: &Repository, address: &GitAddress, branch: Option<&str>) -> Result<CommitId, FetchError> {
    let failed = |action| FetchError::objects(action, repository.path());
    let Some(branch) = branch else {
        return match repository.head().and_then(|head| head.peel_to_commit()) {
            Ok(commit) => Ok(commit.id().into()),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                Err(FetchError::Empty { repository: address.to_string() })
            }
            Err(error) => Err(failed("read HEAD")(error)),
        };
    };
    match repository.find_branch(branch, BranchType::Local) {
        Ok(found) => Ok(found.into_reference().peel_to_commit().map_err(failed("read the branch"))?.id().into()),
        Err(error) if error.code() == ErrorCode::NotFound => {
            let tag = format!("refs/tags/{}", branch.strip_prefix("refs/tags/").unwrap_or(branch));
            let named = repository.find_reference(&tag).and_then(|tag| tag.peel_to_commit());
            let by_id = || branch.parse::<CommitId>().ok().and_then(|id| Oid::from_str(id.as_str()).ok());
            if let Some(commit) = named.ok().or_else(|| by_id().and_then(|id| repository.find_commit(id).ok())) {
                return Ok(commit.id().into());
            }
            let branches = repository.branches(Some(BranchType::Local)).map_err(failed("list the branches"))?;
            let mut known: Vec<String> = branches
                .flatten()
                .filter_map(|(branch, _)| branch.name_bytes().ok().map(|name| String::from_utf8_lossy(name).into_owned()))
                .collect();
            known.sort();
            Err(branch_missing(address.to_string(), branch, known.into_iter()))
        }
        Err(error) => Err(failed("find the branch")(error)),
    }
}
