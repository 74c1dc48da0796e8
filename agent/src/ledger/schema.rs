//! The tables, and how older ones become them. A step here is never changed once it was released; a new one is added.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as ours: "host" in ASCII (PRAGMA application_id).
pub(super) const APPLICATION_ID: u32 = 0x686f_7374;

/// From nothing to the present, one step a version (PRAGMA user_version counts those done).
const STEPS: [&str; 2] = [
    "
    CREATE TABLE site (
        id            TEXT PRIMARY KEY,
        source        TEXT NOT NULL,
        last_revision TEXT,             -- JSON of the revision that was tried last
        good_revision TEXT,             -- JSON of the last one that converged
        desired       TEXT              -- digest of the desired state that converged last
    ) STRICT;

    CREATE TABLE owned (
        kind     TEXT NOT NULL,
        name     TEXT NOT NULL,         -- of a container its incarnation: web@3
        site     TEXT NOT NULL,
        state    TEXT NOT NULL CHECK (state IN ('creating', 'present', 'removing')),
        applied  TEXT NOT NULL,         -- JSON of the manifest as rendered when it was applied
        revision TEXT,                  -- JSON
        changed  INTEGER NOT NULL,      -- nanoseconds since 1970
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX owned_by_site ON owned (site, kind, name);

    CREATE TABLE outcome (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        site     TEXT NOT NULL,
        revision TEXT NOT NULL,         -- JSON
        desired  TEXT,                  -- digest; none if the manifests could not be read
        result   TEXT NOT NULL CHECK (result IN ('converged', 'incomplete', 'refused', 'calledOff')),
        summary  TEXT NOT NULL,
        errors   TEXT NOT NULL,         -- JSON list of texts
        started  INTEGER NOT NULL,      -- of the first time
        finished INTEGER NOT NULL,      -- of the last time
        times    INTEGER NOT NULL       -- in a row with the same result
    ) STRICT;
    CREATE INDEX outcome_by_site ON outcome (site, number);

    CREATE TABLE event (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        at       INTEGER NOT NULL,
        site     TEXT NOT NULL,
        kind     TEXT,
        name     TEXT,
        text     TEXT NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE generation (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        site     TEXT NOT NULL,
        images   TEXT NOT NULL,         -- JSON: by name in the store, what it was and what it was made from
        at       INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX generation_by_site ON generation (site, number);
",
];

/// The format this version writes.
pub(super) fn version() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// The format of a database; 0 if it is empty.
pub(super) fn found(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a database to the present format, all of it or nothing.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    if found(connection)? == version() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it while we waited for the lock.
    let done = usize::try_from(found(&transaction)?).unwrap_or(usize::MAX);
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", version())?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}
