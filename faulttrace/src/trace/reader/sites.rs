//! What faults refer to: sites, and with them threads, files and stacks. Remembered once read, as
//! far as the bounds allow; what was forgotten is read again.

mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

use super::Errors;
use super::others::name;
use crate::model::{
    Access, CacheFill, Cause, End, Facts, FilledBy, Frame, MappingKind, Mode, Name, Place, Site,
    Stack, Task,
};
use crate::trace::Result;
use crate::trace::rows::At;
use crate::trace::schema;
use rows::{SiteRow, frame_ids, read_frame};

/// Sites with small ids are found by index.
const MAX_INDEX: usize = 1 << 18;
/// Roughly how much of what was read is remembered that nobody else holds, bytes.
const MAX_BYTES: usize = if cfg!(test) { 1 << 20 } else { 48 << 20 };
/// Frames of one stack. With inlined calls there are more than were captured, but not this many.
const MAX_FRAMES: usize = 10_000;
/// Bytes of what one stack adds to what is remembered. Hundreds of frames with as many inlined calls as there
/// can be, of names that are long, have a fifth of it.
const MAX_STACK_BYTES: usize = 8 << 20;
/// A value and what holds it.
const VALUE_BYTES: usize = 64;

/// A site, and what of its faults' place is in it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) site: Arc<Site>,
    pub(super) at: At,
    /// It is of faults that are over.
    pub(super) over: bool,
}

/// A row of `threads`.
#[derive(Debug, Clone)]
pub(super) struct Thread {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) name: Name,
}

/// What is remembered of the tables.
pub(super) struct Sites<'c> {
    errors: Errors<'c>,
    page_bytes: u64,
    /// The file may have names that this version does not know.
    is_newer: bool,
    statements: Statements<'c>,
    /// By id.
    index: Vec<Option<Found>>,
    beyond: HashMap<i64, Found>,
    threads: HashMap<i64, Thread>,
    files: HashMap<i64, (Name, bool)>,
    modules: HashMap<i64, (Name, Option<Name>)>,
    frames: HashMap<i64, Frame>,
    stacks: HashMap<i64, Arc<Stack>>,
    bytes: usize,
    /// How many of these there may be before some are forgotten.
    room: usize,
}

struct Statements<'c> {
    site: Statement<'c>,
    thread: Statement<'c>,
    file: Statement<'c>,
    module: Statement<'c>,
    frame: Statement<'c>,
    stack: Statement<'c>,
    stack_frames: Statement<'c>,
    /// `None` in a file of a version that has no such table.
    filled_by: Option<Statement<'c>>,
}

impl<'c> Statements<'c> {
    /// `minor` is the version of the file.
    fn new(db: &'c Connection, minor: i32) -> rusqlite::Result<Self> {
        let begin = schema::selected("sites", "begin_approximate", minor, "0");
        let given_up = schema::selected("sites", "given_up", minor, "0");
        let by_id = |columns: &str, table: &str| {
            db.prepare(&format!(
                "SELECT {columns} FROM {table} NOT INDEXED WHERE rowid = ?"
            ))
        };
        Ok(Self {
            site: by_id(
                &format!(
                    "thread, mode, syscall, access, major, cause, mapping, file, at, base, ended, \
                     began_before_attach, {begin}, user_stack, kernel_stack, {given_up}"
                ),
                "sites",
            )?,
            thread: by_id("pid, tid, name", "threads")?,
            file: by_id("path, deleted", "files")?,
            module: by_id("path, build_id", "modules")?,
            frame: by_id(
                "address, function, offset, module, module_offset, file, line, inlined",
                "frames",
            )?,
            stack: by_id("hash, truncated", "stacks")?,
            filled_by: schema::table("cache_fill_by")
                .filter(|table| table.is_in(minor))
                .map(|_| {
                    db.prepare(&format!(
                        "SELECT process, pages FROM cache_fill_by NOT INDEXED WHERE fill = ? \
                     ORDER BY position LIMIT {}",
                        CacheFill::MOST
                    ))
                })
                .transpose()?,
            stack_frames: db.prepare(
                "SELECT frame FROM stack_frames NOT INDEXED WHERE stack = ? ORDER BY position",
            )?,
        })
    }
}

impl<'c> Sites<'c> {
    /// `minor` is the version of the file.
    pub(super) fn new(
        db: &'c Connection,
        errors: Errors<'c>,
        page_bytes: u64,
        minor: i32,
    ) -> Result<Self> {
        Ok(Self {
            errors,
            page_bytes,
            is_newer: minor > schema::MINOR,
            statements: Statements::new(db, minor).map_err(|error| errors.database(error))?,
            index: Vec::new(),
            beyond: HashMap::new(),
            threads: HashMap::new(),
            files: HashMap::new(),
            modules: HashMap::new(),
            frames: HashMap::new(),
            stacks: HashMap::new(),
            bytes: 0,
            room: MAX_BYTES,
        })
    }

    /// The errors of this trace.
    pub(super) fn errors(&self) -> Errors<'c> {
        self.errors
    }

    /// Bytes of a page.
    pub(super) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// A site.
    pub(super) fn get(&mut self, id: i64) -> Result<&Found> {
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        let known =
            self.index.get(index).is_some_and(Option::is_some) || self.beyond.contains_key(&id);
        if !known {
            self.forget_if_full();
            let found = self.load(id)?;
            let syscall = found.site.facts.syscall.as_ref();
            self.remember(VALUE_BYTES * 6 + length(syscall));
            if index < MAX_INDEX {
                if self.index.len() <= index {
                    self.index.resize(index + 1, None);
                }
                if let Some(place) = self.index.get_mut(index) {
                    *place = Some(found);
                }
            } else {
                self.beyond.insert(id, found);
            }
        }
        let found = match self.index.get(index) {
            Some(Some(found)) => Some(found),
            _ => self.beyond.get(&id),
        };
        found.ok_or_else(|| self.missing("sites", id))
    }

    /// Counts what is remembered.
    fn remember(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// When it is too much, all is forgotten but what others hold: read again, they would hold it twice, and
    /// names that a few rows tell could fill any memory. Not in the middle of a site: what that has of
    /// it already would stay, but not be counted any more.
    fn forget_if_full(&mut self) {
        if self.bytes <= self.room {
            return;
        }
        let held = Name::is_shared;
        // In this order: what only the former hold is held no more.
        self.index.clear();
        self.beyond.clear();
        self.stacks.retain(|_, stack| Arc::strong_count(stack) > 1);
        self.frames
            .retain(|_, frame| frame.function.iter().chain(&frame.file).any(held));
        self.modules
            .retain(|_, (path, build_id)| held(path) || build_id.as_ref().is_some_and(held));
        self.files.retain(|_, (path, _)| held(path));
        self.threads.retain(|_, thread| held(&thread.name));
        let kept = self.stacks.values().map(|stack| stack_bytes(stack));
        let kept = kept.chain(self.frames.values().map(frame_bytes));
        let kept = kept.chain(self.modules.values().map(module_bytes));
        let kept = kept.chain(self.files.values().map(|(path, _)| name_bytes(path)));
        let kept = kept.chain(self.threads.values().map(|one| name_bytes(&one.name)));
        self.bytes = kept.sum();
        // Should most be held, it is not gone through for every site.
        self.room = MAX_BYTES.max(self.bytes.saturating_mul(2));
    }

    fn missing(&self, table: &str, id: i64) -> crate::trace::Error {
        self.errors
            .damaged(format!("row {id} of {table} is missing"))
    }

    fn load(&mut self, id: i64) -> Result<Found> {
        let row = one(&mut self.statements.site, id, SiteRow::read);
        let row = row.map_err(|error| self.errors.row("sites", id, &error))?;
        let row = row.ok_or_else(|| self.missing("sites", id))?;
        let thread = self.load_thread(row.thread)?;
        let file = row.file.map(|file| self.file(file)).transpose()?;
        let user_stack = row.user_stack.map(|stack| self.stack(stack)).transpose()?;
        let kernel_stack = row
            .kernel_stack
            .map(|stack| self.stack(stack))
            .transpose()?;
        let odd = |what: &str| {
            self.errors
                .damaged(format!("row {id} of sites has an odd {what}"))
        };
        let over = match (row.major, row.ended.as_deref()) {
            (None, None) => None,
            (Some(major), Some(ended)) => {
                let end = End::from_name(ended).ok_or_else(|| odd("end"))?;
                Some((major, end))
            }
            _ => return Err(odd("end")),
        };
        let (path, deleted) = file.map_or((None, false), |(path, deleted)| (Some(path), deleted));
        let facts = Facts {
            begin_ns: None,
            pid: thread.pid,
            tid: thread.tid,
            thread: thread.name,
            mode: Mode::from_name(&row.mode).ok_or_else(|| odd("mode"))?,
            syscall: row.syscall,
            access: named(row.access.as_deref(), Access::from_name).map_err(|()| odd("access"))?,
            address: None,
            place: Place {
                mapping: named(row.mapping.as_deref(), MappingKind::from_name)
                    .map_err(|()| odd("mapping"))?,
                path,
                deleted,
                offset: None,
            },
            cause: named(row.cause.as_deref(), |name| self.cause(name))
                .map_err(|()| odd("cause"))?,
            began_before_attach: row.began_before_attach,
            begin_approximate: row.begin_approximate,
            given_up: row.given_up,
            user_stack,
            kernel_stack,
            goroutine: None,
        };
        let at = At::from_columns(row.at.as_deref(), row.base).ok_or_else(|| odd("place"))?;
        let (major, end) = over.unwrap_or((false, End::Exact));
        Ok(Found {
            site: Arc::new(Site { facts, major, end }),
            at,
            over: over.is_some(),
        })
    }

    /// A thread.
    pub(super) fn thread(&mut self, id: i64) -> Result<Thread> {
        self.forget_if_full();
        self.load_thread(id)
    }

    /// A thread, in this system call.
    pub(super) fn task(&mut self, id: i64, syscall: Option<Name>) -> Result<Task> {
        let thread = self.thread(id)?;
        Ok(Task {
            pid: thread.pid,
            tid: thread.tid,
            name: thread.name,
            syscall,
        })
    }

    /// Who added most to the page cache in the time of this row of `cache_fills`.
    pub(super) fn filled_by(&mut self, fill: i64) -> Result<Vec<FilledBy>> {
        let errors = self.errors;
        let Some(statement) = &mut self.statements.filled_by else {
            return Ok(Vec::new());
        };
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let rows: rusqlite::Result<Vec<_>> = statement
            .query_map([fill], read)
            .and_then(Iterator::collect);
        let rows = rows.map_err(|error| errors.row("cache_fill_by", fill, &error))?;
        let by = rows.into_iter().map(|(process, pages)| {
            let process = self.thread(process)?;
            Ok(FilledBy {
                pid: process.pid,
                name: process.name,
                pages: pages.cast_unsigned(),
            })
        });
        by.collect()
    }

    /// A cause by its name; one that a newer version has added is not known here.
    fn cause(&self, name: &str) -> Option<Cause> {
        Cause::from_name(name).or_else(|| self.is_newer.then_some(Cause::Unknown))
    }

    fn load_thread(&mut self, id: i64) -> Result<Thread> {
        if let Some(thread) = self.threads.get(&id) {
            return Ok(thread.clone());
        }
        let read = |row: &Row<'_>| {
            Ok(Thread {
                pid: row.get::<_, Option<u32>>(0)?.unwrap_or(0),
                tid: row.get::<_, Option<u32>>(1)?.unwrap_or(0),
                name: name(row, 2)?.unwrap_or_default(),
            })
        };
        let found = one(&mut self.statements.thread, id, read);
        let found = found.map_err(|error| self.errors.row("threads", id, &error))?;
        let thread = found.ok_or_else(|| self.missing("threads", id))?;
        self.remember(name_bytes(&thread.name));
        self.threads.insert(id, thread.clone());
        Ok(thread)
    }

    fn file(&mut self, id: i64) -> Result<(Name, bool)> {
        if let Some(file) = self.files.get(&id) {
            return Ok(file.clone());
        }
        let read = |row: &Row<'_>| Ok((name(row, 0)?.unwrap_or_default(), row.get::<_, bool>(1)?));
        let found = one(&mut self.statements.file, id, read);
        let found = found.map_err(|error| self.errors.row("files", id, &error))?;
        let file = found.ok_or_else(|| self.missing("files", id))?;
        self.remember(name_bytes(&file.0));
        self.files.insert(id, file.clone());
        Ok(file)
    }

    fn module(&mut self, id: i64) -> Result<(Name, Option<Name>)> {
        if let Some(module) = self.modules.get(&id) {
            return Ok(module.clone());
        }
        let read = |row: &Row<'_>| Ok((name(row, 0)?.unwrap_or_default(), name(row, 1)?));
        let found = one(&mut self.statements.module, id, read);
        let found = found.map_err(|error| self.errors.row("modules", id, &error))?;
        let module = found.ok_or_else(|| self.missing("modules", id))?;
        self.remember(module_bytes(&module));
        self.modules.insert(id, module.clone());
        Ok(module)
    }

    fn stack(&mut self, id: i64) -> Result<Arc<Stack>> {
        if let Some(stack) = self.stacks.get(&id) {
            return Ok(Arc::clone(stack));
        }
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?));
        let found = one(&mut self.statements.stack, id, read);
        let found = found.map_err(|error| self.errors.row("stacks", id, &error))?;
        let (hash, truncated) = found.ok_or_else(|| self.missing("stacks", id))?;
        let ids = frame_ids(&mut self.statements.stack_frames, id);
        let ids = ids.map_err(|error| self.errors.row("stack_frames", id, &error))?;
        if ids.len() > MAX_FRAMES {
            return Err(self
                .errors
                .damaged(format!("stack {id} has too many frames")));
        }
        // Names are shared with the frames that are remembered, and counted there.
        let before = self.bytes;
        let mut frames = Vec::with_capacity(ids.len());
        for frame in ids {
            frames.push(self.frame(frame)?);
            if self.bytes.saturating_sub(before) > MAX_STACK_BYTES {
                let what = format!("the names of stack {id} are too long");
                return Err(self.errors.damaged(what));
            }
        }
        let stack = Arc::new(Stack {
            id: hash.cast_unsigned(),
            frames,
            truncated,
        });
        self.remember(stack_bytes(&stack));
        self.stacks.insert(id, Arc::clone(&stack));
        Ok(stack)
    }

    fn frame(&mut self, id: i64) -> Result<Frame> {
        if let Some(frame) = self.frames.get(&id) {
            return Ok(frame.clone());
        }
        let found = one(&mut self.statements.frame, id, read_frame);
        let found = found.map_err(|error| self.errors.row("frames", id, &error))?;
        let (mut frame, module) = found.ok_or_else(|| self.missing("frames", id))?;
        if let Some(module) = module {
            let (path, build_id) = self.module(module)?;
            frame.module = Some(path);
            frame.build_id = build_id;
        }
        self.remember(frame_bytes(&frame));
        self.frames.insert(id, frame.clone());
        Ok(frame)
    }
}

fn stack_bytes(stack: &Stack) -> usize {
    VALUE_BYTES * (1 + 3 * stack.frames.len())
}

/// Without those of its module.
fn frame_bytes(frame: &Frame) -> usize {
    VALUE_BYTES * 3 + length(frame.function.as_ref()) + length(frame.file.as_ref())
}

fn module_bytes((path, build_id): &(Name, Option<Name>)) -> usize {
    VALUE_BYTES * 2 + length(Some(path)) + length(build_id.as_ref())
}

/// Of a row with this name.
fn name_bytes(name: &Name) -> usize {
    VALUE_BYTES + length(Some(name))
}

/// Bytes of a name.
fn length(name: Option<&Name>) -> usize {
    name.map_or(0, |name| name.as_bytes().len())
}

/// The row of an id, if there is one.
fn one<T>(
    statement: &mut Statement<'_>,
    id: i64,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    statement.query_row([id], read).optional()
}

/// A name that may be absent, but must mean something if it is there.
fn named<T>(
    name: Option<&str>,
    find: impl FnOnce(&str) -> Option<T>,
) -> std::result::Result<Option<T>, ()> {
    match name {
        None => Ok(None),
        Some(name) => find(name).map(Some).ok_or(()),
    }
}
