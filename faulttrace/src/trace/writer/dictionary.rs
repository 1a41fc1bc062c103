//! Ids of what repeats. A row is written when something appears for the first time; when too much
//! has to be remembered, all of a kind is forgotten and gets new rows, which only costs space.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::statements::{Cell, Statements};
use crate::model::{
    Access, Cause, Device, End, Facts, Frame, GoLabels, Goroutine, MappingKind, Mode, Name, Stack,
    known_id,
};
use crate::trace::rows::At;

const MAX_THREADS: usize = 65_536;
const MAX_DEVICES: usize = 1_024;
const MAX_GOROUTINES: usize = 65_536;
const MAX_FILES: usize = 65_536;
const MAX_MODULES: usize = 8_192;
const MAX_FRAMES: usize = 131_072;
const MAX_STACKS: usize = 32_768;
const MAX_SITES: usize = 262_144;
/// How much memory what is remembered of a kind may take, if it has long names: the target's choose them.
const MAX_BYTES: usize = 160 << 20;

/// Everything that has an id.
#[derive(Debug)]
pub(super) struct Dictionary {
    threads: Ids<(u32, u32, Name)>,
    devices: Ids<Device>,
    goroutines: Ids<GoroutineKey>,
    files: Ids<(Name, bool)>,
    modules: Ids<(Name, Option<Name>)>,
    frames: Ids<Frame>,
    /// By the address of the stack, which is its own as long as `kept` holds it: records share
    /// their stacks.
    stacks: Ids<usize>,
    kept: Vec<Arc<Stack>>,
    sites: Ids<SiteKey>,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            threads: Ids::new(MAX_THREADS),
            devices: Ids::new(MAX_DEVICES),
            goroutines: Ids::new(MAX_GOROUTINES),
            files: Ids::new(MAX_FILES),
            modules: Ids::new(MAX_MODULES),
            frames: Ids::new(MAX_FRAMES),
            stacks: Ids::new(MAX_STACKS),
            kept: Vec::new(),
            sites: Ids::new(MAX_SITES),
        }
    }
}

/// Process, number, the functions that it runs and was made by, labels.
type GoroutineKey = (
    u32,
    Option<u64>,
    Option<Name>,
    Option<Name>,
    Option<Arc<GoLabels>>,
);

/// Ids by what they stand for.
#[derive(Debug)]
struct Ids<K> {
    known: HashMap<K, i64>,
    /// What those that are known take besides.
    bytes: usize,
    max: usize,
    last: i64,
}

impl<K: Eq + Hash> Ids<K> {
    fn new(max: usize) -> Self {
        Self {
            known: HashMap::new(),
            bytes: 0,
            max,
            last: 0,
        }
    }

    fn get(&self, key: &K) -> Option<i64> {
        self.known.get(key).copied()
    }

    /// A new id of what takes so much memory. Says whether all others were forgotten.
    fn add(&mut self, key: K, bytes: usize) -> (i64, bool) {
        let full = self.known.len() >= self.max || self.bytes.saturating_add(bytes) > MAX_BYTES;
        if full {
            self.forget();
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.last += 1;
        self.known.insert(key, self.last);
        (self.last, full)
    }

    fn forget(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }
}

/// What a site consists of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SiteKey {
    thread: i64,
    mode: Mode,
    syscall: Option<Name>,
    access: Option<Access>,
    /// Whether it was major and how its end is known; `None` of what is not over.
    over: Option<(bool, End)>,
    cause: Option<Cause>,
    mapping: Option<MappingKind>,
    file: Option<i64>,
    at: At,
    began_before_attach: bool,
    begin_approximate: bool,
    given_up: bool,
    user_stack: Option<i64>,
    kernel_stack: Option<i64>,
}

impl Dictionary {
    /// Forgets everything: rows were taken back or removed. Ids are not used again.
    pub(super) fn forget(&mut self) {
        self.threads.forget();
        self.devices.forget();
        self.goroutines.forget();
        self.files.forget();
        self.modules.forget();
        self.frames.forget();
        self.stacks.forget();
        self.kept.clear();
        self.sites.forget();
    }

    /// The id of a site.
    pub(super) fn site(
        &mut self,
        facts: &Facts,
        over: Option<(bool, End)>,
        at: At,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<i64> {
        let place = &facts.place;
        let file = match &place.path {
            None => None,
            Some(path) => Some(self.file(path, place.deleted, rows)?),
        };
        let key = SiteKey {
            thread: self.thread(facts.pid, facts.tid, &facts.thread, rows)?,
            mode: facts.mode,
            syscall: facts.syscall.clone(),
            access: facts.access,
            over,
            cause: facts.cause,
            mapping: place.mapping,
            file,
            at,
            began_before_attach: facts.began_before_attach,
            begin_approximate: facts.begin_approximate,
            given_up: facts.given_up,
            user_stack: self.optional_stack(facts.user_stack.as_ref(), rows)?,
            kernel_stack: self.optional_stack(facts.kernel_stack.as_ref(), rows)?,
        };
        if let Some(id) = self.sites.get(&key) {
            return Ok(id);
        }
        let (id, _) = self.sites.add(key.clone(), 0);
        add_site(id, &key, rows)?;
        Ok(id)
    }

    /// The id of a thread under its name.
    pub(super) fn thread(
        &mut self,
        pid: u32,
        tid: u32,
        name: &Name,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<i64> {
        let key = (pid, tid, name.clone());
        if let Some(id) = self.threads.get(&key) {
            return Ok(id);
        }
        let (id, _) = self.threads.add(key, name.as_bytes().len());
        rows.thread.row([
            id.into(),
            known_id(pid).into(),
            known_id(tid).into(),
            name.as_bytes().into(),
        ])?;
        Ok(id)
    }

    /// The id of a device.
    pub(super) fn device(
        &mut self,
        device: &Device,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<i64> {
        if let Some(id) = self.devices.get(device) {
            return Ok(id);
        }
        let (id, _) = self.devices.add(device.clone(), 0);
        rows.device.row([
            id.into(),
            device.major.into(),
            device.minor.into(),
            device.name.as_ref().map(Name::as_bytes).into(),
        ])?;
        Ok(id)
    }

    /// The id of a goroutine.
    pub(super) fn goroutine(
        &mut self,
        pid: u32,
        goroutine: &Goroutine,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<i64> {
        let (start, created_by) = (&goroutine.start, &goroutine.created_by);
        let labels = &goroutine.labels;
        let key = (
            pid,
            goroutine.id,
            start.clone(),
            created_by.clone(),
            labels.clone(),
        );
        if let Some(id) = self.goroutines.get(&key) {
            return Ok(id);
        }
        let (id, _) = self.goroutines.add(key, bytes_of(goroutine));
        rows.goroutine.row([
            id.into(),
            pid.into(),
            goroutine.id.into(),
            start.as_ref().map(Name::as_bytes).into(),
            created_by.as_ref().map(Name::as_bytes).into(),
            labels.as_ref().map(|labels| labels.left_out).into(),
        ])?;
        let pairs = labels.iter().flat_map(|labels| &labels.kept);
        for (position, (key, value)) in (0_i64..).zip(pairs) {
            rows.goroutine_label.row([
                id.into(),
                position.into(),
                key.as_bytes().into(),
                value.as_bytes().into(),
            ])?;
        }
        Ok(id)
    }

    fn file(
        &mut self,
        path: &Name,
        deleted: bool,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<i64> {
        let key = (path.clone(), deleted);
        if let Some(id) = self.files.get(&key) {
            return Ok(id);
        }
        let (id, _) = self.files.add(key, path.as_bytes().len());
        rows.file
            .row([id.into(), path.as_bytes().into(), deleted.into()])?;
        Ok(id)
    }

    fn optional_stack(
        &mut self,
        stack: Option<&Arc<Stack>>,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<Option<i64>> {
        stack.map(|stack| self.stack(stack, rows)).transpose()
    }

    fn stack(&mut self, stack: &Arc<Stack>, rows: &mut Statements<'_>) -> rusqlite::Result<i64> {
        let key = Arc::as_ptr(stack).addr();
        if let Some(id) = self.stacks.get(&key) {
            return Ok(id);
        }
        let bytes = Frame::bytes_of(&stack.frames);
        let (id, forgotten) = self.stacks.add(key, bytes);
        if forgotten {
            self.kept.clear();
        }
        self.kept.push(Arc::clone(stack));
        rows.stack
            .row([id.into(), stack.id.into(), stack.truncated.into()])?;
        for (position, frame) in (0_i64..).zip(&stack.frames) {
            let frame = self.frame(frame, rows)?;
            rows.stack_frame
                .row([id.into(), position.into(), frame.into()])?;
        }
        Ok(id)
    }

    fn frame(&mut self, frame: &Frame, rows: &mut Statements<'_>) -> rusqlite::Result<i64> {
        if let Some(id) = self.frames.get(frame) {
            return Ok(id);
        }
        let module = match &frame.module {
            None => None,
            Some(path) => Some(self.module(path, frame.build_id.as_ref(), rows)?),
        };
        let (id, _) = self
            .frames
            .add(frame.clone(), Frame::bytes_of(std::slice::from_ref(frame)));
        let name = |name: &'_ Option<Name>| name.as_ref().map(Name::as_bytes).map(<[u8]>::to_vec);
        let (function, file) = (name(&frame.function), name(&frame.file));
        rows.frame.row([
            id.into(),
            frame.address.into(),
            function.as_deref().into(),
            frame.offset.into(),
            module.into(),
            frame.module_offset.into(),
            file.as_deref().into(),
            frame.line.into(),
            frame.inlined.into(),
        ])?;
        Ok(id)
    }

    fn module(
        &mut self,
        path: &Name,
        build_id: Option<&Name>,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<i64> {
        let key = (path.clone(), build_id.cloned());
        if let Some(id) = self.modules.get(&key) {
            return Ok(id);
        }
        let (id, _) = self.modules.add(key, path.as_bytes().len());
        // Never text, whatever its bytes are.
        let build_id = build_id.map(|id| rusqlite::types::ValueRef::Blob(id.as_bytes()));
        rows.module.row([
            id.into(),
            path.as_bytes().into(),
            build_id.map_or(Cell(rusqlite::types::ValueRef::Null), Cell),
        ])?;
        Ok(id)
    }
}

/// What the names of a goroutine take; they may be shared.
fn bytes_of(goroutine: &Goroutine) -> usize {
    let functions = [&goroutine.start, &goroutine.created_by];
    let functions = functions.into_iter().flatten();
    let labels = goroutine.labels.iter().flat_map(|labels| &labels.kept);
    let labels = labels.flat_map(|(key, value)| [key, value]);
    functions
        .chain(labels)
        .map(|name| name.as_bytes().len())
        .sum()
}

fn add_site(id: i64, key: &SiteKey, rows: &mut Statements<'_>) -> rusqlite::Result<()> {
    let (at, base) = key.at.columns();
    rows.site.row([
        id.into(),
        key.thread.into(),
        key.mode.as_str().into(),
        key.syscall.as_ref().map(Name::as_bytes).into(),
        key.access.map(Access::as_str).into(),
        key.over.map(|(major, _)| major).into(),
        key.cause.map(Cause::as_str).into(),
        key.mapping.map(MappingKind::as_str).into(),
        key.file.into(),
        at.into(),
        base.into(),
        key.over.map(|(_, end)| end.as_str()).into(),
        key.began_before_attach.into(),
        key.begin_approximate.into(),
        key.user_stack.into(),
        key.kernel_stack.into(),
        key.given_up.into(),
    ])
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::trace::schema;

    #[test]
    fn long_names_take_no_more_than_there_is_room_for() {
        let mut ids = Ids::new(1000);
        for key in 0..1000 {
            let (id, forgotten) = ids.add(key, MAX_BYTES / 4);
            assert_eq!((id, forgotten), (key + 1, key > 0 && key % 4 == 0));
            assert!(ids.bytes <= MAX_BYTES && ids.get(&key) == Some(id));
        }
        ids.forget();
        assert!(!ids.add(1000, MAX_BYTES).1);
    }

    #[test]
    fn large_stacks_are_forgotten_before_there_are_many() {
        let db = Connection::open_in_memory().expect("a database");
        db.execute_batch(&schema::create()).expect("tables");
        let mut rows = Statements::new(&db).expect("statements");
        let mut dictionary = Dictionary::default();
        let frame = Frame {
            function: Some(Name::from(vec![b'x'; Name::MAX_BYTES].as_slice())),
            ..Frame::default()
        };
        let bytes = Frame::bytes_of(std::slice::from_ref(&frame));
        let frames = vec![frame; MAX_BYTES / bytes / 3];
        let stacks: [_; 4] = [1, 2, 3, 4].map(|id| {
            Arc::new(Stack {
                id,
                frames: frames.clone(),
                truncated: false,
            })
        });
        let mut ids = Vec::new();
        for stack in [0, 1, 2, 0, 3, 3, 0] {
            ids.push(dictionary.stack(&stacks[stack], &mut rows).expect("a row"));
        }
        assert_eq!(ids, [1, 2, 3, 1, 4, 4, 5]);
        assert_eq!(dictionary.kept.len(), 2);
    }
}
