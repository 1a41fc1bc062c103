//! Threads that sit in a page fault now, found from outside: the tracer's programs see only what
//! happens after they were attached.

use std::fs;

use super::threads::{self, Stat};
use crate::model::{Mode, Name};

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

/// The threads of these processes that sit in a fault.
pub fn scan(pids: &[u32]) -> Vec<StuckThread> {
    let threads = pids.iter().flat_map(|pid| {
        threads::list(*pid)
            .unwrap_or_default()
            .into_iter()
            .map(|tid| (*pid, tid))
    });
    threads.filter_map(|(pid, tid)| look(pid, tid)).collect()
}

/// The threads of the whole system that sit in a fault; not this process's.
pub fn scan_all() -> Vec<StuckThread> {
    let own = std::process::id();
    let pids: Vec<u32> = threads::processes()
        .into_iter()
        .filter(|pid| *pid != own)
        .collect();
    scan(&pids)
}

/// Whether it has not run since it was found.
pub fn verify(thread: &StuckThread) -> bool {
    look(thread.pid, thread.tid).is_some_and(|now| now.switches == thread.switches)
}

fn look(pid: u32, tid: u32) -> Option<StuckThread> {
    let switches = threads::context_switches(pid, tid).ok()?;
    let stat: Stat = threads::thread_stat(pid, tid).ok()?;
    if !matches!(stat.state, b'D' | b'S') {
        return None;
    }
    let text = threads::read(tid, &format!("/proc/{pid}/task/{tid}/stack")).ok()?;
    let kernel_frames = parse_stack(&text);
    let mode = mode_of(&kernel_frames)?;
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
        switches,
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
