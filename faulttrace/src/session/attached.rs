//! Threads that were stuck before the programs were attached: entered by hand, so that they are
//! shown at once and their end is seen.

use faulttrace_ebpf::goroutine::Goroutine;
use faulttrace_ebpf::{COMM_LEN, Inflight, NO_SYSCALL, UserRegisters, Waker, flag};

use crate::ingest::{Clock, Enricher};
use crate::model::Mode;
use crate::probe::{Probe, RawStack};
use crate::process::stuck::{self, KernelFrame, StuckThread};
use crate::process::user_stack::{self, Registers, UserStack};

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
    let scan = || {
        let found = if chosen.all {
            stuck::scan_all()
        } else {
            stuck::scan(&chosen.processes())
        };
        let traced = |thread: &StuckThread| chosen.traces(thread.pid, thread.tid);
        found.into_iter().filter(traced).collect::<Vec<_>>()
    };
    let say = |stuck: usize| log::info!("{stuck} threads were stuck in a fault before");
    if scan().is_empty() {
        say(0);
        return Ok(Vec::new());
    }
    // That takes a while, in which some of them will go on: so look again.
    probe.prepare_to_find();
    let candidates = scan();
    let mut entered = Vec::new();
    for thread in &candidates {
        let inserted = probe.insert_inflight(entry_of(thread, Clock::monotonic_ns()))?;
        if !inserted {
            // The programs saw it leave the CPU meanwhile and know more than we do.
            continue;
        }
        if !stuck::verify(thread) {
            // That fault ended while we looked.
            probe.remove_inflight(thread.tid);
            continue;
        }
        entered.push(thread);
    }
    let found = probe.find_stuck();
    for thread in &entered {
        register_kernel_stack(thread, enricher);
    }
    register_user_stacks(&entered, &found, enricher);
    say(entered.len());
    let registers = entered.iter().filter_map(|thread| {
        let of = found.iter().find(|found| found.tid == thread.tid)?;
        Some((thread.pid, *of))
    });
    Ok(registers.collect())
}

fn register_kernel_stack(thread: &StuckThread, enricher: &mut Enricher) {
    let labels = enricher.labels();
    let address =
        |frame: &KernelFrame| Some(labels.kernel_address(&frame.function)? + frame.offset);
    let frames: Vec<u64> = thread.kernel_frames.iter().filter_map(address).collect();
    // /proc cuts a stack at 64 frames (fs/proc/base.c, MAX_STACK_TRACE_DEPTH).
    let truncated = thread.kernel_frames.len() >= 64 || frames.len() < thread.kernel_frames.len();
    let stack = RawStack {
        frames,
        tgid: 0,
        truncated,
        top: 0,
    };
    enricher.register_kernel_stack(stack_id(thread.tid), &stack);
}

fn register_user_stacks(
    threads: &[&StuckThread],
    found: &[UserRegisters],
    enricher: &mut Enricher,
) {
    let registers = |thread: &&StuckThread| {
        let of = found.iter().find(|found| found.tid == thread.tid);
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
        .filter_map(|thread| Some((*thread, registers(thread)?)))
        .collect();
    let registers: Vec<Registers> = known.iter().map(|(_, registers)| *registers).collect();
    for ((thread, registers), mut walked) in known.into_iter().zip(user_stack::walk_all(&registers))
    {
        if !stuck::verify(thread) {
            // It went on while its stack was read, which may be that of something else.
            walked = UserStack::innermost(registers.ip);
        }
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
