//! What a thread of a Go program is at: its goroutine, and the P that it holds. Read from the
//! program's memory, in the thread's own context, when it first sleeps in a fault; what is not in
//! memory then is not known.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use faulttrace_ebpf::goroutine::{
    GoLayout, Goroutine, GoroutineEvent, MAX_LOCAL, NOT_READ, SCAN, SYSCALL, flag,
};
use faulttrace_ebpf::{Inflight, counter, kind};

use crate::config::{self, current, current_task, member};
use crate::labels::{self, room};
use crate::maps::{self, EVENTS};
use crate::{end, registers};

/// Go programs among the traced processes.
#[map]
static GO: HashMap<u32, GoLayout> = HashMap::with_max_entries(1024, 0);
/// How many entries `GO` has, as userspace says.
#[map]
static GO_COUNT: Array<u64> = Array::with_max_entries(1, 0);
/// For what is found of a thread that has no entry in `INFLIGHT`.
#[map]
static FOUND: PerCpuArray<Goroutine> = PerCpuArray::with_max_entries(1, 0);

/// Whether there is any Go program.
#[inline(always)]
fn any() -> bool {
    // SAFETY: reads one aligned word.
    GO_COUNT
        .get_ptr(0)
        .is_some_and(|count| unsafe { core::ptr::read_volatile(count) } != 0)
}

/// The process has ended, or replaced its program: what is known of it is true no more. Userspace, which
/// learns of it later, keeps the count.
#[inline(always)]
pub fn forget(tgid: u32) {
    if any() {
        let _ = GO.remove(tgid);
    }
}

/// The current thread, which has this entry, sleeps in its fault: notes what it is at, once.
#[inline(always)]
pub fn note(entry: &Inflight) {
    look_once(entry, room::NOTED);
}

#[inline(always)]
fn look_once(entry: &Inflight, of: u32) {
    if any() && entry.goroutine.flags == 0 {
        look(entry.tid, entry.tgid, 1, of);
    }
}

/// Tells what the thread of a fault that ends was at.
#[inline(always)]
pub fn tell(entry: &Inflight) {
    if any() {
        // The program may not have been known to be one of Go when it fell asleep.
        look_once(entry, room::TOLD);
        send_goroutine(entry.tid, entry.tgid, entry.start_ns, 1);
    }
}

/// The same of a fault that never left the CPU.
#[inline(always)]
pub fn tell_without_sleep(tid: u32, start_ns: u64) {
    if any() {
        let (tgid, _) = current();
        look(tid, tgid, 0, room::NOTED);
        send_goroutine(tid, tgid, start_ns, 0);
    }
}

#[inline(always)]
fn look(tid: u32, tgid: u32, slept: u32, of: u32) {
    if look_at_goroutine(tid, tgid, slept) != 0 {
        labels::look_at_labels(tid, tgid, slept, of);
    }
}

/// Where what is found of the current thread is kept.
#[inline(always)]
pub fn place(tid: u32, slept: u32) -> Option<&'static mut Goroutine> {
    if slept == 0 {
        // SAFETY: the value lives as long as the map and belongs to this CPU; used by the program at
        // the completion of a major fault alone, which nothing of its kind interrupts.
        return FOUND.get_ptr_mut(0).map(|found| unsafe { &mut *found });
    }
    // The program at the return of `handle_mm_fault` has taken the entry out.
    maps::inflight(tid)
        .or_else(maps::taken)
        .map(|entry| &mut entry.goroutine)
}

/// Reads what the current thread is at, if its process is one of Go. Returns 1 if it has labels.
///
/// A function of its own, as is the next, for the room that it takes on the stack of the programs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_goroutine(tid: u32, tgid: u32, slept: u32) -> u32 {
    let (Some(place), Some(layout)) = (place(tid, slept), layout(tgid)) else {
        return 0;
    };
    clear(place);
    if find(place, layout).is_none() {
        // Half of it would be taken for the whole: no P that was read is not the same as no P.
        clear(place);
        maps::count(counter::GOROUTINES_UNREADABLE);
    }
    u32::from(place.flags & flag::HAS_LABELS != 0)
}

#[inline(always)]
fn clear(place: &mut Goroutine) {
    *place = Goroutine::NONE;
    place.flags = flag::TRIED;
}

#[inline(always)]
pub fn layout(tgid: u32) -> Option<&'static GoLayout> {
    // SAFETY: preallocated map values stay mapped. One whose process has ended may be given to another
    // in this moment; what is read by it is checked.
    GO.get_ptr(tgid).map(|layout| unsafe { &*layout })
}

#[inline(always)]
fn find(place: &mut Goroutine, layout: &GoLayout) -> Option<()> {
    let m = present_m(layout)?;
    place.flags |= flag::FOUND;
    let running = long(m, layout.m_curg)?;
    let mut in_syscall = false;
    if running != 0 {
        place.id = long(running, layout.g_id)?;
        place.start_pc = long(running, layout.g_start_pc)?;
        place.go_pc = long(running, layout.g_go_pc)?;
        place.flags |= flag::HAS_ID;
        in_syscall = word(running, layout.g_status)? & !SCAN == SYSCALL;
        // Where they are; they are read elsewhere.
        place.labels = long(running, layout.g_labels)?;
        if place.labels != 0 {
            place.flags |= flag::HAS_LABELS;
        }
    }
    if layout.gomaxprocs != 0
        && let Some(procs) = word(layout.gomaxprocs, 0)
    {
        place.procs = procs;
        place.flags |= flag::HAS_PROCS;
    }
    if let Some(global) = global(layout) {
        place.global = global;
        place.flags |= flag::HAS_GLOBAL;
    }
    let p = long(m, layout.m_p)?;
    if in_syscall {
        place.flags |= flag::IN_SYSCALL;
    } else if p != 0 {
        place.p = word(p, layout.p_id)?;
        place.flags |= flag::HOLDS_P;
        if let Some(local) = local(layout, p) {
            place.local = local;
            place.flags |= flag::HAS_LOCAL;
        }
    }
    Some(())
}

/// The `m` of the current thread. By the thread's `g` in its TLS, which is always right, or else in the
/// register that Go code keeps it in, which assembly may use for other things; either way, the two must
/// know each other.
#[inline(always)]
fn present_m(layout: &GoLayout) -> Option<u64> {
    let task = current_task();
    if layout.has_tls != 0 && config::OFF_TASK_THREAD_POINTER.load() != 0 {
        let pointer: u64 = member(task, &config::OFF_TASK_THREAD_POINTER);
        if let Some(g) = long(pointer.wrapping_add(layout.tls_g as u64), 0)
            && let Some(m) = m_of(layout, g)
        {
            return Some(m);
        }
    }
    if config::OFF_REGS_G.load() == 0 {
        return None;
    }
    let registers = registers::user_registers(task)?;
    let ip: u64 = member(registers, &config::OFF_REGS_IP);
    if ip < layout.text_begin || ip >= layout.text_end {
        return None;
    }
    m_of(layout, member(registers, &config::OFF_REGS_G))
}

#[inline(always)]
fn m_of(layout: &GoLayout, g: u64) -> Option<u64> {
    let m = long(g, layout.g_m)?;
    let knows = long(m, layout.m_curg)? == g || long(m, layout.m_g0)? == g;
    knows.then_some(m)
}

/// Goroutines in the queue of a P, the one that is next included.
#[inline(always)]
fn local(layout: &GoLayout, p: u64) -> Option<u32> {
    let queued = word(p, layout.p_runq_tail)?.wrapping_sub(word(p, layout.p_runq_head)?);
    let next = long(p, layout.p_run_next)? != 0;
    (queued <= MAX_LOCAL).then_some(queued + next as u32)
}

/// Goroutines in the queue that all Ps share.
#[inline(always)]
fn global(layout: &GoLayout) -> Option<u32> {
    if layout.runqsize == 0 {
        return None;
    }
    word(layout.runqsize, 0).filter(|count| (*count as i32) >= 0)
}

/// Tells what [`look_at_goroutine`] found.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_goroutine(tid: u32, tgid: u32, start_ns: u64, slept: u32) -> u32 {
    let (Some(place), Some(layout)) = (place(tid, slept), layout(tgid)) else {
        return 0;
    };
    if place.flags & flag::FOUND == 0 {
        return 0;
    }
    let wake = end::wake_flags();
    let Some(mut record) = EVENTS.reserve::<GoroutineEvent>(0) else {
        maps::count(counter::GOROUTINES_LOST);
        return 0;
    };
    record.write(GoroutineEvent {
        kind: kind::GOROUTINE,
        tid,
        start_ns,
        goroutine: *place,
        global_at_end: global(layout).unwrap_or(NOT_READ),
        padding: 0,
    });
    record.submit(wake);
    1
}

/// The number of 64 bits that is there in the memory of the current process.
#[inline(always)]
pub fn long(base: u64, offset: u32) -> Option<u64> {
    let mut found = 0_u64;
    read((&raw mut found).cast(), 8, base, offset).then_some(found)
}

/// The number of 32 bits.
#[inline(always)]
fn word(base: u64, offset: u32) -> Option<u32> {
    let mut found = 0_u32;
    read((&raw mut found).cast(), 4, base, offset).then_some(found)
}

#[inline(always)]
pub fn read(into: *mut c_void, bytes: u32, base: u64, offset: u32) -> bool {
    let from = base.wrapping_add(u64::from(offset));
    // SAFETY: `into` has room for so many bytes; the helper accepts any address and fails on a bad one,
    // or one that is not in memory.
    unsafe { bpf_probe_read_user(into, bytes, from as *const c_void) == 0 }
}
