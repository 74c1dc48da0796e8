//! Many entries at once: one transaction, one wait for the disk, whatever a plan makes and removes.

use super::owned::{OwnedState, Ownership, insert, owner};
use super::{Ledger, LedgerError};
use crate::plan::actual::SiteId;
use runtime::container::state::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};
use spec::desired::ResourceId;

/// One change of what we own; see the picture at the top of [`super`].
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// It is about to be created.
    Creating(Ownership<'a>),
    /// It was created, or changed while it was there: it is what this says.
    Present(Ownership<'a>),
    /// It is about to be removed.
    Removing(&'a ResourceId),
    /// It is gone, or was never begun.
    Gone(&'a ResourceId),
}

impl Ledger {
    /// Writes all of these or none. Errors: [`LedgerError::Taken`] names the first resource that another site owns.
    pub fn write(&mut self, entries: &[Entry<'_>], at: Timestamp) -> Result<(), LedgerError> {
        if entries.is_empty() {
            return Ok(());
        }
        let failed = self.failed("remember what is owned");
        let result = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            for entry in entries {
                if let Some(taken) = write_one(&transaction, entry, at)? {
                    return Ok(Some(taken));
                }
            }
            transaction.commit().map(|()| None)
        });
        match result.map_err(failed)? {
            Some((resource, owner)) => Err(LedgerError::Taken { resource, owner }),
            None => Ok(()),
        }
    }
}

fn write_one(transaction: &Transaction<'_>, entry: &Entry<'_>, at: Timestamp) -> rusqlite::Result<Option<(ResourceId, SiteId)>> {
    let (ownership, state) = match entry {
        Entry::Creating(ownership) => (ownership, OwnedState::Creating),
        Entry::Present(ownership) => (ownership, OwnedState::Present),
        Entry::Removing(resource) => {
            let sql = "UPDATE owned SET state = ?3, changed = ?4 WHERE kind = ?1 AND name = ?2";
            let parameters = params![resource.kind.to_string(), resource.name, OwnedState::Removing.as_str(), at.0];
            return transaction.execute(sql, parameters).map(|_| None);
        }
        Entry::Gone(resource) => {
            let sql = "DELETE FROM owned WHERE kind = ?1 AND name = ?2";
            return transaction.execute(sql, params![resource.kind.to_string(), resource.name]).map(|_| None);
        }
    };
    if let Some(owner) = owner(transaction, ownership.resource)?.filter(|owner| owner != ownership.site) {
        return Ok(Some((ownership.resource.clone(), owner)));
    }
    insert(transaction, ownership, state).map(|()| None)
}
