//! What threads of Go programs were at: a table with a row for some of the faults and reports, gone
//! through beside them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

use super::beside::{Beside, Read, Select};
use super::others::name;
use super::{Errors, Order};
use crate::model::{GoLabels, Goroutine, Name};
use crate::trace::Result;

/// Goroutines that are remembered.
const MAX_GOROUTINES: usize = 16_384;
/// Bytes of what their names and labels say.
const MAX_BYTES: usize = 16 << 20;

const COLUMNS: &str =
    "goroutine, p, in_syscall, gomaxprocs, queued_local, queued_global, queued_global_at_end";

/// Which goroutine: its number and functions.
type Who = (
    Option<u64>,
    Option<Name>,
    Option<Name>,
    Option<Arc<GoLabels>>,
);

/// Labels of one goroutine; ours have fewer.
const MAX_LABELS: usize = 64;

/// The statements.
pub(super) struct Goroutines<'c> {
    rows: Select<'c, (i64, Goroutine)>,
    who: Option<Statement<'c>>,
    labels: Option<Statement<'c>>,
}

/// The rows, in the order of the records.
pub(super) struct Begun<'s, 'c> {
    rows: Beside<'s, (i64, Goroutine)>,
    who: Option<&'s mut Statement<'c>>,
    labels: Option<&'s mut Statement<'c>>,
    known: HashMap<i64, Who>,
    known_bytes: usize,
    errors: Errors<'s>,
}

impl<'c> Goroutines<'c> {
    /// Of a file of this minor version.
    pub(super) fn new(
        db: &'c Connection,
        order: Order,
        minor: i32,
        errors: Errors<'_>,
    ) -> Result<Self> {
        let table = ("fault_goroutines", COLUMNS, read as Read<_>);
        let rows = Select::new(db, table, order, minor, errors)?;
        let select = "SELECT goroutine, start, created_by, labels_left_out FROM goroutines NOT INDEXED \
             WHERE rowid = ?";
        let who = rows.is_there().then(|| db.prepare(select)).transpose();
        let select =
            "SELECT key, value FROM goroutine_labels WHERE goroutine = ? ORDER BY position";
        let labels = rows.is_there().then(|| db.prepare(select)).transpose();
        Ok(Self {
            rows,
            who: who.map_err(|error| errors.database(error))?,
            labels: labels.map_err(|error| errors.database(error))?,
        })
    }

    pub(super) fn begin<'s>(&'s mut self, size: u64, errors: Errors<'s>) -> Result<Begun<'s, 'c>> {
        Ok(Begun {
            rows: self.rows.begin(size, errors)?,
            who: self.who.as_mut(),
            labels: self.labels.as_mut(),
            known: HashMap::new(),
            known_bytes: 0,
            errors,
        })
    }
}

impl Begun<'_, '_> {
    /// Of the record of this number, which comes after all that were asked for before.
    pub(super) fn of(&mut self, record: i64) -> Result<Option<Box<Goroutine>>> {
        let Some((id, mut goroutine)) = self.rows.of(record)? else {
            return Ok(None);
        };
        let who = self.who(id)?;
        (
            goroutine.id,
            goroutine.start,
            goroutine.created_by,
            goroutine.labels,
        ) = who;
        Ok(Some(Box::new(goroutine)))
    }

    fn who(&mut self, id: i64) -> Result<Who> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let read = |row: &Row<'_>| {
            let number: Option<i64> = row.get(0)?;
            let left_out: Option<u32> = row.get(3)?;
            let number = number.map(i64::cast_unsigned);
            Ok((number, name(row, 1)?, name(row, 2)?, left_out))
        };
        let found = match &mut self.who {
            Some(statement) => statement.query_row([id], read).optional(),
            None => Ok(None),
        };
        let found = found.map_err(|error| self.errors.row("goroutines", id, &error))?;
        let Some((number, start, created_by, left_out)) = found else {
            let what = format!("there is no row {id} of goroutines");
            return Err(self.errors.damaged(what));
        };
        let labels = match left_out {
            None => None,
            Some(left_out) => Some(self.labels(id, left_out)?),
        };
        let who = (number, start, created_by, labels);
        let more = bytes(&who);
        if self.known.len() >= MAX_GOROUTINES || self.known_bytes.saturating_add(more) > MAX_BYTES {
            self.known.clear();
            self.known_bytes = 0;
        }
        self.known_bytes = self.known_bytes.saturating_add(more);
        self.known.insert(id, who.clone());
        Ok(who)
    }

    fn labels(&mut self, id: i64, left_out: u32) -> Result<Arc<GoLabels>> {
        let Some(statement) = &mut self.labels else {
            return Ok(Arc::default());
        };
        let read = |row: &Row<'_>| {
            let text = |index| name(row, index).map(Option::unwrap_or_default);
            Ok((text(0)?, text(1)?))
        };
        let kept = statement
            .query_map([id], read)
            .and_then(|rows| rows.take(MAX_LABELS).collect());
        let kept = kept.map_err(|error| self.errors.row("goroutine_labels", id, &error))?;
        Ok(Arc::new(GoLabels { kept, left_out }))
    }
}

/// How long its names and labels are.
fn bytes((_, start, created_by, labels): &Who) -> usize {
    let of = |name: &Name| name.as_bytes().len();
    let functions = [start, created_by].into_iter().flatten().map(of);
    let labels = labels.iter().flat_map(|labels| &labels.kept);
    let labels = labels.map(|(key, value)| of(key) + of(value));
    functions.chain(labels).sum()
}

/// A row, without who it is.
fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Goroutine)> {
    let goroutine = Goroutine {
        p: row.get(2)?,
        in_syscall: row.get(3)?,
        procs: row.get(4)?,
        queued_local: row.get(5)?,
        queued_global: row.get(6)?,
        queued_global_at_end: row.get(7)?,
        ..Goroutine::default()
    };
    Ok((row.get(1)?, goroutine))
}
