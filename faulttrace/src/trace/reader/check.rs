//! Checks that a database is a trace, and that its tables are plain tables.

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
    for table in TABLES {
        check_table(db, table, errors)?;
    }
    Ok(())
}

/// A view or virtual table in a table's place could compute anything, for as long as it likes; so
/// could a generated column.
fn check_table(db: &Connection, table: &Table, errors: &Errors<'_>) -> Result<()> {
    let wrong = |what: &str| errors.not_a_trace(format!("its table {} {what}", table.name));
    let found: Vec<(String, bool)> = query(
        db,
        "SELECT type, wr FROM pragma_table_list(?) WHERE schema = 'main'",
        table.name,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .map_err(|error| errors.database(error))?;
    let [(kind, without_rowid)] = found.as_slice() else {
        return Err(wrong("is missing"));
    };
    if kind != "table" {
        return Err(wrong("is no table"));
    }
    if *without_rowid != table.constraint.1.contains("WITHOUT ROWID") {
        return Err(wrong("is of another kind"));
    }
    let columns: Vec<(String, i64)> = query(
        db,
        "SELECT name, hidden FROM pragma_table_xinfo(?)",
        table.name,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .map_err(|error| errors.database(error))?;
    for column in table.columns {
        match columns.iter().find(|(name, _)| name == column.name) {
            Some((_, 0)) => {}
            Some(_) => return Err(wrong("computes a column")),
            None => return Err(wrong(&format!("has no column {}", column.name))),
        }
    }
    Ok(())
}

fn query<T>(
    db: &Connection,
    sql: &str,
    table: &str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare(sql)?
        .query_map([table], read)?
        .take(200)
        .collect()
}
