//! What was tried, when, from which commit, and what came of it.

use super::owned::{from_json, to_json};
use super::{Ledger, LedgerError};
use crate::plan::actual::SiteId;
use crate::source::Revision;
use runtime::container::state::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use spec::desired::{Desired, ResourceId};
use spec::value::Digest;

/// Outcomes kept for each site.
const OUTCOMES_MAX: u32 = 1_000;
/// Events kept for all sites.
const EVENTS_MAX: u32 = 10_000;

/// [`Outcome::word`] of a site that was destroyed.
pub const DESTROYED: &str = "destroyed";

/// A site this host knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRecord {
    /// Its identity.
    pub id: SiteId,
    /// Where it comes from, without credentials.
    pub source: String,
    /// What was tried last.
    pub last_revision: Option<Revision>,
    /// What converged last.
    pub good_revision: Option<Revision>,
    /// The desired state that converged last.
    pub desired: Option<Digest>,
}

/// What came of one attempt to make the host match a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The site.
    pub site: SiteId,
    /// What was tried.
    pub revision: Revision,
    /// The desired state it stands for; `None` if its manifests are not valid.
    pub desired: Option<Digest>,
    /// How it ended.
    pub kind: OutcomeKind,
    /// What was done: `2 created, 1 replaced`.
    pub summary: String,
    /// What went wrong, one text each.
    pub errors: Vec<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

impl Outcome {
    /// How it ended, in a word: of a site that was to have nothing, a success is its end.
    pub fn word(&self) -> &'static str {
        let is_end = self.kind == OutcomeKind::Converged && self.desired == Some(Desired::default().digest());
        if is_end { DESTROYED } else { self.kind.as_str() }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeKind {
    /// The host matches the site.
    Converged,
    /// Something failed or is blocked; the rest was done.
    Incomplete,
    /// The revision was not tried: its manifests are not valid.
    Refused,
    /// A newer revision came, or the agent was told to end.
    CalledOff,
}

/// An outcome in the ledger. The same outcome again and again is one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Counts the records of this host.
    pub number: i64,
    /// The outcome: `started` is of the first time, `finished` of the last.
    pub outcome: Outcome,
    /// How often in a row.
    pub times: u32,
}

/// Something worth telling later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Of which site.
    pub site: SiteId,
    /// Of which resource, if of one.
    pub resource: Option<ResourceId>,
    /// What.
    pub text: String,
}

impl Ledger {
    /// Remembers a site and where it comes from; writes nothing if it is known so.
    pub fn record_site(&mut self, site: &SiteId, source: &str) -> Result<(), LedgerError> {
        if self.site(site)?.is_some_and(|known| known.source == source) {
            return Ok(());
        }
        let sql = "INSERT INTO site (id, source) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET source = excluded.source";
        self.connection.execute(sql, params![site.0, source]).map(|_| ()).map_err(self.failed("remember a site"))
    }

    /// A site.
    pub fn site(&self, site: &SiteId) -> Result<Option<SiteRecord>, LedgerError> {
        Ok(self.sites()?.into_iter().find(|known| known.id == *site))
    }

    /// All sites, sorted.
    pub fn sites(&self) -> Result<Vec<SiteRecord>, LedgerError> {
        let sql = "SELECT id, source, last_revision, good_revision, desired FROM site ORDER BY id";
        let all = self.connection.prepare_cached(sql);
        all.and_then(|mut statement| statement.query_map([], read_site)?.collect()).map_err(self.failed("list the sites"))
    }

    /// Remembers what came of an attempt. The site must have been recorded. Do not call it for a cycle that found nothing to do.
    pub fn record_outcome(&mut self, outcome: &Outcome) -> Result<(), LedgerError> {
        let failed = self.failed("remember an outcome");
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        transaction.and_then(|transaction| write_outcome(&transaction, outcome).and_then(|()| transaction.commit())).map_err(failed)
    }

    /// The last outcomes of a site, newest first.
    pub fn history(&self, site: &SiteId, count: u32) -> Result<Vec<Recorded>, LedgerError> {
        let sql = format!("{SELECT} WHERE site = ?1 ORDER BY number DESC LIMIT ?2");
        let all = self.connection.prepare_cached(&sql);
        all.and_then(|mut statement| statement.query_map(params![site.0, count], read_recorded)?.collect())
            .map_err(self.failed("read the history"))
    }

    /// The last outcome of a site that converged.
    pub fn last_applied(&self, site: &SiteId) -> Result<Option<Recorded>, LedgerError> {
        let sql = format!("{SELECT} WHERE site = ?1 AND result = 'converged' ORDER BY number DESC LIMIT 1");
        let found = self.connection.prepare_cached(&sql);
        found
            .and_then(|mut statement| statement.query_row(params![site.0], read_recorded).optional())
            .map_err(self.failed("read the last outcome"))
    }

    /// Remembers an event.
    pub fn record_event(&mut self, event: &Event) -> Result<(), LedgerError> {
        let failed = self.failed("remember an event");
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let write = |transaction: Transaction<'_>| {
            let kind = event.resource.as_ref().map(|resource| resource.kind.to_string());
            let name = event.resource.as_ref().map(|resource| &resource.name);
            let sql = "INSERT INTO event (at, site, kind, name, text) VALUES (?1, ?2, ?3, ?4, ?5)";
            transaction.execute(sql, params![event.at.0, event.site.0, kind, name, event.text])?;
            transaction.execute("DELETE FROM event WHERE number <= (SELECT max(number) FROM event) - ?1", [EVENTS_MAX])?;
            transaction.commit()
        };
        transaction.and_then(write).map_err(failed)
    }

    /// The last events, newest first.
    pub fn events(&self, count: u32) -> Result<Vec<Event>, LedgerError> {
        let sql = "SELECT at, site, kind, name, text FROM event ORDER BY number DESC LIMIT ?1";
        let all = self.connection.prepare_cached(sql);
        all.and_then(|mut statement| statement.query_map([count], read_event)?.collect()).map_err(self.failed("read the events"))
    }
}

const SELECT: &str = "SELECT number, site, revision, desired, result, summary, errors, started, finished, times FROM outcome";

fn write_outcome(transaction: &Transaction<'_>, outcome: &Outcome) -> rusqlite::Result<()> {
    let last = transaction
        .query_row(&format!("{SELECT} WHERE site = ?1 ORDER BY number DESC LIMIT 1"), [&outcome.site.0], read_recorded)
        .optional()?;
    let again = last.filter(|last| {
        let times_aside = Outcome { started: outcome.started, finished: outcome.finished, ..last.outcome.clone() };
        times_aside == *outcome
    });
    let (revision, desired) = (to_json(&outcome.revision)?, outcome.desired.map(|digest| digest.to_string()));
    match again {
        Some(last) => {
            let sql = "UPDATE outcome SET finished = ?2, times = times + 1 WHERE number = ?1";
            transaction.execute(sql, params![last.number, outcome.finished.0])?;
        }
        None => {
            let sql = "INSERT INTO outcome (site, revision, desired, result, summary, errors, started, finished, times)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)";
            let (kind, errors) = (outcome.kind.as_str(), to_json(&outcome.errors)?);
            let (started, finished) = (outcome.started.0, outcome.finished.0);
            transaction.execute(sql, params![outcome.site.0, revision, desired, kind, outcome.summary, errors, started, finished])?;
            let sql = "DELETE FROM outcome WHERE site = ?1 AND number <=
                       (SELECT number FROM outcome WHERE site = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
            transaction.execute(sql, params![outcome.site.0, OUTCOMES_MAX])?;
        }
    }
    transaction.execute("UPDATE site SET last_revision = ?2 WHERE id = ?1", params![outcome.site.0, revision])?;
    if outcome.kind == OutcomeKind::Converged {
        let sql = "UPDATE site SET good_revision = ?2, desired = ?3 WHERE id = ?1";
        transaction.execute(sql, params![outcome.site.0, revision, desired])?;
    }
    Ok(())
}

impl OutcomeKind {
    /// As it stands in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Incomplete => "incomplete",
            Self::Refused => "refused",
            Self::CalledOff => "calledOff",
        }
    }
}

fn read_site(row: &Row<'_>) -> rusqlite::Result<SiteRecord> {
    let revision = |column| row.get::<_, Option<String>>(column)?.map(|text| from_json(column, &text)).transpose();
    Ok(SiteRecord {
        id: SiteId(row.get(0)?),
        source: row.get(1)?,
        last_revision: revision(2)?,
        good_revision: revision(3)?,
        desired: read_digest(row, 4)?,
    })
}

fn read_recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let result: String = row.get(4)?;
    let kinds = [OutcomeKind::Converged, OutcomeKind::Incomplete, OutcomeKind::Refused, OutcomeKind::CalledOff];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == result);
    let kind = kind.ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, result.into()))?;
    let outcome = Outcome {
        site: SiteId(row.get(1)?),
        revision: from_json(2, &row.get::<_, String>(2)?)?,
        desired: read_digest(row, 3)?,
        kind,
        summary: row.get(5)?,
        errors: from_json(6, &row.get::<_, String>(6)?)?,
        started: Timestamp(row.get(7)?),
        finished: Timestamp(row.get(8)?),
    };
    Ok(Recorded { number: row.get(0)?, outcome, times: row.get(9)? })
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let (kind, name): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    let resource = match (kind, name) {
        (Some(kind), Some(name)) => Some(ResourceId { kind: from_json(2, &format!("{kind:?}"))?, name }),
        _ => None,
    };
    Ok(Event { at: Timestamp(row.get(0)?), site: SiteId(row.get(1)?), resource, text: row.get(4)? })
}

fn read_digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    let text: Option<String> = row.get(column)?;
    let parse = |text: String| {
        text.parse().map_err(|error: spec::value::ValueError| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
        })
    };
    text.map(parse).transpose()
}
