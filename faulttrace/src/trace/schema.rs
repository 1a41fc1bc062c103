//! What a saved trace holds: its tables and their columns, with their meaning.
//!
//! The writer creates the tables from here, the reader checks a file against it, and
//! `docs/trace-schema.md` is generated from it.

mod markdown;
mod queries;
mod tables;
mod views;

pub use markdown::markdown;
pub use queries::{QUERIES, Query};
pub use tables::TABLES;
pub use views::{VIEWS, View};

/// SQLite's `application_id` of a trace: "FltT" in ASCII.
pub const APPLICATION_ID: i32 = 0x466c_7454;

/// Version of the schema. A trace of a newer `MAJOR` is refused, one of a newer `MINOR` has tables,
/// columns, views or names of causes that this version does not know, and is read without them.
pub const MAJOR: i32 = 1;
/// See [`MAJOR`].
pub const MINOR: i32 = 7;

/// What is stored as SQLite's `user_version`.
pub const fn user_version(major: i32, minor: i32) -> i32 {
    major * 1000 + minor
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What a row is.
    pub meaning: &'static str,
    /// Its columns, in their order.
    pub columns: &'static [Column],
    /// The minor version that has it first. Older files are read as if it were empty.
    pub since: i32,
    /// What follows the columns inside the parentheses, and behind them.
    pub constraint: (&'static str, &'static str),
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type and constraints, in SQL.
    pub kind: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// The minor version that has it first, if its table is older. Older files are read as if they said
    /// 0, or NULL where it may be NULL.
    pub since: i32,
}

/// A column as it is selected from a file of this minor version: by its name, or what stands for it
/// where there is none yet.
pub fn selected<'a>(of: &str, column: &'a str, minor: i32, absent: &'a str) -> &'a str {
    let is_there = table(of).is_some_and(|table| table.has(column, minor));
    if is_there { column } else { absent }
}

/// A table by its name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

impl Table {
    fn has(&self, column: &str, minor: i32) -> bool {
        let column = self.columns.iter().find(|one| one.name == column);
        self.is_in(minor) && column.is_some_and(|column| column.since <= minor)
    }

    /// Whether a file of this minor version has the table.
    pub fn is_in(&self, minor: i32) -> bool {
        self.since <= minor
    }

    /// The statement that creates it.
    pub fn sql(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("  {} {}", column.name, column.kind))
            .collect();
        let (inside, behind) = self.constraint;
        format!(
            "CREATE TABLE {} (\n{}{inside}\n){behind}",
            self.name,
            columns.join(",\n")
        )
    }
}

/// Everything that makes an empty trace, in order.
pub fn create() -> String {
    let tables = TABLES.iter().map(Table::sql);
    let views = VIEWS.iter().map(View::sql);
    let mut all: Vec<String> = tables.chain(views).collect();
    all.push(String::new());
    all.join(";\n")
}
