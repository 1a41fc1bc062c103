//! A whole database with anything in its rows: the input is a list of changes to a good trace, each
//! a table, a column, a row and a value.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use faulttrace::trace::schema::TABLES;
use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use rusqlite::types::Value;

static SEED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = faulttrace_fuzz::scratch("seed");
    faulttrace_fuzz::seed(&path);
    std::fs::read(&path).expect("written")
});
static FILE: LazyLock<PathBuf> = LazyLock::new(|| faulttrace_fuzz::scratch("rows"));

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, &*SEED).expect("memory");
    change(&FILE, bytes);
    faulttrace_fuzz::consume(&FILE);
});

fn change(path: &Path, mut bytes: &[u8]) {
    let db = Connection::open(path).expect("a database");
    db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")
        .expect("begun");
    for _ in 0..32 {
        let [table, column, row, kind, rest @ ..] = bytes else {
            break;
        };
        let table = &TABLES[usize::from(*table) % TABLES.len()];
        let column = &table.columns[usize::from(*column) % table.columns.len()];
        let (value, rest) = value(*kind, rest);
        bytes = rest;
        // Some changes are refused (a key that is there already), some rows do not exist.
        let _ = match row % 16 {
            15 => db.execute(
                &format!("UPDATE OR IGNORE {} SET {} = ?", table.name, column.name),
                [value],
            ),
            row if table.constraint.1.is_empty() => db.execute(
                &format!(
                    "UPDATE OR REPLACE {} SET {} = ? WHERE rowid = (SELECT rowid FROM {0} LIMIT 1 OFFSET {row})",
                    table.name, column.name
                ),
                [value],
            ),
            _ => db.execute(&format!("DELETE FROM {} WHERE {} = ?", table.name, column.name), [value]),
        };
    }
    db.execute_batch("COMMIT").expect("committed");
}

/// A value of any type, and what is left of the input.
fn value(kind: u8, bytes: &[u8]) -> (Value, &[u8]) {
    let (number, rest) = match bytes.split_first_chunk::<8>() {
        Some((number, rest)) => (i64::from_le_bytes(*number), rest),
        None => (0, &[][..]),
    };
    let value = match kind % 8 {
        0 => Value::Null,
        1 => Value::Integer(number),
        2 => Value::Integer(number % 32),
        3 => Value::Integer(number >> (kind / 8)),
        4 => Value::Real(number as f64),
        5 | 6 => {
            let length = bytes.len().min(usize::from(kind / 8) * 4);
            let text = bytes[..length].to_vec();
            return match String::from_utf8(text) {
                Ok(text) if kind % 8 == 5 => (Value::Text(text), &bytes[length..]),
                _ => (Value::Blob(bytes[..length].to_vec()), &bytes[length..]),
            };
        }
        _ => Value::Integer(i64::MAX - (number & 3)),
    };
    (value, rest)
}
