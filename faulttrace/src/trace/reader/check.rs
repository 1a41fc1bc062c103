//! Checks that a database is a trace, and that its tables are plain tables.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Errors;
use crate::trace::schema::{APPLICATION_ID, MAJOR, TABLES, Table};
use crate::trace::{Error, Result};

/// Fails unless everything that will be read is what it seems. Gives the minor version, by which it is
/// known which tables that was asked of.
pub(super) fn check(db: &Connection, errors: &Errors<'_>) -> Result<i32> {
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
        if table.since <= minor {
            check_table(db, table, &found, errors)?;
        }
    }
    Ok(minor)
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
        match columns.iter().find(|found| found.name == column.name) {
            Some(found) if found.hidden == 0 => {}
            Some(_) => return Err(wrong("computes a column")),
            None => return Err(wrong(&format!("has no column {}", column.name))),
        }
    }
    if !has_key(db, table, &columns).map_err(|source| errors.database(source))? {
        return Err(wrong("has another key"));
    }
    Ok(())
}

/// Whether rows are found by what they are looked up by; else each lookup would go through all of
/// the table.
fn has_key(db: &Connection, table: &Table, columns: &[Column]) -> rusqlite::Result<bool> {
    let key = key(table);
    for column in columns {
        // Such a column takes the name of the row number.
        if ["rowid", "oid", "_rowid_"].contains(&column.name.to_ascii_lowercase().as_str()) {
            return Ok(false);
        }
        let place = key.iter().position(|(name, _)| *name == column.name);
        let expected = place.map_or(0, |place| place + 1);
        let number = place.is_some_and(|place| key.get(place).is_some_and(|(_, number)| *number));
        // Of type `INT` it would not be the row number.
        if column.key != expected || number && !column.kind.eq_ignore_ascii_case("INTEGER") {
            return Ok(false);
        }
    }
    let lookup = |by: &str| format!("SELECT 1 FROM {} NOT INDEXED WHERE {by} = ?", table.name);
    let (lookup, plan) = match (key.as_slice(), table.constraint.1.is_empty()) {
        // The row number and its other name must be the same: not so for `PRIMARY KEY DESC`.
        ([(name, _)], true) => (
            lookup(name),
            "USING INTEGER PRIMARY KEY (rowid=?)".to_owned(),
        ),
        ([(first, _), (second, _)], false) => (
            format!("{} ORDER BY {second}", lookup(first)),
            format!("USING PRIMARY KEY ({first}=?)"),
        ),
        // Never looked up.
        _ => return Ok(true),
    };
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {lookup}"))?;
    let steps = statement.query_map([0], |row| row.get::<_, String>(3))?;
    let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>()?;
    Ok(steps.len() == 1 && steps.iter().all(|step| step.ends_with(&plan)))
}

/// Columns of the primary key, and whether each is a number.
fn key(table: &Table) -> Vec<(&'static str, bool)> {
    let (inside, _) = table.constraint;
    let listed = inside
        .split_once("PRIMARY KEY (")
        .and_then(|(_, list)| list.split_once(')'))
        .map_or("", |(list, _)| list);
    let is_key = |name: &str, kind: &str| {
        kind.contains("PRIMARY KEY") || listed.split(", ").any(|listed| listed == name)
    };
    let columns = table.columns.iter();
    columns
        .filter(|column| is_key(column.name, column.kind))
        .map(|column| (column.name, column.kind.starts_with("INTEGER")))
        .collect()
}

/// A column of a table of the file.
struct Column {
    name: String,
    kind: String,
    hidden: i64,
    /// Its place in the primary key, from 1, or 0.
    key: usize,
}

fn columns(db: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = db.prepare("SELECT name, type, hidden, pk FROM pragma_table_xinfo(?)")?;
    let rows = statement.query_map([table], |row| {
        Ok(Column {
            name: row.get(0)?,
            kind: row.get(1)?,
            hidden: row.get(2)?,
            key: row.get(3)?,
        })
    })?;
    // The limit on columns bounds it.
    rows.collect()
}
