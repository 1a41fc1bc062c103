//! Reads a trace: the same records that the live views were given, in their order or backwards.
//!
//! A trace may come from anybody. SQLite is told to trust nothing in it; that what is read are plain
//! tables is checked first (`check`); SQLite's own work has an end (`steps`); every scan must get on, row
//! by row, and can be no longer than the file (`scan`); what is remembered is bounded (`sites`); and a
//! number that makes no sense is an error that says where.

mod ahead;
mod beside;
mod check;
mod goroutines;
mod histories;
mod ios;
mod open;
mod others;
mod samples;
mod scan;
mod sites;
mod start;
mod steps;

use std::borrow::Cow;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::rows::absolute;
use super::{Error, Result, schema};
use crate::model::summary::ThreadKey;
use crate::model::{Cause, Measure, Name, Record, Site, Sleep, Start, Waker};
use ahead::Ahead;
use goroutines::Goroutines;
use histories::Histories;
use ios::Ios;
use others::Others;
use scan::Scan;
use sites::Sites;
pub use start::{Meta, State};
use steps::Steps;

/// In which order records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they were reported.
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

impl Order {
    fn sql(self) -> &'static str {
        match self {
            Order::OldestFirst => "ASC",
            Order::NewestFirst => "DESC",
        }
    }
}

/// One record, as it comes out of the file.
#[derive(Debug)]
pub enum Item<'a> {
    /// A fault, in its two halves. Equal ids are equal sites.
    Fault {
        /// Id of the site.
        site_id: u64,
        /// What it has in common with others.
        site: &'a Arc<Site>,
        /// Its own numbers.
        measure: Measure,
    },
    /// Any other record but `Start`, which is in [`Meta`].
    Other(Record),
}

impl Item<'_> {
    /// The record.
    pub fn into_record(self) -> Record {
        match self {
            Item::Fault { site, measure, .. } => Record::Fault(Arc::new(site.fault(measure))),
            Item::Other(record) => record,
        }
    }

    /// The thread whose fault is over by it.
    pub fn frees(&self) -> Option<ThreadKey> {
        match self {
            Item::Fault { site, .. } => Some(ThreadKey::of(&site.facts)),
            Item::Other(_) => None,
        }
    }
}

/// An opened trace.
pub struct Trace {
    path: PathBuf,
    /// Closed before `file`: closing any descriptor of a file gives up the locks on it (fcntl(2)).
    db: Connection,
    file: File,
    /// Bytes in the file, of which no table can have more rows.
    size: u64,
    steps: Steps,
    /// Minor version of its schema: later tables are not there, whatever has their names.
    minor: i32,
    meta: Meta,
}

impl Trace {
    /// Opens a trace and checks that it is one.
    pub fn open(path: &Path) -> Result<Self> {
        let open::Opened {
            db,
            steps,
            file,
            size,
        } = open::open(path)?;
        let with_path = Errors { path };
        let minor = check::check(&db, &with_path)?;
        steps.renew(size);
        let meta = start::read(&db, &with_path, size)?;
        Ok(Self {
            path: path.to_owned(),
            db,
            file,
            size,
            steps,
            minor,
            meta,
        })
    }

    /// What is known of the whole trace.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `start` record.
    pub fn start(&self) -> &Arc<Start> {
        &self.meta.start
    }

    /// How many faults there are, at most: for a progress bar, told without counting.
    pub fn faults_at_most(&self) -> u64 {
        self.fault_ids()
            .map_or(0, |(first, last)| last.abs_diff(first).saturating_add(1))
    }

    /// Numbers of the first and the last fault. Asked in one, SQLite would go through all rows.
    fn fault_ids(&self) -> Option<(i64, i64)> {
        let bounds = self.db.query_row(
            "SELECT (SELECT min(rowid) FROM faults NOT INDEXED), \
                    (SELECT max(rowid) FROM faults NOT INDEXED)",
            [],
            |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)),
        );
        bounds.ok().and_then(|(first, last)| first.zip(last))
    }

    /// Hands out every site that faults can be of.
    pub fn sites(&self, mut take: impl FnMut(u64, &Arc<Site>)) -> Result<()> {
        self.steps.renew(self.size);
        let errors = self.errors();
        let mut sites = Sites::new(&self.db, errors, self.page_bytes(), self.minor)?;
        let mut statement = self.prepare("SELECT rowid FROM sites NOT INDEXED ORDER BY rowid")?;
        let mut scan = Scan::new(
            &mut statement,
            "sites",
            Order::OldestFirst,
            self.size,
            errors,
        )?;
        while let Some((id, _)) = scan.next()? {
            let site = sites.get(id)?;
            if site.over {
                take(id.cast_unsigned(), &site.site);
            }
        }
        Ok(())
    }

    /// Hands out all records until `take` has enough of them.
    pub fn records(
        &self,
        order: Order,
        take: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.scan(order, Detail::All, take)
    }

    /// As [`Trace::records`], for those who add up times: [`Measure::switches`] and
    /// [`Measure::longest_sleep`] take time to read, and are 0 and `None` whatever the trace says. But for
    /// faults that waited for `mmap_lock`: there the sleep tells who held it.
    pub fn records_for_totals(
        &self,
        order: Order,
        take: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let detail = if self.has_lock_waits()? {
            Detail::Holders
        } else {
            Detail::Times
        };
        self.scan(order, detail, take)
    }

    /// Whether there is a site of faults that waited for `mmap_lock`. Most traces have none, and their
    /// faults are read the quicker way.
    fn has_lock_waits(&self) -> Result<bool> {
        self.steps.renew(self.size);
        let select = "SELECT EXISTS (SELECT 1 FROM sites NOT INDEXED WHERE cause = ?)";
        let cause = Cause::MmapLock.as_str();
        let found = self.db.query_row(select, [cause], |row| row.get(0));
        found.map_err(|error| self.errors().database(error))
    }

    fn scan(
        &self,
        order: Order,
        detail: Detail,
        mut take: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.steps.renew(self.size);
        let errors = self.errors();
        let base_ns = self.meta.base_ns;
        let mut sites = Sites::new(&self.db, errors, self.page_bytes(), self.minor)?;
        let mut sleeps = self.prepare(SLEEP)?;
        let mut others = Others::new(&self.db, order, self.minor, errors)?;
        let mut others = others.begin(self.size, errors)?;
        let mut histories = Histories::new(&self.db, order, self.minor, errors)?;
        let mut histories = histories.begin(self.size, errors)?;
        let mut ios = Ios::new(&self.db, order, self.minor, errors)?;
        let mut ios = ios.begin(self.size, errors)?;
        let mut goroutines = Goroutines::new(&self.db, order, self.minor, errors)?;
        let mut goroutines = goroutines.begin(self.size, errors)?;
        let select = detail.select(self.minor);
        let mut statement = self.prepare(&format!("{select} {}", order.sql()))?;
        let mut faults = Scan::new(&mut statement, "faults", order, self.size, errors)?;
        let mut ahead = Ahead::new(&self.file, self.size, self.fault_ids(), order);
        while let Some((id, row)) = faults.next()? {
            ahead.at(id);
            while others.come_before(id)
                && let Some(other) = others.next(&mut sites, &mut ios, &mut goroutines, base_ns)?
            {
                if take(Item::Other(other)).is_break() {
                    return Ok(());
                }
            }
            let broken = |error| errors.row("faults", id, &error);
            let mut fault = Fault::read_times(row).map_err(broken)?;
            if detail.wants_sleep(fault.site, &mut sites)? {
                fault.read_sleep(row).map_err(broken)?;
            }
            let sleep = fault.sleep(id, &mut sites, &mut sleeps)?;
            let history = histories.of(id, &mut sites, base_ns)?;
            let found = sites.get(fault.site)?;
            if !found.over {
                return Err(errors.damaged(format!("fault {id} has the site of a stuck thread")));
            }
            let (address, offset) = found.at.join(fault.at, self.page_bytes());
            let mut measure = fault.measure(base_ns, (address, offset), sleep);
            measure.history = history;
            measure.io = ios.of(id)?;
            measure.goroutine = goroutines.of(id)?;
            let item = Item::Fault {
                site_id: fault.site.cast_unsigned(),
                site: &found.site,
                measure,
            };
            if take(item).is_break() {
                return Ok(());
            }
        }
        while let Some(other) = others.next(&mut sites, &mut ios, &mut goroutines, base_ns)? {
            if take(Item::Other(other)).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn page_bytes(&self) -> u64 {
        self.meta.page_bytes
    }

    fn errors(&self) -> Errors<'_> {
        Errors { path: &self.path }
    }

    fn prepare(&self, sql: &str) -> Result<rusqlite::Statement<'_>> {
        let prepared = self.db.prepare(sql);
        prepared.map_err(|error| self.errors().database(error))
    }
}

/// What is read of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    All,
    Times,
    /// Times, and the longest sleeps of those that waited for `mmap_lock`.
    Holders,
}

impl Detail {
    fn select(self, minor: i32) -> Cow<'static, str> {
        match self {
            Detail::Times => TIMES.into(),
            Detail::All | Detail::Holders => faults(minor).into(),
        }
    }

    fn wants_sleep(self, site: i64, sites: &mut Sites<'_>) -> Result<bool> {
        Ok(match self {
            Detail::All => true,
            Detail::Times => false,
            Detail::Holders => sites.get(site)?.site.facts.cause == Some(Cause::MmapLock),
        })
    }
}

/// All that is in faults. `NOT INDEXED`: an index of a hostile file need not say what its table does.
fn faults(minor: i32) -> String {
    let syscall = schema::selected("faults", "waker_syscall", minor, "NULL");
    format!(
        "SELECT rowid, site, end_rel_ns, duration_ns, blocked_ns, runqueue_ns, at, switches, \
         slept_after_ns, waker, {syscall} FROM faults NOT INDEXED ORDER BY rowid"
    )
}

/// The first of these columns.
const TIMES: &str = "SELECT rowid, site, end_rel_ns, duration_ns, blocked_ns, runqueue_ns, at \
                     FROM faults NOT INDEXED ORDER BY rowid";
const SLEEP: &str = "SELECT blocked_ns, runqueue_ns FROM sleeps NOT INDEXED WHERE rowid = ?";

/// A row of `faults`.
struct Fault {
    site: i64,
    end: i64,
    duration_ns: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
    switches: u32,
    at: Option<i64>,
    slept_after: Option<i64>,
    waker: Option<i64>,
    waker_syscall: Option<Name>,
}

impl Fault {
    /// From [`TIMES`].
    fn read_times(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        Ok(Self {
            site: row.get(1)?,
            end: row.get(2)?,
            duration_ns: number(3)?,
            blocked_ns: number(4)?,
            runqueue_ns: number(5)?,
            at: row.get(6)?,
            switches: 0,
            slept_after: None,
            waker: None,
            waker_syscall: None,
        })
    }

    /// The rest, from [`faults`].
    fn read_sleep(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        self.switches = row.get(7)?;
        self.slept_after = row.get(8)?;
        self.waker = row.get(9)?;
        self.waker_syscall = others::name(row, 10)?;
        Ok(())
    }

    /// Its longest sleep: a row of its own if it slept more than once.
    fn sleep(
        &self,
        id: i64,
        sites: &mut Sites<'_>,
        sleeps: &mut rusqlite::Statement<'_>,
    ) -> Result<Option<Sleep>> {
        let Some(after) = self.slept_after else {
            return Ok(None);
        };
        let mut parts = (self.blocked_ns, self.runqueue_ns);
        if self.switches != 1 {
            let errors = sites.errors();
            let mut rows = sleeps.query([id]).map_err(|error| errors.database(error))?;
            if let Some(row) = rows.next().map_err(|error| errors.database(error))? {
                let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
                let read = || -> rusqlite::Result<_> { Ok((number(0)?, number(1)?)) };
                parts = read().map_err(|error| errors.row("sleeps", id, &error))?;
            }
        }
        let waker = match self.waker {
            None => None,
            Some(0) => Some(Waker::Interrupt),
            Some(thread) => {
                let task = sites.task(thread, self.waker_syscall.clone())?;
                Some(Waker::Task(task))
            }
        };
        Ok(Some(Sleep {
            after_ns: after.cast_unsigned(),
            blocked_ns: parts.0,
            runqueue_ns: parts.1,
            waker,
        }))
    }

    fn measure(
        &self,
        base_ns: u64,
        (address, offset): (Option<u64>, Option<u64>),
        longest_sleep: Option<Sleep>,
    ) -> Measure {
        Measure {
            end_ns: absolute(self.end, base_ns),
            duration_ns: self.duration_ns,
            blocked_ns: self.blocked_ns,
            runqueue_ns: self.runqueue_ns,
            switches: self.switches,
            address,
            offset,
            longest_sleep,
            history: None,
            io: None,
            goroutine: None,
        }
    }
}

/// Errors of one trace.
#[derive(Debug, Clone, Copy)]
struct Errors<'a> {
    path: &'a Path,
}

impl Errors<'_> {
    fn database(&self, error: rusqlite::Error) -> Error {
        if steps::are_used_up(&error) {
            return self.endless();
        }
        Error::Database {
            path: self.path.to_owned(),
            error,
        }
    }

    fn endless(&self) -> Error {
        self.damaged("it takes more steps than a file of this size can need".to_owned())
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged {
            path: self.path.to_owned(),
            what,
        }
    }

    fn not_a_trace(&self, what: String) -> Error {
        Error::NotATrace {
            path: self.path.to_owned(),
            what,
        }
    }

    fn row(&self, table: &str, id: i64, error: &rusqlite::Error) -> Error {
        if steps::are_used_up(error) {
            return self.endless();
        }
        self.damaged(format!("row {id} of {table}: {error}"))
    }
}
