//! The statements that add rows.

use rusqlite::types::{ToSql, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, params};

use crate::model::Start;
use crate::process::page_bytes;
use crate::trace::rows::text;

/// A value for a row, borrowed.
#[derive(Clone, Copy)]
pub(super) struct Cell<'a>(pub(super) ValueRef<'a>);

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

impl From<i64> for Cell<'_> {
    fn from(value: i64) -> Self {
        Cell(ValueRef::Integer(value))
    }
}

impl From<u32> for Cell<'_> {
    fn from(value: u32) -> Self {
        i64::from(value).into()
    }
}

impl From<bool> for Cell<'_> {
    fn from(value: bool) -> Self {
        i64::from(value).into()
    }
}

impl From<u64> for Cell<'_> {
    /// The same 64 bits.
    fn from(value: u64) -> Self {
        value.cast_signed().into()
    }
}

impl<'a> From<&'a [u8]> for Cell<'a> {
    fn from(value: &'a [u8]) -> Self {
        Cell(text(value))
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        value.as_bytes().into()
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell(ValueRef::Null), Into::into)
    }
}

/// Declares the statements and their tables: name, table, number of columns.
macro_rules! statements {
    ($($name:ident: $table:literal, $values:literal;)+) => {
        /// Prepared once for each batch; SQLite keeps them in between.
        pub(super) struct Statements<'c> {
            $(pub(super) $name: Insert<'c>,)+
            meta: CachedStatement<'c>,
        }

        impl<'c> Statements<'c> {
            pub(super) fn new(db: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Self {
                    $($name: Insert(db.prepare_cached(
                        concat!("INSERT INTO ", $table, " VALUES (", $values, ")"),
                    )?),)+
                    meta: db.prepare_cached(META)?,
                })
            }
        }
    };
}

const META: &str =
    "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value";

statements! {
    fault: "faults", "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
    sleep: "sleeps", "?, ?, ?";
    io: "fault_io", "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
    device: "devices", "?, ?, ?, ?";
    site: "sites", "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
    stuck: "stuck", "?, ?, ?, ?, ?, ?";
    process: "processes", "?, ?, ?, ?";
    process_end: "process_ends", "?, ?, ?";
    loss: "losses", "?, ?, ?, ?";
    account: "accounts", "?, ?, ?";
    transport: "transport", "?, ?, ?, ?";
    sample: "samples", "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
    history: "histories", "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
    cache_fill: "cache_fills", "?, ?, ?, ?, ?, ?";
    cache_fill_by: "cache_fill_by", "?, ?, ?, ?";
    read_ahead: "read_aheads", "?, ?, ?, ?, ?, ?, ?, ?";
    go_process: "go_processes", "?, ?, ?, ?, ?, ?, ?";
    goroutine: "goroutines", "?, ?, ?, ?, ?, ?";
    goroutine_label: "goroutine_labels", "?, ?, ?, ?";
    fault_goroutine: "fault_goroutines", "?, ?, ?, ?, ?, ?, ?, ?";
    thread: "threads", "?, ?, ?, ?";
    file: "files", "?, ?, ?";
    module: "modules", "?, ?, ?";
    frame: "frames", "?, ?, ?, ?, ?, ?, ?, ?, ?";
    stack: "stacks", "?, ?, ?";
    stack_frame: "stack_frames", "?, ?, ?";
}

impl Statements<'_> {
    /// Says a fact about the whole trace.
    pub(super) fn meta(&mut self, key: &str, value: impl ToSql) -> rusqlite::Result<()> {
        self.meta.execute(params![key, value]).map(drop)
    }
}

/// A statement that adds a row.
pub(super) struct Insert<'c>(CachedStatement<'c>);

impl Insert<'_> {
    /// Adds a row of these values.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell<'_>; N]) -> rusqlite::Result<()> {
        for (index, cell) in (1..).zip(cells) {
            self.0.raw_bind_parameter(index, cell)?;
        }
        self.0.raw_execute().map(drop)
    }
}

/// Writes what is traced, by what, on which machine.
pub(super) fn begin(db: &mut Connection, start: &Start) -> rusqlite::Result<()> {
    let all = db.transaction()?;
    let machine = nix::sys::utsname::uname()
        .map(|uname| uname.machine().to_string_lossy().into_owned())
        .ok();
    let cpus = std::thread::available_parallelism()
        .ok()
        .and_then(|cpus| i64::try_from(cpus.get()).ok());
    let number = |value: u64| Value::Integer(value.cast_signed());
    for (key, value) in [
        ("version", Value::Text(start.version.clone())),
        ("host", Value::Text(start.host.clone())),
        ("kernel", Value::Text(start.kernel.clone())),
        ("arch", machine.map_or(Value::Null, Value::Text)),
        ("cpus", cpus.map_or(Value::Null, Value::Integer)),
        ("page_bytes", number(page_bytes())),
        ("base_ns", number(start.time_ns)),
        ("start_ns", number(start.time_ns)),
        ("written_ns", number(start.time_ns)),
        ("state", Value::Text("recording".to_owned())),
        ("dropped_faults", Value::Integer(0)),
        ("dropped_majors", Value::Integer(0)),
        ("dropped_stuck", Value::Integer(0)),
    ] {
        all.execute(META, params![key, value])?;
    }
    for argument in &start.command {
        let argument = Cell::from(argument.as_str());
        all.execute("INSERT INTO arguments (argument) VALUES (?)", [argument])?;
    }
    for target in &start.targets {
        let (name, exe) = (
            Cell::from(target.name.as_bytes()),
            Cell::from(target.exe.as_ref().map(crate::model::Name::as_bytes)),
        );
        all.execute(
            "INSERT INTO targets (pid, name, exe) VALUES (?, ?, ?)",
            params![target.pid, name, exe],
        )?;
    }
    for (job, rung) in &start.rungs {
        let row = [Cell::from(job.as_str()), Cell::from(rung.as_str())];
        all.execute("INSERT INTO rungs (job, rung) VALUES (?, ?)", row)?;
    }
    all.commit()
}
