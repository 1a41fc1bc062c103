//! Goes through a table by its row numbers, and cannot be made to go on for ever.

use rusqlite::{Row, Rows, Statement};

use super::{Errors, Order};
use crate::trace::Result;

/// No row takes less of a file than this many bytes (its cell and the pointer to it).
const SMALLEST_ROW: u64 = 4;

/// A scan over one table. The statement's first column is the row's number, its order is `order`.
pub(super) struct Scan<'s> {
    rows: Rows<'s>,
    table: &'static str,
    order: Order,
    last: Option<i64>,
    left: u64,
    errors: Errors<'s>,
}

impl<'s> Scan<'s> {
    pub(super) fn new(
        statement: &'s mut Statement<'_>,
        table: &'static str,
        order: Order,
        file_bytes: u64,
        errors: Errors<'s>,
    ) -> Result<Self> {
        let rows = statement
            .query([])
            .map_err(|error| errors.database(error))?;
        Ok(Self {
            rows,
            table,
            order,
            last: None,
            left: file_bytes / SMALLEST_ROW,
            errors,
        })
    }

    /// The next row and its number. The pages of a damaged file can lead in circles: then a number
    /// comes again.
    pub(super) fn next(&mut self) -> Result<Option<(i64, &Row<'s>)>> {
        let row = self
            .rows
            .next()
            .map_err(|error| self.errors.database(error))?;
        let Some(row) = row else { return Ok(None) };
        let id: i64 = row
            .get(0)
            .map_err(|error| self.errors.row(self.table, self.last.unwrap_or(0), &error))?;
        let in_order = match (self.last, self.order) {
            (None, _) => true,
            (Some(last), Order::OldestFirst) => id > last,
            (Some(last), Order::NewestFirst) => id < last,
        };
        if !in_order || self.left == 0 {
            let table = self.table;
            let what = format!("its table {table} leads in circles at row {id}");
            return Err(self.errors.damaged(what));
        }
        self.last = Some(id);
        self.left -= 1;
        Ok(Some((id, row)))
    }
}
