//! Opening the ledger. It comes into being whole, under its final name, and from then on only a database with our mark is accepted
//! there: an emptied file is a damaged ledger, not a new one.

use super::{Ledger, LedgerError, schema};
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long another process may hold the lock; a commit takes some milliseconds.
const BUSY_TIME: Duration = Duration::from_secs(10);

impl Ledger {
    /// Opens the ledger for reading and writing, and makes it if there is none. Its directory must exist.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        if !exists(path)? {
            create(path)?;
        }
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        check(&connection, path)?;
        let failed = |action| move |error| LedgerError::of(action, path.to_owned(), error);
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed("check the database"))?;
        if verdict != "ok" {
            return Err(LedgerError::Damaged { path: path.to_owned(), problem: verdict });
        }
        schema::migrate(&mut connection).map_err(failed("migrate the tables"))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Opens the ledger for reading alone; `None` if there is none. For commands that change nothing.
    pub fn read(path: &Path) -> Result<Option<Self>, LedgerError> {
        if !exists(path)? {
            return Ok(None);
        }
        let checked = |connection: Connection| check(&connection, path).map(|()| connection);
        let connection = match connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(checked) {
            // Even a reader makes files beside the database. Without room for them nobody can be writing either, and without a log
            // of writes the database alone says all.
            Err(error) if error.is_full_disk() && !has_log(path) => connect_as_it_is(path).and_then(checked)?,
            opened => opened?,
        };
        Ok(Some(Self { connection, path: path.to_owned() }))
    }
}

fn exists(path: &Path) -> Result<bool, LedgerError> {
    path.try_exists().map_err(|source| LedgerError::File { action: "look for", path: path.to_owned(), source })
}

/// Whether there are writes that are not in the database itself yet.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |log| log.len() > 0)
}

/// Opens a database that nobody writes, without any file beside it.
fn connect_as_it_is(path: &Path) -> Result<Connection, LedgerError> {
    // These have a meaning in the address of a file.
    let escaped = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
        .map_err(|error| LedgerError::of("open the database", path.to_owned(), error))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, LedgerError> {
    let failed = |error| LedgerError::of("open the database", path.to_owned(), error);
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIME).map_err(failed)?;
    // Every commit reaches the disk: losing a record of ownership would leave something behind for ever.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(failed)?;
    Ok(connection)
}

/// Refuses a database that is not ours or that is too new.
fn check(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    let failed = |error| LedgerError::of("read the database", path.to_owned(), error);
    let mark: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    if mark != schema::APPLICATION_ID {
        let problem = "it is not a ledger, or it was emptied".to_owned();
        return Err(LedgerError::Damaged { path: path.to_owned(), problem });
    }
    let (found, known) = (schema::found(connection).map_err(failed)?, schema::version());
    if found > known {
        return Err(LedgerError::Newer { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// Makes an empty ledger under another name and links it into place, so that it appears whole or not at all.
fn create(path: &Path) -> Result<(), LedgerError> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let temporary = path.with_extension(format!("new-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source| LedgerError::File { action, path, source }
    };
    remove(&temporary).map_err(file("remove", &temporary))?;
    let failed = |error| LedgerError::of("make the database", path.to_owned(), error);
    let made = connect(&temporary, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).and_then(|mut connection| {
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        schema::migrate(&mut connection).map_err(failed)?;
        // Closing writes the log back, so that all of it is in the one file.
        connection.close().map_err(|(_, error)| failed(error))
    });
    let linked = made.and_then(|()| match fs::hard_link(&temporary, path) {
        // A twin process was faster; its ledger is as empty as ours.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked.map_err(file("make", path)),
    });
    remove(&temporary).map_err(file("remove", &temporary))?;
    linked?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(file("sync", directory))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
