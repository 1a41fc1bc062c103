//! The records that are not faults: few, from several tables, in one order.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement};

use super::beside;
use super::scan::Scan;
use super::sites::Sites;
use super::{Errors, Order, goroutines, ios, samples};
use crate::model::{
    Accounting, AheadPages, CacheFill, GoProcess, LayoutSource, LossClass, Lost, Name, ProcessEnd,
    ProcessInfo, ReadAhead, Record, Stuck, Transport,
};
use crate::trace::Result;
use crate::trace::rows::absolute;

/// A table: its name, its columns, and how its rows are read.
type Table = (&'static str, &'static str, Read);

/// The tables.
const TABLES: [Table; 10] = [
    ("stuck", "site, begin_rel_ns, elapsed_ns, report, at", stuck),
    ("processes", "pid, name, exe", process),
    ("process_ends", "pid, time_rel_ns", process_end),
    ("losses", "class, reason, count", loss),
    ("accounts", "pid, maj_flt_delta", account),
    ("transport", "emitted, received, lost", transport),
    ("samples", samples::COLUMNS, samples::sample),
    (
        "cache_fills",
        "begin_rel_ns, end_rel_ns, added_pages, removed_pages, reclaimed_pages",
        cache_fill,
    ),
    (
        "read_aheads",
        "begin_rel_ns, end_rel_ns, path, read_pages, mapped_pages, dropped_pages, unknown_pages",
        read_ahead,
    ),
    (
        "go_processes",
        "pid, time_rel_ns, version, module, gomaxprocs, layout",
        go_process,
    ),
];

/// Reads a row.
pub(super) type Read = fn(&Row<'_>) -> rusqlite::Result<Option<Other>>;

/// A record as far as its row tells.
pub(super) enum Other {
    Whole(Record),
    Stuck {
        site: i64,
        begin: Option<i64>,
        elapsed_ns: u64,
        report: u32,
        at: Option<i64>,
    },
    ProcessEnd {
        pid: u32,
        time: i64,
    },
    Sample(samples::Sampled),
    /// Its time is to be made absolute.
    Go {
        time: i64,
        process: GoProcess,
    },
    CacheFill {
        begin: i64,
        end: i64,
        /// Added, removed, reclaimed.
        pages: [u64; 3],
    },
    ReadAhead {
        begin: i64,
        end: i64,
        path: Option<Name>,
        pages: AheadPages,
    },
}

/// The statements that read them.
pub(super) struct Others<'c> {
    statements: Vec<(Statement<'c>, &'static str, Read)>,
    order: Order,
}

/// All of them, in order.
pub(super) struct Begun<'s> {
    tables: Vec<Cursor<'s>>,
    order: Order,
    errors: Errors<'s>,
    /// The number of the next record, and its table.
    first: Option<(i64, usize)>,
}

struct Cursor<'s> {
    scan: Scan<'s>,
    table: &'static str,
    read: Read,
    next: Option<(i64, Other)>,
}

impl<'c> Others<'c> {
    /// Of a file of this minor version.
    pub(super) fn new(
        db: &'c Connection,
        order: Order,
        minor: i32,
        errors: Errors<'_>,
    ) -> Result<Self> {
        let mut statements = Vec::with_capacity(TABLES.len());
        for (table, columns, read) in TABLES {
            let statement = beside::select(db, (table, columns), order, minor, errors)?;
            statements.extend(statement.map(|statement| (statement, table, read)));
        }
        Ok(Self { statements, order })
    }

    pub(super) fn begin<'s>(&'s mut self, size: u64, errors: Errors<'s>) -> Result<Begun<'s>> {
        let order = self.order;
        let mut tables = Vec::with_capacity(TABLES.len());
        for (statement, table, read) in &mut self.statements {
            let mut cursor = Cursor {
                scan: Scan::new(statement, table, order, size, errors)?,
                table,
                read: *read,
                next: None,
            };
            cursor.advance(errors)?;
            tables.push(cursor);
        }
        let mut begun = Begun {
            tables,
            order,
            errors,
            first: None,
        };
        begun.find_first();
        Ok(begun)
    }
}

impl Cursor<'_> {
    fn advance(&mut self, errors: Errors<'_>) -> Result<()> {
        self.next = None;
        while let Some((id, row)) = self.scan.next()? {
            let read = (self.read)(row).map_err(|error| errors.row(self.table, id, &error))?;
            // A later minor version may have kinds that this one does not know.
            if let Some(other) = read {
                self.next = Some((id, other));
                break;
            }
        }
        Ok(())
    }
}

impl Begun<'_> {
    /// Whether one of them comes before the fault of this number.
    pub(super) fn come_before(&self, fault: i64) -> bool {
        self.first.is_some_and(|(id, _)| match self.order {
            Order::OldestFirst => id < fault,
            Order::NewestFirst => id > fault,
        })
    }

    /// The next; `None` at the end.
    pub(super) fn next(
        &mut self,
        sites: &mut Sites<'_>,
        ios: &mut ios::Begun<'_, '_>,
        goroutines: &mut goroutines::Begun<'_, '_>,
        base_ns: u64,
    ) -> Result<Option<Record>> {
        let first = self.first.and_then(|(_, table)| self.tables.get_mut(table));
        let Some(cursor) = first else { return Ok(None) };
        let Some((id, other)) = cursor.next.take() else {
            return Ok(None);
        };
        cursor.advance(self.errors)?;
        self.find_first();
        let mut record = complete(id, other, sites, base_ns)?;
        if let Record::Stuck(stuck) = &mut record
            && let Some(stuck) = Arc::get_mut(stuck)
        {
            stuck.facts.goroutine = goroutines.of(id)?;
            stuck.io = ios.of(id)?;
        }
        Ok(Some(record))
    }

    fn find_first(&mut self) {
        let next = |(index, cursor): (usize, &Cursor<'_>)| {
            cursor.next.as_ref().map(|(id, _)| (*id, index))
        };
        let all = self.tables.iter().enumerate().filter_map(next);
        self.first = match self.order {
            Order::OldestFirst => all.min(),
            Order::NewestFirst => all.max(),
        };
    }
}

/// Adds what stands in other tables.
fn complete(id: i64, other: Other, sites: &mut Sites<'_>, base_ns: u64) -> Result<Record> {
    Ok(match other {
        Other::Whole(record) => record,
        Other::Sample(sampled) => sampled.record(base_ns),
        Other::Go { time, mut process } => {
            process.time_ns = absolute(time, base_ns);
            Record::Go(Arc::new(process))
        }
        Other::CacheFill { begin, end, pages } => {
            let [added_pages, removed_pages, reclaimed_pages] = pages;
            Record::CacheFill(Arc::new(CacheFill {
                begin_ns: absolute(begin, base_ns),
                end_ns: absolute(end, base_ns),
                added_pages,
                removed_pages,
                reclaimed_pages,
                by: sites.filled_by(id)?,
            }))
        }
        Other::ReadAhead {
            begin,
            end,
            path,
            pages,
        } => Record::ReadAhead(Arc::new(ReadAhead {
            begin_ns: absolute(begin, base_ns),
            end_ns: absolute(end, base_ns),
            path,
            pages,
        })),
        Other::ProcessEnd { pid, time } => Record::ProcessEnd(ProcessEnd {
            pid,
            time_ns: absolute(time, base_ns),
        }),
        Other::Stuck {
            site,
            begin,
            elapsed_ns,
            report,
            at,
        } => {
            let errors = sites.errors();
            let page_bytes = sites.page_bytes();
            let found = sites.get(site)?;
            let mut facts = found.site.facts.clone();
            if facts.began_before_attach != begin.is_none() {
                let what =
                    format!("row {id} of stuck does not agree with its site about its begin");
                return Err(errors.damaged(what));
            }
            (facts.address, facts.place.offset) = found.at.join(at, page_bytes);
            facts.begin_ns = begin.map(|begin| absolute(begin, base_ns));
            Record::Stuck(Arc::new(Stuck {
                facts,
                elapsed_ns,
                report,
                io: None,
            }))
        }
    })
}

fn stuck(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    Ok(Some(Other::Stuck {
        site: row.get(1)?,
        begin: row.get(2)?,
        elapsed_ns: row.get::<_, i64>(3)?.cast_unsigned(),
        report: row.get(4)?,
        at: row.get(5)?,
    }))
}

fn cache_fill(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let pages = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    Ok(Some(Other::CacheFill {
        begin: row.get(1)?,
        end: row.get(2)?,
        pages: [pages(3)?, pages(4)?, pages(5)?],
    }))
}

fn read_ahead(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let pages = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    Ok(Some(Other::ReadAhead {
        begin: row.get(1)?,
        end: row.get(2)?,
        path: name(row, 3)?,
        pages: AheadPages {
            read: pages(4)?,
            mapped: pages(5)?,
            dropped: pages(6)?,
            unknown: pages(7)?,
        },
    }))
}

fn go_process(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let layout = name(row, 6)?;
    let layout = layout.as_ref().map(Name::as_bytes);
    Ok(Some(Other::Go {
        time: row.get(2)?,
        process: GoProcess {
            pid: row.get(1)?,
            time_ns: 0,
            version: name(row, 3)?.unwrap_or_default(),
            module: name(row, 4)?,
            procs: row.get(5)?,
            // A later minor version may have another.
            layout: layout
                .and_then(|name| std::str::from_utf8(name).ok())
                .and_then(LayoutSource::from_name),
        },
    }))
}

fn process(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let process = ProcessInfo {
        pid: row.get(1)?,
        name: name(row, 2)?.unwrap_or_default(),
        exe: name(row, 3)?,
    };
    Ok(Some(Other::Whole(Record::Process(Arc::new(process)))))
}

fn process_end(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    Ok(Some(Other::ProcessEnd {
        pid: row.get(1)?,
        time: row.get(2)?,
    }))
}

fn loss(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let class: String = row.get(1)?;
    let Some(class) = LossClass::from_name(&class) else {
        return Ok(None);
    };
    let lost = Lost {
        class,
        reason: Cow::Owned(text(row, 2)?),
        count: row.get::<_, i64>(3)?.cast_unsigned(),
    };
    Ok(Some(Other::Whole(Record::Lost(lost))))
}

fn account(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let delta: Option<i64> = row.get(2)?;
    Ok(Some(Other::Whole(Record::Accounting(Accounting {
        pid: row.get(1)?,
        maj_flt_delta: delta.map(i64::cast_unsigned),
    }))))
}

fn transport(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    Ok(Some(Other::Whole(Record::Transport(Transport {
        emitted: number(1)?,
        received: number(2)?,
        lost: number(3)?,
    }))))
}

/// Text or bytes.
pub(super) fn name(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Name>> {
    Ok(name_bytes(row, index)?.map(Name::from))
}

/// The same, where only text is meant.
pub(super) fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<String> {
    // Checked first, and not copied if too long.
    name_bytes(row, index)?;
    row.get(index)
}

fn name_bytes<'r>(row: &'r Row<'_>, index: usize) -> rusqlite::Result<Option<&'r [u8]>> {
    let value = row.get_ref(index)?;
    let kind = value.data_type();
    let what = match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes.len() <= Name::MAX_BYTES => {
            return Ok(Some(bytes));
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            format!("a name has {} bytes", bytes.len())
        }
        _ => format!("a name is of type {kind}"),
    };
    let what = what.into();
    Err(rusqlite::Error::FromSqlConversionFailure(index, kind, what))
}
