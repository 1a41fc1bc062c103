//! Tables with a row for some of the faults, gone through beside them.

use rusqlite::{Connection, Row, Statement};

use super::scan::Scan;
use super::{Errors, Order};
use crate::trace::Result;
use crate::trace::schema;

/// A row, after its number.
type Read<T> = fn(&Row<'_>) -> rusqlite::Result<T>;

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

/// The rows of such a table.
pub(super) struct Beside<'s, T> {
    scan: Option<Scan<'s>>,
    table: &'static str,
    read: Read<T>,
    order: Order,
    errors: Errors<'s>,
    next: Option<(i64, T)>,
}

impl<'s, T> Beside<'s, T> {
    /// `statement` is of [`select`], with this order.
    pub(super) fn new(
        statement: Option<&'s mut Statement<'_>>,
        (table, read): (&'static str, Read<T>),
        order: Order,
        size: u64,
        errors: Errors<'s>,
    ) -> Result<Self> {
        let scan = statement.map(|statement| Scan::new(statement, table, order, size, errors));
        let mut beside = Self {
            scan: scan.transpose()?,
            table,
            read,
            order,
            errors,
            next: None,
        };
        beside.advance()?;
        Ok(beside)
    }

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
