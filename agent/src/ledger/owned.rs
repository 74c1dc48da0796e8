//! What we own. See the picture at the top of [`super`].

use super::{Ledger, LedgerError};
use crate::plan::actual::SiteId;
use crate::source::Revision;
use runtime::container::state::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use spec::desired::{Kind, ResourceId};

/// A resource in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Owned {
    /// What it is; a container's name is that of its incarnation, `web@3`.
    pub resource: ResourceId,
    /// Whose it is.
    pub site: SiteId,
    /// How far it has come.
    pub state: OwnedState,
    /// The manifest it was last made from or updated to, rendered with the defaults of that day.
    pub applied: serde_json::Value,
    /// The revision it came from.
    pub revision: Option<Revision>,
    /// When this record last changed.
    pub changed: Timestamp,
}

/// How far a resource has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnedState {
    /// Its creation was begun. It may be there, in part, or not at all.
    Creating,
    /// It was seen whole.
    Present,
    /// Its removal was begun. It may still be there.
    Removing,
}

/// What is written when a resource is made or updated.
#[derive(Debug, Clone)]
pub struct Ownership<'a> {
    /// What it is.
    pub resource: &'a ResourceId,
    /// Whose it is.
    pub site: &'a SiteId,
    /// Its rendered manifest.
    pub applied: &'a serde_json::Value,
    /// Where that comes from.
    pub revision: Option<&'a Revision>,
    /// Now.
    pub at: Timestamp,
}

impl Ledger {
    /// Remembers that a resource is about to be created. Call it before the first effect on the host; once it returns, no crash
    /// forgets it. Errors: [`LedgerError::Taken`] if another site owns it.
    pub fn intend(&mut self, ownership: &Ownership<'_>) -> Result<(), LedgerError> {
        self.put(ownership, OwnedState::Creating, "remember a creation")
    }

    /// Remembers what a resource was updated to while it ran, or that one was adopted. Errors: [`LedgerError::Taken`].
    pub fn record_applied(&mut self, ownership: &Ownership<'_>) -> Result<(), LedgerError> {
        self.put(ownership, OwnedState::Present, "remember an update")
    }

    /// Remembers that a resource was seen whole. Errors: [`LedgerError::Unknown`] without an [`Ledger::intend`] before.
    pub fn confirm(&mut self, resource: &ResourceId, at: Timestamp) -> Result<(), LedgerError> {
        self.move_to(resource, OwnedState::Present, at, "confirm a creation")
    }

    /// Remembers that a resource is about to be removed; it stays in the ledger until [`Ledger::confirm_removal`].
    pub fn intend_removal(&mut self, resource: &ResourceId, at: Timestamp) -> Result<(), LedgerError> {
        self.move_to(resource, OwnedState::Removing, at, "remember a removal")
    }

    /// Forgets a resource that was seen gone. Does nothing if it is not in the ledger.
    pub fn confirm_removal(&mut self, resource: &ResourceId) -> Result<(), LedgerError> {
        let failed = self.failed("confirm a removal");
        let deleted =
            self.connection.execute("DELETE FROM owned WHERE kind = ?1 AND name = ?2", params![resource.kind.to_string(), resource.name]);
        deleted.map(|_| ()).map_err(failed)
    }

    /// One resource.
    pub fn find_owned(&self, resource: &ResourceId) -> Result<Option<Owned>, LedgerError> {
        let found = self
            .connection
            .prepare_cached(&format!("{SELECT} WHERE kind = ?1 AND name = ?2"))
            .and_then(|mut statement| statement.query_row(params![resource.kind.to_string(), resource.name], read_owned).optional());
        found.map_err(self.failed("look up a resource"))
    }

    /// All resources of a site, or of all sites; sorted by kind and name.
    pub fn owned(&self, site: Option<&SiteId>) -> Result<Vec<Owned>, LedgerError> {
        let all = self.connection.prepare_cached(&format!("{SELECT} WHERE ?1 IS NULL OR site = ?1 ORDER BY kind, name"));
        all.and_then(|mut statement| statement.query_map(params![site.map(|site| &site.0)], read_owned)?.collect())
            .map_err(self.failed("list the resources"))
    }

    /// All resources of one kind, of all sites; sorted by name.
    pub fn owned_of(&self, kind: Kind) -> Result<Vec<Owned>, LedgerError> {
        let all = self.connection.prepare_cached(&format!("{SELECT} WHERE kind = ?1 ORDER BY name"));
        all.and_then(|mut statement| statement.query_map(params![kind.to_string()], read_owned)?.collect())
            .map_err(self.failed("list the resources"))
    }

    fn put(&mut self, ownership: &Ownership<'_>, state: OwnedState, action: &'static str) -> Result<(), LedgerError> {
        let failed = self.failed(action);
        let result = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            let owner = owner(&transaction, ownership.resource)?.filter(|owner| owner != ownership.site);
            if owner.is_none() {
                insert(&transaction, ownership, state)?;
                transaction.commit()?;
            }
            Ok(owner)
        });
        match result.map_err(failed)? {
            Some(owner) => Err(LedgerError::Taken { resource: ownership.resource.clone(), owner }),
            None => Ok(()),
        }
    }

    fn move_to(&mut self, resource: &ResourceId, state: OwnedState, at: Timestamp, action: &'static str) -> Result<(), LedgerError> {
        let sql = "UPDATE owned SET state = ?3, changed = ?4 WHERE kind = ?1 AND name = ?2";
        let parameters = params![resource.kind.to_string(), resource.name, state.as_str(), at.0];
        match self.connection.execute(sql, parameters).map_err(self.failed(action))? {
            0 => Err(LedgerError::Unknown { resource: resource.clone() }),
            _ => Ok(()),
        }
    }
}

impl OwnedState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Present => "present",
            Self::Removing => "removing",
        }
    }
}

const SELECT: &str = "SELECT kind, name, site, state, applied, revision, changed FROM owned";

pub(super) fn owner(transaction: &Transaction<'_>, resource: &ResourceId) -> rusqlite::Result<Option<SiteId>> {
    let sql = "SELECT site FROM owned WHERE kind = ?1 AND name = ?2";
    transaction.query_row(sql, params![resource.kind.to_string(), resource.name], |row| Ok(SiteId(row.get(0)?))).optional()
}

pub(super) fn insert(transaction: &Transaction<'_>, ownership: &Ownership<'_>, state: OwnedState) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO owned (kind, name, site, state, applied, revision, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let Ownership { resource, site, applied, revision, at } = ownership;
    let revision = revision.map(to_json).transpose()?;
    let parameters = params![resource.kind.to_string(), resource.name, site.0, state.as_str(), applied.to_string(), revision, at.0];
    transaction.execute(sql, parameters).map(|_| ())
}

fn read_owned(row: &Row<'_>) -> rusqlite::Result<Owned> {
    let (kind, state): (String, String) = (row.get(0)?, row.get(3)?);
    let kind = match kind.as_str() {
        "image" => Kind::Image,
        "network" => Kind::Network,
        "volume" => Kind::Volume,
        "container" => Kind::Container,
        _ => return Err(unexpected(0, &kind)),
    };
    let state = match state.as_str() {
        "creating" => OwnedState::Creating,
        "present" => OwnedState::Present,
        "removing" => OwnedState::Removing,
        _ => return Err(unexpected(3, &state)),
    };
    Ok(Owned {
        resource: ResourceId { kind, name: row.get(1)? },
        site: SiteId(row.get(2)?),
        state,
        applied: from_json(4, &row.get::<_, String>(4)?)?,
        revision: row.get::<_, Option<String>>(5)?.map(|text| from_json(5, &text)).transpose()?,
        changed: Timestamp(row.get(6)?),
    })
}

fn unexpected(column: usize, text: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, format!("unexpected {text:?}").into())
}

/// A value as the text of a column.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// A value from the text of a column.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into()))
}
