//! A fault is over: account for it and send it, unless the filters say no.

use faulttrace_ebpf::{FaultEvent, Inflight, counter, flag, kind, tells_held};

use crate::config;
use crate::maps::{self, EVENTS, INFLIGHT};
use crate::pages;
use crate::{go, held, io};

/// Ends the fault of an entry at `end_ns` and removes the entry. `more` are flags to add.
#[inline(always)]
pub fn finish(tid: u32, entry: &mut Inflight, end_ns: u64, more: u32) {
    entry.flags |= more | flag::ENDING;
    let later = u32::from(more & flag::LATER_MAJOR != 0);
    let completed = config::completed_faults()
        .wrapping_sub(entry.completed)
        .wrapping_sub(later);
    if entry.flags & flag::NO_START == 0 && completed == 0 {
        entry.flags |= flag::GIVEN_UP;
        if config::READ_AHEAD_TOLD.load() == 0 {
            entry.flags |= flag::READ_AHEAD_UNTOLD;
        }
    }
    if entry.in_ns == 0 {
        back_unseen(entry, end_ns);
    }
    if entry.flags & flag::MAJOR == 0 && is_major_by_count(entry, completed, later) {
        entry.flags |= flag::MAJOR | flag::MAJOR_BY_COUNT;
        maps::count(counter::MAJORS_BY_COUNT);
    }
    if entry.flags & flag::MAJOR == 0 && entry.sleeps == 0 {
        maps::count(counter::PREEMPTED_ONLY);
    } else {
        send(entry, end_ns);
    }
    held::forget(entry);
    if INFLIGHT.remove(tid).is_ok() {
        maps::inflight_changed(-1);
    }
}

/// Whether the thread's own count says that this fault was major, of which no event told: there is none of faults
/// without registers, and others are dropped if they fall into a map's change that was preempted
/// (`bpf_prog_active`). `completed`: how many faults the thread has completed since, of which `later` came later.
#[inline(always)]
fn is_major_by_count(entry: &Inflight, completed: u32, later: u32) -> bool {
    let majors = config::majors()
        .wrapping_sub(entry.maj_flt)
        .wrapping_sub(later);
    // Of several faults it would not be known which.
    let is_its = completed == 1 || entry.flags & (flag::GUP | flag::NO_START) != 0;
    majors != 0 && is_its
}

/// The thread of an entry got its CPU back at some time until `now`, and no tracepoint told. All of that time
/// counts as off the CPU.
#[inline(always)]
pub fn back_unseen(entry: &mut Inflight, now: u64) {
    maps::count(counter::SWITCHES_UNSEEN);
    // A thread that was only preempted is runnable from the moment it left.
    let woken = if entry.wake_ns < entry.out_ns || entry.wake_ns > now {
        now
    } else {
        entry.wake_ns
    };
    let unseen_ns = woken.saturating_sub(entry.out_ns);
    entry.blocked_ns += unseen_ns;
    entry.runqueue_ns += now.saturating_sub(woken);
    if unseen_ns >= entry.longest_sleep_ns {
        // Where the longest sleep ended is not known.
        entry.longest_out_ns = 0;
    }
}

/// Whether the filters let a fault pass that took `duration_ns`; counts those they do not.
#[inline(always)]
pub fn passes(duration_ns: u64, flags: u32) -> bool {
    let major = flags & flag::MAJOR != 0;
    let least_ns = if major {
        config::MIN_DURATION_NS.load()
    } else {
        config::MIN_MINOR_NS.load()
    };
    if duration_ns >= least_ns {
        return true;
    }
    maps::count(counter::FAULTS_FILTERED);
    if major {
        maps::count(counter::MAJORS_FILTERED);
    }
    false
}

/// Sends a fault as the entry describes it.
#[inline(always)]
fn send(entry: &Inflight, end_ns: u64) {
    if !passes(end_ns.saturating_sub(entry.start_ns), entry.flags) {
        return;
    }
    pages::tell(
        entry.flags,
        (entry.inode, entry.device),
        entry.page_offset,
        entry.tid,
        entry.start_ns,
    );
    if config::IO.load() != 0 {
        let held_told = config::HELD_BACK_TOLD.load() != 0 && tells_held(entry.flags);
        io::send(entry.tid, io::name_of(entry), entry.start_ns, held_told);
    }
    go::tell(entry);
    emit(entry.flags, |event| {
        // Member by member: put together first, it would take room on the stack of the programs.
        // SAFETY: room for an event in the ring; every member is written.
        unsafe {
            (*event).kind = kind::FAULT;
            (*event).flags = entry.flags;
            (*event).tgid = entry.tgid;
            (*event).tid = entry.tid;
            (*event).start_ns = entry.start_ns;
            (*event).end_ns = end_ns;
            (*event).address = entry.address;
            (*event).blocked_ns = entry.blocked_ns;
            (*event).runqueue_ns = entry.runqueue_ns;
            (*event).user_stack = entry.user_stack;
            (*event).stack_top = entry.stack_top;
            (*event).kernel_stack = if entry.kernel_stack == 0 {
                // Its only sleep was not seen to end.
                entry.last_kernel_stack
            } else {
                entry.kernel_stack
            };
            (*event).inode = entry.inode;
            (*event).page_offset = entry.page_offset;
            (*event).longest_sleep_ns = entry.longest_sleep_ns;
            (*event).longest_out_ns = entry.longest_out_ns;
            (*event).longest_runqueue_ns = entry.longest_runqueue_ns;
            (*event).device = entry.device;
            (*event).error = entry.error;
            (*event).switches = entry.switches;
            (*event).sleeps = entry.sleeps;
            (*event).syscall = entry.syscall;
            (*event).padding = 0;
            (*event).longest_waker = entry.longest_waker;
            (*event).comm = entry.comm;
        }
    });
}

/// Offers a fault with these flags to the ring. Made in its place there by `write`: the programs' stack has
/// no room for it.
#[inline(always)]
pub fn emit(flags: u32, write: impl FnOnce(*mut FaultEvent)) {
    maps::count(counter::FAULTS_EMITTED);
    // Before the record is reserved, from when on it counts.
    let wake = wake_flags();
    if let Some(mut record) = EVENTS.reserve::<FaultEvent>(0) {
        write(record.as_mut_ptr());
        record.submit(wake);
        return;
    }
    maps::count(counter::FAULTS_LOST);
    if flags & flag::MAJOR != 0 {
        maps::count(counter::MAJORS_LOST);
    }
}

/// The reader looks by itself every few milliseconds, which is cheaper than waking it for every
/// event; it is woken at once when the ring fills.
#[inline(always)]
pub fn wake_flags() -> u64 {
    const BPF_RB_NO_WAKEUP: u64 = 1;
    const BPF_RB_FORCE_WAKEUP: u64 = 2;
    const BPF_RB_AVAIL_DATA: u64 = 0;
    if EVENTS.query(BPF_RB_AVAIL_DATA) > config::WAKE_BYTES.load() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}
