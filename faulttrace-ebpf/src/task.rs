//! Threads and processes begin, change their program or name, and end.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use aya_log_ebpf::{debug, info, warn};
use faulttrace_ebpf::{COMM_LEN, TaskEvent, counter, filter, flag, kind};

use crate::config::{self, FILTER, argument, current, member, traced};
use crate::maps::{self, EVENTS, TGIDS, TIDS};
use crate::{device, end, go};

/// Processes whose last thread was seen to end, and when. Each thread is counted off before it comes to
/// the tracepoint (kernel/exit.c, do_exit), so that others may come there later than the last one.
#[map]
static DEAD: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);

/// Tracepoint sched:sched_process_fork(parent, child); current is the parent.
#[inline(always)]
pub fn fork(ctx: *mut c_void) {
    if FILTER.load() != filter::SET {
        return;
    }
    let child = argument(ctx, 1) as *const u8;
    let tid = config::tid_of(child);
    let tgid = config::tgid_of(child);
    if tid != tgid {
        return;
    }
    let comm = comm_of(child);
    let (parent, thread) = current();
    let follow = config::FOLLOW.load() != 0 && traced(parent, thread);
    if follow || matches(&comm) {
        add(tgid, comm, flag::BORN);
    }
}

/// Tracepoint sched:sched_process_exec(task, old_pid, binprm); the task is current.
#[inline(always)]
pub fn exec(ctx: *mut c_void) {
    let (tgid, tid) = current();
    let comm = comm_of(argument(ctx, 0) as *const u8);
    go::forget(tgid);
    if traced(tgid, tid) {
        send(kind::EXEC, 0, tgid, tid, 0, comm);
    } else if FILTER.load() == filter::SET && matches(&comm) {
        add(tgid, comm, 0);
    }
}

/// Tracepoint task:task_rename(task, new name).
#[inline(always)]
pub fn rename(ctx: *mut c_void) {
    if FILTER.load() != filter::SET || config::MATCH_COMM.load() == 0 {
        return;
    }
    let task = argument(ctx, 0) as *const u8;
    let tid = config::tid_of(task);
    let tgid = config::tgid_of(task);
    // A process is known by the name of its first thread.
    if tid != tgid || TGIDS.get_ptr(tgid).is_some() {
        return;
    }
    // SAFETY: bpf_probe_read_kernel accepts any address. The name is an array of this length or a
    // string that lies in one (kernel/sys.c, fs/exec.c).
    let comm = unsafe { bpf_probe_read_kernel(argument(ctx, 1) as *const [u8; COMM_LEN]) };
    if let Ok(comm) = comm
        && matches(&comm)
    {
        add(tgid, comm, 0);
    }
}

/// Tracepoint sched:sched_process_exit(task); the task is current.
#[inline(always)]
pub fn exit(ctx: *mut c_void) {
    let (tgid, tid) = current();
    let task = argument(ctx, 0) as *const u8;
    if !exits_traced(tgid, tid, task) {
        return;
    }
    if let Some(slot) = maps::slot()
        && slot.tid == tid
    {
        slot.tid = 0;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if maps::any_inflight()
        && let Some(entry) = maps::inflight(tid)
    {
        end::finish(tid, entry, now, flag::DIED);
    }
    device::forget(tid);
    let signal: u64 = member(task, &config::OFF_TASK_SIGNAL);
    // do_exit has already taken this thread off the count (kernel/exit.c).
    let live: i32 = member(signal as *const u8, &config::OFF_SIGNAL_LIVE);
    let last = live <= 0;
    let flags = if last { flag::GROUP_DEAD } else { 0 };
    let maj_flt: u64 = member(task, &config::OFF_TASK_MAJ_FLT);
    debug!(
        tid,
        "thread {} of process {} ends with {} majors", tid, tgid, maj_flt
    );
    send(kind::EXIT, flags, tgid, tid, maj_flt, comm_of(task));
    if last {
        go::forget(tgid);
    }
    if last && FILTER.load() != filter::ALL {
        let _ = DEAD.insert(tgid, now, 0);
    }
    if FILTER.load() == filter::SET {
        // The ids may be given to somebody else.
        let _ = TIDS.remove(tid);
        if last {
            let _ = TGIDS.remove(tgid);
        }
    }
}

/// Whether the end of a thread is one of a traced process or thread: of one that has ended but for
/// this thread too, but not of a later one with the same id.
#[inline(always)]
fn exits_traced(tgid: u32, tid: u32, task: *const u8) -> bool {
    if FILTER.load() == filter::ALL {
        return traced(tgid, tid);
    }
    match DEAD.get_ptr(tgid) {
        // SAFETY: a pointer into the map, valid while the program runs; a value that is being
        // replaced is of this very process id.
        Some(died) => member::<u64>(task, &config::OFF_TASK_START_TIME) <= unsafe { *died },
        None => traced(tgid, tid),
    }
}

#[inline(always)]
fn comm_of(task: *const u8) -> [u8; COMM_LEN] {
    member(task, &config::OFF_TASK_COMM)
}

#[inline(always)]
fn add(tgid: u32, comm: [u8; COMM_LEN], flags: u32) {
    // One with the same id may have ended before.
    let _ = DEAD.remove(tgid);
    if TGIDS.insert(tgid, 1, 0).is_ok() {
        info!(tgid, "process {} joins those traced", tgid);
        send(kind::ADDED, flags, tgid, tgid, 0, comm);
    } else {
        maps::count(counter::FILTER_FULL);
        warn!(tgid, "no room for process {} among those traced", tgid);
    }
}

/// Whether a name matches the pattern: a set of states, one bit each, stepped once per byte.
/// `faulttrace::cli` builds the tables and runs the same loop.
#[inline(always)]
fn matches(comm: &[u8; COMM_LEN]) -> bool {
    if config::MATCH_COMM.load() == 0 {
        return false;
    }
    let star = config::COMM_STAR.load();
    let mut states: u32 = 1;
    let mut index = 0;
    while index < COMM_LEN {
        let byte = comm[index];
        if byte == 0 {
            break;
        }
        states = ((states & config::comm_mask(byte)) << 1) | (states & star);
        index += 1;
    }
    states & config::COMM_ACCEPT.load() != 0
}

#[inline(always)]
fn send(kind: u32, flags: u32, tgid: u32, tid: u32, maj_flt: u64, comm: [u8; COMM_LEN]) {
    maps::count(counter::TASKS_EMITTED);
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let event = TaskEvent {
        kind,
        flags,
        tgid,
        tid,
        time_ns,
        maj_flt,
        comm,
    };
    if EVENTS
        .output::<TaskEvent>(&event, end::wake_flags())
        .is_err()
    {
        maps::count(counter::TASKS_LOST);
    }
}
