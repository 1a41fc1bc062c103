//! The pasts of pages, in the order of their faults.

use rusqlite::{Connection, Row};

use super::beside::{Beside, Read, Select};
use super::others::{name, text};
use super::sites::Sites;
use super::{Errors, Order};
use crate::model::{Filled, History, How, Name, Past, Removal, Task};
use crate::trace::Result;
use crate::trace::rows::absolute;
use crate::trace::schema;

const TABLE: &str = "histories";
const COLUMNS: &str = "watched_rel_ns, past, removed_rel_ns, cached_rel_ns, how, remover, \
                       syscall, distance_pages, filler, filler_pages, filled_pages, ";

/// The statement that reads them, if the file can have any.
pub(super) struct Histories<'c>(Select<'c, Columns>);

/// All of them, one after the other.
pub(super) struct Begun<'s>(Beside<'s, Columns>);

/// A row.
struct Columns {
    watched: Option<i64>,
    past: String,
    removal: Option<Removed>,
}

/// What a row has of a removal.
struct Removed {
    at: i64,
    cached: Option<i64>,
    how: How,
    remover: Option<i64>,
    syscall: Option<Name>,
    distance_pages: Option<i64>,
    filler: Option<(i64, u64, u64)>,
    cgroup: Option<Name>,
}

impl<'c> Histories<'c> {
    /// Of a file of this minor version.
    pub(super) fn new(
        db: &'c Connection,
        order: Order,
        minor: i32,
        errors: Errors<'_>,
    ) -> Result<Self> {
        let cgroup = schema::selected(TABLE, "remover_cgroup", minor, "NULL");
        let columns = format!("{COLUMNS}{cgroup}");
        let table = (TABLE, columns.as_str(), Columns::read as Read<_>);
        Select::new(db, table, order, minor, errors).map(Self)
    }

    pub(super) fn begin<'s>(&'s mut self, size: u64, errors: Errors<'s>) -> Result<Begun<'s>> {
        self.0.begin(size, errors).map(Begun)
    }
}

impl Begun<'_> {
    /// The one of a fault that comes after those asked for before.
    pub(super) fn of(
        &mut self,
        fault: i64,
        sites: &mut Sites<'_>,
        base_ns: u64,
    ) -> Result<Option<Box<History>>> {
        let Some(columns) = self.0.of(fault)? else {
            return Ok(None);
        };
        let history = columns.history(fault, sites, base_ns);
        history.map(|history| Some(Box::new(history)))
    }
}

impl Columns {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let at: Option<i64> = row.get(3)?;
        Ok(Self {
            watched: row.get(1)?,
            past: text(row, 2)?,
            removal: at.map(|at| Removed::read(at, row)).transpose()?,
        })
    }

    fn history(self, fault: i64, sites: &mut Sites<'_>, base_ns: u64) -> Result<History> {
        let past = match (self.past.as_str(), self.removal) {
            ("first_touch", _) => Past::FirstTouch,
            ("refault", Some(removed)) => Past::Refault(Box::new(removed.removal(sites, base_ns)?)),
            ("refault", None) => {
                let what = format!("row {fault} of {TABLE} does not say when its page was removed");
                return Err(sites.errors().damaged(what));
            }
            // A later minor version may know more.
            _ => Past::Unknown,
        };
        Ok(History {
            watched_ns: self.watched.map(|at| absolute(at, base_ns)),
            past,
        })
    }
}

impl Removed {
    fn read(at: i64, row: &Row<'_>) -> rusqlite::Result<Self> {
        let how = name(row, 5)?.unwrap_or_default();
        let how = std::str::from_utf8(how.as_bytes()).ok();
        let pages = |index| row.get::<_, Option<i64>>(index);
        let filler: Option<i64> = row.get(9)?;
        let counted = pages(10)?.zip(pages(11)?);
        Ok(Self {
            at,
            cached: row.get(4)?,
            how: how.and_then(How::from_name).unwrap_or(How::Unknown),
            remover: row.get(6)?,
            syscall: name(row, 7)?,
            distance_pages: row.get(8)?,
            filler: filler.zip(counted).map(|(filler, (pages, of_pages))| {
                (filler, pages.cast_unsigned(), of_pages.cast_unsigned())
            }),
            cgroup: name(row, 12)?,
        })
    }

    fn removal(self, sites: &mut Sites<'_>, base_ns: u64) -> Result<Removal> {
        let by = match self.remover {
            None => Task {
                pid: 0,
                tid: 0,
                name: Name::default(),
                syscall: self.syscall,
            },
            Some(id) => sites.task(id, self.syscall)?,
        };
        let filled = match self.filler {
            None => None,
            Some((filler, pages, of_pages)) => {
                let process = sites.thread(filler)?;
                Some(Filled {
                    pid: process.pid,
                    name: process.name,
                    pages,
                    of_pages,
                })
            }
        };
        Ok(Removal {
            removed_ns: absolute(self.at, base_ns),
            cached_ns: self.cached.map(|at| absolute(at, base_ns)),
            how: self.how,
            by,
            cgroup: self.cgroup,
            distance_pages: self.distance_pages.map(i64::cast_unsigned),
            filled,
        })
    }
}
