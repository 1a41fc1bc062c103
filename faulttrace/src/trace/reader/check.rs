//! Checks that a database is a trace, and that its tables are plain tables.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Errors;
use crate::trace::schema::{APPLICATION_ID, MAJOR, TABLES, Table};
use crate::trace::{Error, Result};

/// Fails unless everything that will be read is what it seems.
pub(super) fn check(db: &Connection, errors: &Errors<'_>) -> Result<()> {
    let number = |pragma: &str| {
        db.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0))
            .map_err(|error| errors.database(error))
    };
    if number("application_id")? != APPLICATION_ID {
        return Err(errors.not_a_trace("it is another kind of SQLite database".to_owned()));
    }
    let version = number("user_version")?;
    let (major, minor) = (version / 1000, version % 1000);
    if major > MAJOR {
        return Err(Error::Newer {
            path: errors.path.to_owned(),
            major,
            minor,
        });
    }
    if major < 1 {
        return Err(errors.not_a_trace(format!("its version is {version}")));
    }
    let found = tables(db).map_err(|source| errors.database(source))?;
    for table in TABLES {
        check_table(db, table, &found, errors)?;
    }
    Ok(())
}

/// What a table of the file is: its kind, and whether it is without row numbers.
type Found = HashMap<String, (String, bool)>;

fn tables(db: &Connection) -> rusqlite::Result<Found> {
    let sql = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' LIMIT 1000";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    rows.collect()
}

/// A view or virtual table in a table's place could compute anything, for as long as it likes; so
/// could a generated column.
fn check_table(db: &Connection, table: &Table, found: &Found, errors: &Errors<'_>) -> Result<()> {
    let wrong = |what: &str| errors.not_a_trace(format!("its table {} {what}", table.name));
    let Some((kind, without_rowid)) = found.get(table.name) else {
        return Err(wrong("is missing"));
    };
    if kind != "table" {
        return Err(wrong("is no table"));
    }
    if *without_rowid != table.constraint.1.contains("WITHOUT ROWID") {
        return Err(wrong("is of another kind"));
    }
    let columns = columns(db, table.name).map_err(|source| errors.database(source))?;
    for column in table.columns {
        match columns.iter().find(|(name, _)| name == column.name) {
            Some((_, 0)) => {}
            Some(_) => return Err(wrong("computes a column")),
            None => return Err(wrong(&format!("has no column {}", column.name))),
        }
    }
    Ok(())
}

fn columns(db: &Connection, table: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement = db.prepare("SELECT name, hidden FROM pragma_table_xinfo(?)")?;
    let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // The limit on columns bounds it.
    rows.collect()
}
