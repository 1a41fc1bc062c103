//! Threads that sit in a page fault now, found from outside: the tracer's programs see only what
//! happens after they were attached.
//!
//! To read `stack` and `syscall` of a thread waits while its process executes a program (lock_trace of
//! fs/proc/base.c takes `exec_update_lock`), for ever if a file that is closed thereby hangs; on some kernels
//! (seen on 6.18) `stat` does too, but `status` does not.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::time::Duration;

use super::patience::{Terms, Work, with_patience};
use super::threads::{self, Scheduling};
use crate::model::{Mode, Name};
use crate::privileges;

/// Functions by which the kernel enters a page-fault exception, per architecture; the innermost
/// one after the other of a stack.
const EXCEPTION_ENTRIES: [&str; 4] = [
    "asm_exc_page_fault",
    "exc_page_fault",
    "el0_da",
    "do_mem_abort",
];

/// The handler under every fault, exception or not.
const HANDLER: &str = "handle_mm_fault";

/// Functions that run after a fault's completion, on the way back.
const LEAVING: [&str; 3] = ["irqentry_exit", "exit_to_user_mode", "do_exit"];

/// How long a read may take, and all of them together.
const PATIENCE: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(10);
/// Threads of a process whose stacks are open at a time.
const AT_ONCE: usize = 32;
/// No stack is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// A thread that sleeps in a page fault.
#[derive(Debug, Clone)]
pub struct StuckThread {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Its name.
    pub comm: Name,
    /// How it got there.
    pub mode: Mode,
    /// Kernel stack, innermost first: addresses where /proc gives them, else none.
    pub kernel_frames: Vec<KernelFrame>,
    /// Number of the system call it is in.
    pub syscall: Option<u32>,
    /// The user instruction it will return to, where /proc tells it.
    pub user_ip: Option<u64>,
    /// Its `maj_flt` so far.
    pub maj_flt: u64,
    switches: u64,
}

/// A line of `/proc/PID/task/TID/stack`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFrame {
    /// Function.
    pub function: String,
    /// Offset in it, bytes.
    pub offset: u64,
}

/// Whether threads in a fault can be found at all: what the kernel refuses of this thread's own
/// stack, it refuses of all.
pub fn can_look() -> std::io::Result<()> {
    fs::read("/proc/thread-self/stack").map(drop)
}

/// Looks for such threads; remembers whose reads hang.
#[derive(Debug, Default)]
pub struct Search {
    left_out: HashSet<u32>,
}

impl Search {
    /// The threads of these processes that sit in a fault, as far as that can be found out in time and
    /// before `is_over` says that nobody wants to know any more.
    pub fn scan(&mut self, pids: &[u32], is_over: &dyn Fn() -> bool) -> Vec<StuckThread> {
        let terms = Terms {
            name: "stuck before",
            privileges: privileges::STACKS,
            patience: PATIENCE,
            limit: LIMIT,
            is_over,
        };
        let asked = pids.iter().filter(|pid| !self.left_out.contains(pid));
        let all = asked.map(|pid| Process::new(*pid)).collect();
        let outcome = with_patience(all, &terms);
        self.left_out.extend(outcome.left_out);
        outcome.answers
    }

    /// Of how many processes not every thread was looked at.
    pub fn left_out(&self) -> u64 {
        self.left_out.len() as u64
    }
}

/// All processes of the system but this one.
pub fn others() -> Vec<u32> {
    let own = std::process::id();
    let mut pids = threads::processes();
    pids.retain(|pid| *pid != own);
    pids
}

/// Whether it has not run since it was found. Waits for no lock: a thread that sleeps, and after that has
/// left the CPU as often as then, sleeps since.
pub fn verify(thread: &StuckThread) -> bool {
    let now = || threads::scheduling(thread.pid, thread.tid).ok();
    let asleep = now().filter(Scheduling::is_asleep).and_then(|_| now());
    asleep.is_some_and(|now| now.switches == thread.switches)
}

/// A process whose threads are looked at.
struct Process {
    pid: u32,
    /// Threads not yet looked at.
    tids: Vec<u32>,
    /// Whose stack is to be read next.
    asleep: Vec<Asleep>,
}

/// A thread that sleeps somewhere.
struct Asleep {
    tid: u32,
    switches: u64,
    /// Whether it may be read is decided when it is opened: the thread that reads need not have the right.
    stack: File,
}

impl Process {
    fn new(pid: u32) -> Self {
        Self {
            pid,
            tids: threads::list(pid).unwrap_or_default(),
            asleep: Vec::new(),
        }
    }
}

impl Work for Process {
    type Answer = StuckThread;

    fn pid(&self) -> u32 {
        self.pid
    }

    fn prepare(&mut self) {
        let next = self.tids.split_off(self.tids.len().saturating_sub(AT_ONCE));
        self.asleep
            .extend(next.into_iter().filter_map(|tid| asleep(self.pid, tid)));
    }

    fn step(&mut self, tell: &dyn Fn(StuckThread)) -> bool {
        let found = self.asleep.drain(..);
        found
            .filter_map(|thread| look(self.pid, thread))
            .for_each(tell);
        !self.tids.is_empty()
    }
}

fn asleep(pid: u32, tid: u32) -> Option<Asleep> {
    let now = threads::scheduling(pid, tid).ok();
    let switches = now.filter(Scheduling::is_asleep)?.switches;
    let stack = File::open(format!("/proc/{pid}/task/{tid}/stack")).ok()?;
    Some(Asleep {
        tid,
        switches,
        stack,
    })
}

fn look(pid: u32, thread: Asleep) -> Option<StuckThread> {
    let tid = thread.tid;
    let mut text = Vec::new();
    let mut bounded = thread.stack.take(MAX_BYTES);
    bounded.read_to_end(&mut text).ok()?;
    let kernel_frames = parse_stack(&text);
    let mode = mode_of(&kernel_frames)?;
    let stat = threads::thread_stat(pid, tid).ok()?;
    let (syscall, user_ip) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall"))
        .map(|text| parse_syscall(&text))
        .unwrap_or_default();
    Some(StuckThread {
        pid,
        tid,
        comm: stat.comm,
        mode,
        kernel_frames,
        syscall,
        user_ip,
        maj_flt: stat.maj_flt,
        switches: thread.switches,
    })
}

/// Lines `[<0>] function+0x1/0x2 [module]`, innermost first.
fn parse_stack(text: &[u8]) -> Vec<KernelFrame> {
    let line = |line: &str| {
        let symbol = line
            .split_ascii_whitespace()
            .find(|word| word.contains('+'))?;
        let (function, place) = symbol.split_once('+')?;
        let offset = place.split('/').next()?.strip_prefix("0x")?;
        Some(KernelFrame {
            function: function.to_owned(),
            offset: u64::from_str_radix(offset, 16).ok()?,
        })
    };
    String::from_utf8_lossy(text)
        .lines()
        .filter_map(line)
        .collect()
}

/// Whether a stack is one of a thread in a fault, and of which mode.
fn mode_of(frames: &[KernelFrame]) -> Option<Mode> {
    let is = |frame: &KernelFrame, names: &[&str]| {
        names.iter().any(|name| frame.function.starts_with(name))
    };
    let Some(entry) = frames
        .iter()
        .rposition(|frame| is(frame, &EXCEPTION_ENTRIES))
    else {
        let handled = frames.iter().any(|frame| frame.function == HANDLER);
        return handled.then_some(Mode::Gup);
    };
    if frames.iter().take(entry).any(|frame| is(frame, &LEAVING)) {
        return None;
    }
    // Nothing is outside the exception of a fault in user mode.
    Some(if entry + 1 == frames.len() {
        Mode::User
    } else {
        Mode::Kernel
    })
}

/// `/proc/PID/task/TID/syscall`: number and arguments or -1, then the stack and instruction
/// pointers of user mode (fs/proc/base.c, proc_pid_syscall). Returns number and instruction pointer.
fn parse_syscall(text: &str) -> (Option<u32>, Option<u64>) {
    let mut words = text.split_ascii_whitespace();
    let number = words.next().and_then(|word| word.parse().ok());
    let ip = words
        .next_back()
        .and_then(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    (number, ip)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const USER: &[u8] = b"[<0>] request_wait_answer+0x13b/0x210\n[<0>] fuse_simple_request+0x1/0x2\n[<0>] filemap_fault+0x1/0x2\n[<0>] handle_mm_fault+0x1/0x2\n[<0>] exc_page_fault+0x76/0x1e0\n[<0>] asm_exc_page_fault+0x22/0x30\n";

    #[test]
    fn the_three_modes_are_told_apart() {
        assert_eq!(mode_of(&parse_stack(USER)), Some(Mode::User));
        let kernel = [USER, b"[<0>] rep_movs_alternative+0x1/0x2\n[<0>] vfs_read+0x1/0x2\n[<0>] __x64_sys_read+0x1/0x2\n[<0>] entry_SYSCALL_64_after_hwframe+0x76/0x7e\n"].concat();
        assert_eq!(mode_of(&parse_stack(&kernel)), Some(Mode::Kernel));
        let gup = b"[<0>] folio_wait_bit_common+0x1/0x2\n[<0>] handle_mm_fault+0x1/0x2\n[<0>] __get_user_pages+0x1/0x2\n[<0>] __x64_sys_madvise+0x1/0x2\n";
        assert_eq!(mode_of(&parse_stack(gup)), Some(Mode::Gup));
    }

    #[test]
    fn other_sleeps_are_no_faults() {
        let futex = b"[<0>] futex_wait_queue+0x1/0x2\n[<0>] do_futex+0x1/0x2\n[<0>] __x64_sys_futex+0x1/0x2\n";
        assert_eq!(mode_of(&parse_stack(futex)), None);
        let signal = b"[<0>] do_exit+0x1/0x2\n[<0>] exit_to_user_mode_loop+0x1/0x2\n[<0>] irqentry_exit+0x1/0x2\n[<0>] exc_page_fault+0x1/0x2\n[<0>] asm_exc_page_fault+0x22/0x30\n";
        assert_eq!(mode_of(&parse_stack(signal)), None);
        assert_eq!(mode_of(&parse_stack(b"")), None);
        assert!(parse_stack(b"\xff[<0>] +0x/0x\nx+y\n+").is_empty());
    }

    #[test]
    fn the_system_call_and_the_instruction_are_read() {
        assert_eq!(
            parse_syscall("0 0x3 0x7f 0x1 0x0 0x0 0x0 0x7ffd 0x55a1\n"),
            (Some(0), Some(0x55a1))
        );
        assert_eq!(parse_syscall("-1 0x7ffd 0x55a1\n"), (None, Some(0x55a1)));
        assert_eq!(parse_syscall("running\n"), (None, None));
        assert_eq!(parse_syscall(""), (None, None));
    }

    #[test]
    fn who_sleeps_on_is_verified_and_who_ran_is_not() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("a child");
        let pid = child.id();
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = loop {
            if let Some(found) = asleep(pid, pid).filter(|_| is_sleep(pid)) {
                break found;
            }
            assert!(Instant::now() < deadline, "it never sleeps");
            std::thread::yield_now();
        };
        let mut thread = StuckThread {
            pid,
            tid: pid,
            comm: Name::from("sleep"),
            mode: Mode::User,
            kernel_frames: Vec::new(),
            syscall: None,
            user_ip: None,
            maj_flt: 0,
            switches: found.switches,
        };
        assert!(verify(&thread));
        thread.switches -= 1;
        assert!(!verify(&thread), "it has left the CPU since");
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(!verify(&thread), "it has ended");
    }

    /// Whether it sleeps in `nanosleep`, in which it stays.
    fn is_sleep(pid: u32) -> bool {
        let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        wchan.contains("nanosleep")
    }

    #[test]
    fn whoever_is_not_looked_at_is_counted_once() {
        let own = std::process::id();
        let mut search = Search::default();
        assert!(search.scan(&[own], &|| true).is_empty());
        assert!(search.scan(&[own], &|| true).is_empty());
        assert_eq!(search.left_out(), 1);
        let mut search = Search::default();
        assert!(search.scan(&[own], &|| false).is_empty());
        assert_eq!(search.left_out(), 0);
    }

    #[test]
    fn frames_keep_their_offsets() {
        let first = parse_stack(USER).into_iter().next().expect("a frame");
        assert_eq!(
            first,
            KernelFrame {
                function: "request_wait_answer".to_owned(),
                offset: 0x13b
            }
        );
    }
}
