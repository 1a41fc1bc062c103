//! Tables with a row for some of the faults, gone through beside them.

use rusqlite::{Connection, Row, Statement};

use super::scan::Scan;
use super::{Errors, Order};
use crate::trace::Result;
use crate::trace::schema;

/// A row, after its number.
pub(super) type Read<T> = fn(&Row<'_>) -> rusqlite::Result<T>;

/// Prepares to go through a table in this order; `None` in a file of a version that has it not.
pub(super) fn select<'c>(
    db: &'c Connection,
    (table, columns): (&str, &str),
    order: Order,
    minor: i32,
    errors: Errors<'_>,
) -> Result<Option<Statement<'c>>> {
    let select = |_| {
        let direction = order.sql();
        db.prepare(&format!(
            "SELECT rowid, {columns} FROM {table} NOT INDEXED ORDER BY rowid {direction}"
        ))
    };
    let table = schema::table(table).filter(|table| table.is_in(minor));
    let statement = table.map(select).transpose();
    statement.map_err(|error| errors.database(error))
}

/// The statement that reads such a table, if the file can have it.
pub(super) struct Select<'c, T> {
    statement: Option<Statement<'c>>,
    table: &'static str,
    read: Read<T>,
    order: Order,
}

impl<'c, T> Select<'c, T> {
    /// A table, its columns, and how to read a row of them; of a file of this minor version.
    pub(super) fn new(
        db: &'c Connection,
        (table, columns, read): (&'static str, &str, Read<T>),
        order: Order,
        minor: i32,
        errors: Errors<'_>,
    ) -> Result<Self> {
        Ok(Self {
            statement: select(db, (table, columns), order, minor, errors)?,
            table,
            read,
            order,
        })
    }

    /// Whether files of this version have the table.
    pub(super) fn is_there(&self) -> bool {
        self.statement.is_some()
    }

    /// Begins to go through it.
    pub(super) fn begin<'s>(&'s mut self, size: u64, errors: Errors<'s>) -> Result<Beside<'s, T>> {
        let (table, order) = (self.table, self.order);
        let statement = self.statement.as_mut();
        let scan = statement.map(|statement| Scan::new(statement, table, order, size, errors));
        let mut beside = Beside {
            scan: scan.transpose()?,
            table,
            read: self.read,
            order,
            errors,
            next: None,
        };
        beside.advance()?;
        Ok(beside)
    }
}

/// The rows of such a table.
pub(super) struct Beside<'s, T> {
    scan: Option<Scan<'s>>,
    table: &'static str,
    read: Read<T>,
    order: Order,
    errors: Errors<'s>,
    next: Option<(i64, T)>,
}

impl<T> Beside<'_, T> {
    /// The row of this fault, which comes after all that were asked for before.
    pub(super) fn of(&mut self, fault: i64) -> Result<Option<T>> {
        let order = self.order;
        let is_before = |id: i64| match order {
            Order::OldestFirst => id < fault,
            Order::NewestFirst => id > fault,
        };
        // Rows of faults that are not there.
        while self.next.as_ref().is_some_and(|(id, _)| is_before(*id)) {
            self.advance()?;
        }
        let Some((_, row)) = self.next.take_if(|(id, _)| *id == fault) else {
            return Ok(None);
        };
        self.advance()?;
        Ok(Some(row))
    }

    fn advance(&mut self) -> Result<()> {
        self.next = None;
        let Some(scan) = &mut self.scan else {
            return Ok(());
        };
        if let Some((id, row)) = scan.next()? {
            let read = (self.read)(row);
            self.next = Some((
                id,
                read.map_err(|error| self.errors.row(self.table, id, &error))?,
            ));
        }
        Ok(())
    }
}
