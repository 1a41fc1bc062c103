//! Threads that were stuck before the programs were attached: entered by hand, so that they are
//! shown at once and their end is seen.

use std::collections::{HashMap, HashSet};

use faulttrace_ebpf::goroutine::Goroutine;
use faulttrace_ebpf::{COMM_LEN, Inflight, NO_SYSCALL, UserRegisters, Waker, flag};

use crate::ingest::{Clock, Enricher};
use crate::model::Mode;
use crate::probe::{Probe, RawStack};
use crate::process::stuck::{self, KernelFrame, Search, StuckThread};
use crate::process::user_stack::{self, Registers, UserStack};

use super::signals;
use super::targets::Chosen;

/// Ids of stacks that no program recorded. The programs' ids are hashes, so these are as unlikely
/// to meet one of them as two of those are to meet.
const OWN_STACK_IDS: u64 = 0xfa17_0000_0000_0000;

/// Finds and enters them. Returns their registers as far as they could be read, each with its process.
pub(super) fn enter_stuck(
    probe: &mut Probe,
    enricher: &mut Enricher,
    chosen: &Chosen,
) -> Result<Vec<(u32, UserRegisters)>, crate::probe::Error> {
    if let Err(error) = stuck::can_look() {
        log::warn!(
            "threads that were stuck before the start are not shown, because /proc/PID/stack cannot be read ({error}): that takes CAP_SYS_ADMIN; run it as root: sudo faulttrace …"
        );
    }
    let pids = if chosen.all {
        stuck::others()
    } else {
        chosen.processes()
    };
    let mut search = Search::default();
    let mut scan = || {
        let mut found = search.scan(&pids, &signals::end_is_asked_for);
        found.retain(|thread| chosen.traces(thread.pid, thread.tid));
        found
    };
    let mut entered = Vec::new();
    let mut found = HashMap::new();
    if !scan().is_empty() {
        // That takes a while, in which some of them will go on: so look again.
        probe.prepare_to_find();
        entered = scan();
        enter(probe, &mut entered)?;
        found = probe
            .find_stuck()
            .into_iter()
            .map(|of| (of.tid, of))
            .collect();
    }
    let left_out = search.left_out();
    if left_out > 0 {
        log::warn!("{left_out} processes were not looked at for threads that were stuck before");
        let labels = enricher.labels();
        labels.count("stuck_before_not_looked_for", left_out);
    }
    register_kernel_stacks(&entered, enricher);
    register_user_stacks(&entered, &found, enricher);
    log::info!("{} threads were stuck in a fault before", entered.len());
    let registers = |thread: &StuckThread| Some((thread.pid, *found.get(&thread.tid)?));
    Ok(entered.iter().filter_map(registers).collect())
}

/// Enters them and keeps those of which the programs do not know more.
fn enter(probe: &mut Probe, threads: &mut Vec<StuckThread>) -> Result<(), crate::probe::Error> {
    let mut refused = None;
    threads.retain(|thread| {
        match probe.insert_inflight(entry_of(thread, Clock::monotonic_ns())) {
            Ok(true) => {}
            // The programs saw it leave the CPU meanwhile and know more than we do; or there is no room.
            Ok(false) => return false,
            Err(error) => {
                refused = Some(error);
                return false;
            }
        }
        let still = stuck::verify(thread);
        if !still {
            // That fault ended while we looked.
            probe.remove_inflight(thread.tid);
        }
        still
    });
    refused.map_or(Ok(()), Err)
}

fn register_kernel_stacks(threads: &[StuckThread], enricher: &mut Enricher) {
    let frames = threads.iter().flat_map(|thread| &thread.kernel_frames);
    let functions: HashSet<&str> = frames.map(|frame| frame.function.as_str()).collect();
    if functions.is_empty() {
        return;
    }
    let addresses = enricher.labels().kernel_addresses(&functions);
    for thread in threads {
        let address =
            |frame: &KernelFrame| Some(addresses.get(frame.function.as_str())? + frame.offset);
        let frames: Vec<u64> = thread.kernel_frames.iter().filter_map(address).collect();
        // /proc cuts a stack at 64 frames (fs/proc/base.c, MAX_STACK_TRACE_DEPTH).
        let truncated =
            thread.kernel_frames.len() >= 64 || frames.len() < thread.kernel_frames.len();
        let stack = RawStack {
            frames,
            tgid: 0,
            truncated,
            top: 0,
        };
        enricher.register_kernel_stack(stack_id(thread.tid), &stack);
    }
}

fn register_user_stacks(
    threads: &[StuckThread],
    found: &HashMap<u32, UserRegisters>,
    enricher: &mut Enricher,
) {
    let registers = |thread: &StuckThread| {
        let of = found.get(&thread.tid);
        // Without frame pointer, only the innermost frame.
        Some(Registers {
            pid: thread.pid,
            tid: thread.tid,
            ip: of.map(|of| of.ip).or(thread.user_ip)?,
            sp: of.map_or(0, |of| of.sp),
            bp: of.map_or(0, |of| of.bp),
            returns_to: of.map_or(0, |of| of.returns_to),
        })
    };
    let known: Vec<(&StuckThread, Registers)> = threads
        .iter()
        .filter_map(|thread| Some((thread, registers(thread)?)))
        .collect();
    let registers: Vec<Registers> = known.iter().map(|(_, registers)| *registers).collect();
    let walked = user_stack::walk_all(&registers, &signals::end_is_asked_for);
    let late = walked.iter().filter(|walked| walked.is_none()).count();
    if late > 0 {
        let labels = enricher.labels();
        labels.count("stuck_before_stacks_late", late as u64);
    }
    for ((thread, registers), walked) in known.into_iter().zip(walked) {
        // If it went on while its stack was read, that may be the one of something else.
        let walked = walked.filter(|_| stuck::verify(thread));
        let walked = walked.unwrap_or_else(|| UserStack::innermost(registers.ip));
        let stack = RawStack {
            frames: walked.frames,
            tgid: thread.pid,
            truncated: walked.truncated,
            top: walked.top,
        };
        enricher.register_user_stack(thread.pid, stack_id(thread.tid), stack);
    }
}

fn stack_id(tid: u32) -> u64 {
    OWN_STACK_IDS | u64::from(tid)
}

fn entry_of(thread: &StuckThread, now_ns: u64) -> Inflight {
    let mode = match thread.mode {
        Mode::User => 0,
        Mode::Kernel => flag::KERNEL_MODE,
        Mode::Gup => flag::GUP,
    };
    let mut comm = [0; COMM_LEN];
    for (to, from) in comm
        .iter_mut()
        .zip(thread.comm.as_bytes().iter().take(COMM_LEN - 1))
    {
        *to = *from;
    }
    Inflight {
        start_ns: now_ns,
        address: 0,
        out_ns: now_ns,
        wake_ns: 0,
        in_ns: 0,
        blocked_ns: 0,
        runqueue_ns: 0,
        longest_sleep_ns: 0,
        longest_out_ns: 0,
        longest_runqueue_ns: 0,
        kernel_stack: stack_id(thread.tid),
        last_kernel_stack: stack_id(thread.tid),
        user_stack: stack_id(thread.tid),
        // It comes with the stack.
        stack_top: 0,
        inode: 0,
        page_offset: 0,
        device: 0,
        tgid: thread.pid,
        tid: thread.tid,
        error: 0,
        flags: mode | flag::NO_START,
        switches: 1,
        sleeps: 1,
        // As in the kernel's entries: enough to see a change.
        maj_flt: u32::try_from(thread.maj_flt & u64::from(u32::MAX)).unwrap_or(0),
        syscall: thread.syscall.unwrap_or(NO_SYSCALL),
        asleep: 1,
        completed: 0,
        read_bytes: 0,
        waker: Waker::UNKNOWN,
        longest_waker: Waker::UNKNOWN,
        comm,
        goroutine: Goroutine::NONE,
    }
}
