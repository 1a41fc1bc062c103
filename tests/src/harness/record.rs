//! The tracer's JSON records as the tests read them. Fields may be added: unknown ones are
//! ignored; what the contract promises is required.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One line of `--format json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    Start(Start),
    Fault(Box<Fault>),
    Stuck(Box<Stuck>),
    Lost(Lost),
    Sample(Box<Sample>),
    Stall(Box<Stall>),
    Go(GoProgram),
    PStall(Box<PStall>),
    ReadAhead(ReadAhead),
    Summary(Summary),
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Start {
    pub version: String,
    pub host: String,
    pub kernel: String,
    pub targets: Vec<Target>,
    pub rungs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    pub pid: u32,
    pub name: String,
    pub exe: Option<String>,
}

/// What `fault` and `stuck` have in common.
#[derive(Debug, Clone, Deserialize)]
pub struct Facts {
    pub time_ns: Option<u64>,
    pub pid: u32,
    pub tid: u32,
    pub thread: String,
    pub mode: String,
    pub syscall: Option<String>,
    pub access: Option<String>,
    pub address: Option<String>,
    pub cause: Option<String>,
    pub path: Option<String>,
    pub offset: Option<u64>,
    pub mapping: Option<String>,
    pub began_before_attach: bool,
    pub begin_approximate: bool,
    pub user_stack: Option<Vec<Frame>>,
    pub kernel_stack: Option<Vec<Frame>>,
    pub goroutine: Option<Goroutine>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Fault {
    #[serde(flatten)]
    pub facts: Facts,
    pub major: bool,
    pub given_up: bool,
    pub end_ns: u64,
    pub duration_ns: u64,
    pub blocked_ns: u64,
    pub runqueue_ns: u64,
    pub on_cpu_ns: u64,
    pub switches: u64,
    pub end: String,
    pub longest_sleep: Option<Sleep>,
    pub history: Option<History>,
    pub io: Option<Io>,
}

/// What the thread of a Go program was at.
#[derive(Debug, Clone, Deserialize)]
pub struct Goroutine {
    pub id: Option<u64>,
    pub start: Option<String>,
    pub created_by: Option<String>,
    pub p: Option<u32>,
    pub in_syscall: bool,
    pub gomaxprocs: Option<u32>,
    pub queued_local: Option<u32>,
    pub queued_global: Option<u32>,
    pub queued_global_at_end: Option<u32>,
    pub labels: Option<Vec<Label>>,
    pub labels_left_out: Option<u32>,
}

/// A label of a goroutine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Label {
    pub key: String,
    pub value: String,
}

/// A process that runs a Go program.
#[derive(Debug, Clone, Deserialize)]
pub struct GoProgram {
    pub pid: u32,
    pub version: String,
    pub module: Option<String>,
    pub gomaxprocs: Option<u32>,
    pub layout: Option<String>,
}

/// No P was left.
#[derive(Debug, Clone, Deserialize)]
pub struct PStall {
    pub pid: u32,
    pub time_ns: u64,
    pub duration_ns: u64,
    pub stuck_ns: u64,
    pub gomaxprocs: u32,
    pub queued: Option<u64>,
    pub over: bool,
    pub faults: Vec<PStallFault>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct PStallFault {
    pub tid: u32,
    pub goroutine: Option<u64>,
    pub p: Option<u32>,
    pub path: Option<String>,
}

/// A Go program in the summary.
#[derive(Debug, Clone, Deserialize)]
pub struct GoSummary {
    pub version: String,
    pub gomaxprocs: Option<u32>,
    pub ps: Option<Ps>,
}

/// What its Ps add up to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ps {
    pub gomaxprocs_least: Option<u32>,
    pub gomaxprocs_most: Option<u32>,
    pub stuck_ns: Vec<u64>,
    pub lost_ns: u64,
    pub all_stuck_ns: u64,
    pub all_stuck_count: u64,
    pub most_queued: Option<u64>,
    pub unknown_gomaxprocs_ns: u64,
}

/// The past of a page.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    pub past: String,
    pub watched_ns: Option<u64>,
    pub removed_ns: Option<u64>,
    pub cached_ns: Option<u64>,
    pub how: Option<String>,
    pub removed_by: Option<Remover>,
    pub distance_pages: Option<u64>,
    pub filled: Option<Filled>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Remover {
    pub pid: Option<u32>,
    pub tid: Option<u32>,
    pub thread: String,
    pub syscall: Option<String>,
    pub cgroup: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Filled {
    pub pid: Option<u32>,
    pub name: String,
    pub pages: u64,
    pub of_pages: u64,
}

/// What devices did for a fault.
#[derive(Debug, Clone, Deserialize)]
pub struct Io {
    pub device: Option<String>,
    pub device_name: Option<String>,
    pub requests: u32,
    pub shared: u32,
    pub elsewhere: u32,
    pub completed: u32,
    pub bytes: u64,
    pub queued_ns: u64,
    pub served_ns: u64,
    pub held_ns: Option<u64>,
    pub last_queued_ns: Option<u64>,
    pub last_served_ns: Option<u64>,
}

/// What was counted at one moment.
#[derive(Debug, Clone, Deserialize)]
pub struct Sample {
    pub time_ns: u64,
    pub pid: u32,
    pub settled_ns: u64,
    pub stall_threads: u32,
    pub threads_in_fault: u32,
    pub threads: Option<u32>,
    pub threads_running: Option<u32>,
    pub user_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub iowait_ns: Option<u64>,
    pub run_queue: Option<u32>,
    pub pressure_of: Option<String>,
    pub memory_some_ns: Option<u64>,
    pub memory_full_ns: Option<u64>,
    pub io_some_ns: Option<u64>,
}

/// Many threads in blocking faults at once.
#[derive(Debug, Clone, Deserialize)]
pub struct Stall {
    pub pid: u32,
    pub time_ns: u64,
    pub duration_ns: u64,
    pub over: bool,
    pub threads: u64,
    pub max_threads: u64,
    pub threads_needed: u32,
    pub files: Vec<StallFile>,
    pub causes: BTreeMap<String, u64>,
    pub meanwhile: Option<Meanwhile>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct StallFile {
    pub path: Option<String>,
    pub faults: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Meanwhile {
    pub time_ns: u64,
    pub duration_ns: u64,
    pub samples: u64,
    pub threads: Option<u32>,
    pub runnable_share: Option<f64>,
    pub user_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub iowait_ns: Option<u64>,
    pub run_queue: Option<f64>,
    pub pressure_of: Option<String>,
    pub io_some_ns: Option<u64>,
}

/// The longest sleep of a fault.
#[derive(Debug, Clone, Deserialize)]
pub struct Sleep {
    pub after_ns: u64,
    pub blocked_ns: u64,
    pub runqueue_ns: u64,
    pub woken_by: Option<String>,
    pub waker: Option<Waker>,
}

/// The task that ended a sleep.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Waker {
    pub pid: Option<u32>,
    pub tid: Option<u32>,
    pub thread: String,
    pub syscall: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Stuck {
    #[serde(flatten)]
    pub facts: Facts,
    pub elapsed_ns: u64,
    pub io: Option<Io>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Frame {
    pub function: Option<String>,
    pub offset: Option<u64>,
    pub module: Option<String>,
    #[serde(default)]
    pub module_offset: Option<u64>,
    pub build_id: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub inlined: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Lost {
    pub class: String,
    pub reason: String,
    pub count: u64,
}

/// What was read of a file ahead, and what became of it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ReadAhead {
    pub path: Option<String>,
    pub read_pages: u64,
    pub mapped_pages: u64,
    pub dropped_pages: u64,
    pub unknown_pages: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    pub pid: Option<u32>,
    pub faults: u64,
    pub majors: u64,
    pub maj_flt_delta: Option<u64>,
    pub maj_flt_remainder: Option<i64>,
    pub blocked_ns: u64,
    pub go: Option<GoSummary>,
    pub still_stuck: Vec<serde_json::Value>,
    pub lost: BTreeMap<String, u64>,
    #[serde(default)]
    pub events_emitted: Option<u64>,
    #[serde(default)]
    pub events_received: Option<u64>,
    #[serde(default)]
    pub events_lost: Option<u64>,
}

impl Facts {
    /// The functions of the user stack, innermost first; `?` where there is no symbol.
    pub fn functions(&self) -> Vec<&str> {
        let frames = self.user_stack.as_deref().unwrap_or_default();
        frames
            .iter()
            .map(|frame| frame.function.as_deref().unwrap_or("?"))
            .collect()
    }

    /// The cause, empty if there is none.
    pub fn cause(&self) -> &str {
        self.cause.as_deref().unwrap_or_default()
    }
}

impl Fault {
    /// Panics unless the parts of its duration add up, and its longest sleep lies in it.
    pub fn check_parts(&self) {
        let parts = self.blocked_ns + self.runqueue_ns + self.on_cpu_ns;
        assert_eq!(
            self.duration_ns, parts,
            "duration = blocked + run queue + on CPU: {self:?}"
        );
        if let Some(io) = &self.io {
            self.check_io(io);
        }
        let Some(sleep) = &self.longest_sleep else {
            return;
        };
        let end = sleep.after_ns + sleep.blocked_ns + sleep.runqueue_ns;
        assert!(end <= self.duration_ns, "a sleep after its end: {self:?}");
        let (blocked, queued) = (self.blocked_ns, self.runqueue_ns);
        assert!(
            sleep.blocked_ns <= blocked && sleep.runqueue_ns <= queued,
            "a sleep of more than all: {self:?}"
        );
        if self.switches == 1 {
            let all = (sleep.blocked_ns, sleep.runqueue_ns);
            assert_eq!(all, (blocked, queued), "its only one: {self:?}");
        }
        let is_task = sleep.woken_by.as_deref() == Some("task");
        assert_eq!(is_task, sleep.waker.is_some(), "{self:?}");
    }

    fn check_io(&self, io: &Io) {
        assert!(
            io.completed <= io.requests && io.shared <= io.requests && io.elsewhere <= io.requests,
            "more than all: {self:?}"
        );
        assert!(io.bytes > 0, "a read of nothing: {self:?}");
        let last = io.last_queued_ns.zip(io.last_served_ns);
        // Only what takes minutes has no times.
        assert_eq!(last.is_some(), io.completed > 0, "{self:?}");
        let lasted_ns = last.map_or(0, |(queued, served)| queued + served);
        assert!(lasted_ns <= self.duration_ns, "longer than it: {self:?}");
        let held_ns = io.held_ns.unwrap_or(0);
        assert!(held_ns <= self.duration_ns, "longer than it: {self:?}");
    }
}
