//! Which images a site had: one line each time they changed, so that a step back finds them still there.

use super::owned::{from_json, to_json};
use super::{Ledger, LedgerError, schema};
use crate::plan::actual::SiteId;
use runtime::container::state::Timestamp;
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::collections::BTreeMap;

/// Generations remembered for each site: more than anybody keeps the images of.
pub const GENERATIONS_MAX: u32 = 100;

/// The images of a site at one time, by the name they have in the store.
pub type Generation = BTreeMap<String, Obtained>;

/// An image as a site had it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Obtained {
    /// What it was.
    pub id: Digest,
    /// What it was made from, as the ledger has it.
    pub applied: serde_json::Value,
}

impl Ledger {
    /// Remembers the images of a site; writes nothing if they are what they were.
    pub fn record_generation(&mut self, site: &SiteId, images: &Generation, at: Timestamp) -> Result<(), LedgerError> {
        if self.generations(site, 1)?.first().unwrap_or(&Generation::new()) == images {
            return Ok(());
        }
        let failed = self.failed("remember the images of a site");
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let write = |transaction: rusqlite::Transaction<'_>| {
            let sql = "INSERT INTO generation (site, images, at) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![site.0, to_json(images)?, at.0])?;
            let sql = "SELECT number FROM generation WHERE site = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2";
            let oldest = transaction.query_row(sql, params![site.0, GENERATIONS_MAX], |row| row.get::<_, i64>(0)).optional()?;
            if let Some(oldest) = oldest {
                transaction.execute("DELETE FROM generation WHERE site = ?1 AND number <= ?2", params![site.0, oldest])?;
            }
            transaction.commit()
        };
        transaction.and_then(write).map_err(failed)
    }

    /// The last generations of a site, newest first.
    pub fn generations(&self, site: &SiteId, count: u32) -> Result<Vec<Generation>, LedgerError> {
        // A ledger that was only read since an older version wrote it does not have the table yet.
        if schema::found(&self.connection).map_err(self.failed("read the database"))? < schema::version() {
            return Ok(Vec::new());
        }
        let sql = "SELECT images FROM generation WHERE site = ?1 ORDER BY number DESC LIMIT ?2";
        let read = |row: &rusqlite::Row<'_>| from_json(0, &row.get::<_, String>(0)?);
        let all = self.connection.prepare_cached(sql);
        all.and_then(|mut statement| statement.query_map(params![site.0, count], read)?.collect())
            .map_err(self.failed("read the past images of a site"))
    }
}
