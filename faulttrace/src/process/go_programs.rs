//! Finds out which processes run a Go program, and where its runtime keeps things.
//!
//! On threads of their own: programs are large, and whoever reads a process's memory map or memory waits
//! for its `mmap_lock`.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use faulttrace_ebpf::UserRegisters;
use faulttrace_ebpf::goroutine::{GoLayout, Goroutine, labels_form};

use super::elf_files::{is_same, open_regular};
use super::elf_names::Names;
use super::go::build_info::numbers;
use super::go::runtime::{self, GoRuntime, Layout};
use super::goroutines::{self, Memory};
use super::map_reader;
use super::maps::{FileId, MINOR_BITS, Mapping};
use super::names_helper::Helper;
use crate::model::{LayoutSource, Name};
use crate::privileges;

/// Processes that may wait to be looked at.
const QUEUE: usize = 1024;
/// Programs that are remembered.
const MAX_PROGRAMS: usize = 1024;
/// How many reads may hang at once; processes beyond are not recognised.
const MAX_READS: usize = 64;

/// A process that runs a Go program.
#[derive(Debug)]
pub struct Found {
    /// Process id.
    pub pid: u32,
    /// Of Go, as the build information has it.
    pub version: Name,
    /// Path of the main module.
    pub module: Option<Name>,
    /// GOMAXPROCS; `None` if it could not be read.
    pub procs: Option<u32>,
    /// Where things are in this process, and how that is known.
    pub layout: Option<(GoLayout, LayoutSource)>,
    /// What its threads are at that were asked about, by thread id.
    pub goroutines: Vec<(u32, Goroutine)>,
    question: u64,
}

/// Which process is asked about.
struct Question {
    pid: u32,
    number: u64,
    /// Threads of it that have been stuck since before the programs were attached.
    stuck: Vec<UserRegisters>,
}

/// Asks, and takes answers.
pub struct GoPrograms {
    questions: SyncSender<Question>,
    answers: Receiver<Found>,
    /// The last question about each process: answers to earlier ones are about a program that was
    /// replaced, or a process that has ended.
    asked: HashMap<u32, u64>,
    next: u64,
    /// Processes that were not looked at because too many others were waiting.
    left_out: u64,
}

impl GoPrograms {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (questions, todo) = sync_channel(QUEUE);
        let (sender, answers) = channel();
        thread::Builder::new()
            .name("go programs".to_owned())
            .spawn(move || {
                privileges::keep_and_hand_on(privileges::MAPS, privileges::HELPER);
                Finder::new(Box::new(Helper::default()), sender).run(&todo);
            })?;
        Ok(Self {
            questions,
            answers,
            asked: HashMap::new(),
            next: 0,
            left_out: 0,
        })
    }

    /// Has a process looked at, which is new or has replaced its program; `stuck` are threads of it that
    /// have been stuck since before the programs were attached.
    pub fn ask(&mut self, pid: u32, stuck: Vec<UserRegisters>) {
        self.next += 1;
        let question = Question {
            pid,
            number: self.next,
            stuck,
        };
        if self.questions.try_send(question).is_ok() {
            self.asked.insert(pid, self.next);
        } else {
            self.left_out += 1;
        }
    }

    /// A process has ended, or is replacing its program.
    pub fn forget(&mut self, pid: u32) {
        self.asked.remove(&pid);
    }

    /// The next answer, if there is one.
    pub fn take(&mut self) -> Option<Found> {
        loop {
            let found = self.answers.try_recv().ok()?;
            if self.asked.get(&found.pid) == Some(&found.question) {
                return Some(found);
            }
        }
    }

    /// How many processes were not looked at since the last time because too many others waited.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

/// What the thread owns.
struct Finder {
    names: Box<dyn Names>,
    /// `None` for a program that is not Go's.
    programs: HashMap<FileId, Option<Arc<GoRuntime>>>,
    reads: Arc<AtomicUsize>,
    answers: Sender<Found>,
}

impl Finder {
    fn new(names: Box<dyn Names>, answers: Sender<Found>) -> Self {
        Self {
            names,
            programs: HashMap::new(),
            reads: Arc::new(AtomicUsize::new(0)),
            answers,
        }
    }

    fn run(&mut self, todo: &Receiver<Question>) {
        while let Ok(question) = todo.recv() {
            if let Some((file, program)) = self.program(question.pid) {
                self.read(question, file, program);
            }
        }
    }

    /// The Go program that a process runs; `None` if it is another, or the process has ended.
    fn program(&mut self, pid: u32) -> Option<(Metadata, Arc<GoRuntime>)> {
        let file = open_regular(Path::new(&format!("/proc/{pid}/exe")))?;
        let found = file.metadata().ok()?;
        let id = FileId {
            dev: libc::major(found.dev()) << MINOR_BITS | libc::minor(found.dev()),
            ino: found.ino(),
        };
        if let Some(known) = self.programs.get(&id) {
            return Some((found, known.clone()?));
        }
        let program = self.names.go_runtime(id, &file).map(Arc::new);
        if self.programs.len() >= MAX_PROGRAMS {
            self.programs.clear();
        }
        self.programs.insert(id, program.clone());
        Some((found, program?))
    }

    /// Reads what is the process's own, on a thread that may hang with it.
    fn read(&mut self, question: Question, file: Metadata, program: Arc<GoRuntime>) {
        let pid = question.pid;
        if self.reads.load(Ordering::Relaxed) >= MAX_READS {
            log::warn!("the Go program of process {pid} is not looked at: too many reads hang");
            return;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        let (reads, answers) = (Arc::clone(&self.reads), self.answers.clone());
        let spawned = thread::Builder::new()
            .name(format!("go of {pid}"))
            .spawn(move || {
                privileges::keep(privileges::MAPS);
                // Nobody listens any more once the session has ended.
                let _ = answers.send(found(&question, &file, &program));
                reads.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = spawned {
            self.reads.fetch_sub(1, Ordering::Relaxed);
            log::warn!("the Go program of process {pid} is not looked at: {error}");
        }
    }
}

fn found(question: &Question, file: &Metadata, program: &GoRuntime) -> Found {
    let pid = question.pid;
    let memory = Memory(pid);
    let layout = program.layout.as_ref().and_then(|layout| {
        let map = map_reader::read(pid)
            .map_err(|error| log::info!("memory map of {pid}: {error}"))
            .ok()?;
        let moved = moved(layout, file, &map.mappings)?;
        let labels = labels_form(&program.version);
        Some((in_process(layout, labels, moved), source(layout.source)))
    });
    let procs = layout
        .as_ref()
        .filter(|(layout, _)| layout.gomaxprocs != 0)
        .and_then(|(layout, _)| memory.word(layout.gomaxprocs, 0))
        // Not before the runtime has set itself up.
        .filter(|procs| *procs != 0);
    Found {
        pid,
        version: Name::from(program.version.as_str()),
        module: program.module.as_deref().map(Name::from),
        procs,
        goroutines: layout
            .iter()
            .flat_map(|(layout, _)| stuck(&memory, layout, &question.stuck))
            .collect(),
        layout,
        question: question.number,
    }
}

fn stuck(
    memory: &Memory,
    layout: &GoLayout,
    threads: &[UserRegisters],
) -> impl Iterator<Item = (u32, Goroutine)> {
    threads.iter().filter_map(|thread| {
        let found = goroutines::of(memory, layout, thread)?;
        Some((thread.tid, found))
    })
}

fn source(of: runtime::LayoutSource) -> LayoutSource {
    match of {
        runtime::LayoutSource::DebugInformation => LayoutSource::DebugInfo,
        runtime::LayoutSource::Table => LayoutSource::Table,
    }
}

/// What labels of the profiler are kept in.
fn labels_form(version: &str) -> u32 {
    match numbers(version) {
        Some((1, 18..=23)) => labels_form::MAP,
        Some((1, 24..=27)) => labels_form::LIST,
        _ => labels_form::UNKNOWN,
    }
}

/// How far the program lies from where its linker put it.
fn moved(layout: &Layout, file: &Metadata, mappings: &[Mapping]) -> Option<u64> {
    let (address, offset) = layout.code_segment;
    let begins = mappings.iter().find(|mapping| {
        let length = mapping.range.end.saturating_sub(mapping.range.start);
        let within = offset.checked_sub(mapping.offset);
        mapping.executable
            && mapping.file.is_some_and(|id| is_same(file, id))
            && within.is_some_and(|within| within < length)
    })?;
    let at = begins.range.start.wrapping_add(offset - begins.offset);
    Some(at.wrapping_sub(address))
}

/// The layout with addresses of the process.
fn in_process(layout: &Layout, labels_form: u32, moved: u64) -> GoLayout {
    let address = |linked: u64| linked.wrapping_add(moved);
    let known = |linked: Option<u64>| linked.map_or(0, address);
    let offsets = &layout.offsets;
    GoLayout {
        text_begin: address(layout.text.0),
        text_end: address(layout.text.1),
        gomaxprocs: known(layout.gomaxprocs),
        runqsize: known(layout.runq_size),
        tls_g: layout.tls_g.unwrap_or(0),
        has_tls: u32::from(layout.tls_g.is_some()),
        g_m: offsets.g_m,
        g_status: offsets.g_status,
        g_id: offsets.g_goid,
        g_start_pc: offsets.g_start_pc,
        g_go_pc: offsets.g_go_pc,
        m_g0: offsets.m_g0,
        m_curg: offsets.m_curg,
        m_p: offsets.m_p,
        p_id: offsets.p_id,
        p_runq_head: offsets.p_runq_head,
        p_runq_tail: offsets.p_runq_tail,
        p_run_next: offsets.p_run_next,
        g_labels: offsets.g_labels,
        labels_form,
        padding: 0,
    }
}
