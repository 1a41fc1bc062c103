//! What devices do for the reads that faults begin (`--io`). Three steps, each with a tracepoint: a
//! thread in a fault hands a read to the block layer (`io.rs`), which the block layer puts into a
//! request and gives to the driver, which completes it. The last two happen anywhere, interrupts
//! included, so what they tell goes into the numbers of a fault by atomic additions.
//!
//! As long as no read of a fault is under way, both cost one load and one comparison.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use faulttrace_ebpf::{FaultIo, LAST_SHIFT, LAST_TOO_LONG, counter};

use crate::config::{self, argument, member};
use crate::maps::{self, BIOS, FAULT_IO, REQUESTS, ReadRequest, RequestKey};

/// `REQ_OP_READ` and `REQ_OP_MASK` of include/linux/blk_types.h.
pub const OP_READ: u32 = 0;
pub const OP_MASK: u32 = 0xff;
/// How many reads of a request are looked at; the rest is counted. The kernel merges at most
/// `max_segments` of them (128 by default: `BLK_MAX_SEGMENTS`, include/linux/blkdev.h).
const MAX_CHAIN: u32 = 128;
/// Faults that can share a request, each with its part known; further ones are counted.
const OWNERS: u64 = 2;

/// Tracepoint block:block_rq_issue([queue,] request): the driver gets it, for the first time or again.
#[inline(always)]
pub fn issued(ctx: *mut c_void) {
    if !maps::any_io() {
        return;
    }
    let index = usize::from(config::BLOCK_PASSES_QUEUE.load() != 0);
    let Some(request) = config::argument_as_number(ctx, index) else {
        return;
    };
    let operation: u32 = member(request as *const u8, &config::OFF_REQUEST_FLAGS);
    if operation & OP_MASK != OP_READ {
        return;
    }
    claim(request);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let whole: u32 = member(request as *const u8, &config::OFF_REQUEST_DATA_LEN);
    let mut index = 0;
    while index < OWNERS {
        let Some(part) = maps::read_request(request, index) else {
            return;
        };
        // Given back because the driver had no room, it is issued again: until then it was queued.
        part.issued_ns = now;
        note_issued(part, request, u64::from(whole));
        index += 1;
    }
}

/// Counts a part of a request in its fault, as far as that was not done when it was issued before.
#[inline(always)]
fn note_issued(part: &mut ReadRequest, request: u64, whole: u64) {
    let Some(io) = maps::io_of(part.tid, part.fault) else {
        return;
    };
    let device = device_of(request);
    if part.told_bytes == 0 {
        maps::add(&mut io.requests, 1);
        if io.device == 0 {
            io.device = device;
        } else if io.device != device {
            maps::add(&mut io.elsewhere, 1);
        }
    }
    if part.bytes < whole && part.shared == 0 {
        part.shared = 1;
        maps::add(&mut io.shared, 1);
    }
    maps::add(&mut io.issued_bytes, part.bytes - part.told_bytes);
    part.told_bytes = part.bytes;
}

/// The disk of a request, as the kernel numbers devices (include/linux/kdev_t.h).
#[inline(always)]
fn device_of(request: u64) -> u32 {
    const MINOR_BITS: u32 = 20;
    let holder: u64 = if config::DISK_OF_QUEUE.load() != 0 {
        member(request as *const u8, &config::OFF_REQUEST_QUEUE)
    } else {
        request
    };
    let disk: u64 = member(holder as *const u8, &config::OFF_HOLDER_DISK);
    let number = |offset: &Global<u64>| member::<u32>(disk as *const u8, offset);
    number(&config::OFF_DISK_MAJOR) << MINOR_BITS | number(&config::OFF_DISK_FIRST_MINOR)
}

/// Takes the reads of faults that are in a request, and enters them under it. They are waited for by no
/// other name from here on.
///
/// A function of its own with global linkage, so that the verifier checks its loop once by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim(request: u64) -> u32 {
    let mut bio: u64 = member(request as *const u8, &config::OFF_REQUEST_BIO);
    let mut index = 0;
    while index < MAX_CHAIN {
        if bio == 0 {
            return index;
        }
        claim_one(request, bio);
        bio = member(bio as *const u8, &config::OFF_BIO_NEXT);
        index += 1;
    }
    maps::count(counter::IO_CHAINS_CUT);
    index
}

/// See [`claim`], for one read.
#[inline(always)]
fn claim_one(request: u64, bio: u64) {
    let Some(read) = BIOS.get_ptr(bio) else {
        return;
    };
    // SAFETY: a value of a preallocated map; nobody else looks for the reads of a request that is being
    // issued.
    let (tid, fault, queued_ns) = unsafe { ((*read).tid, (*read).fault, (*read).queued_ns) };
    // What was split off since it was queued is a read of its own.
    let size: u32 = member(bio as *const u8, &config::OFF_BIO_SIZE);
    if BIOS.remove(bio).is_ok() {
        maps::io_changed(-1);
    }
    let new = ReadRequest {
        fault,
        queued_ns,
        issued_ns: 0,
        bytes: u64::from(size),
        told_bytes: 0,
        tid,
        shared: 0,
    };
    let mut index = 0;
    while index < OWNERS {
        if let Some(part) = maps::read_request(request, index) {
            if part.tid == tid && part.fault == fault {
                part.bytes += u64::from(size);
                return;
            }
            if maps::io_of(part.tid, part.fault).is_none() {
                // That fault is over, perhaps with a request before this one at the same address, of
                // which no program saw the end.
                *part = new;
                return;
            }
        } else {
            let key = RequestKey { request, index };
            match REQUESTS.insert(&key, &new, u64::from(BPF_NOEXIST)) {
                Ok(()) => maps::io_changed(1),
                Err(_) => maps::count(counter::IO_FULL),
            }
            return;
        }
        index += 1;
    }
    maps::count(counter::IO_FULL);
}

/// Tracepoint block:block_rq_complete(request, error, bytes): the device has done with so much of it.
/// Before anybody who waits for it is told (block/blk-mq.c, blk_update_request).
#[inline(always)]
pub fn completed(ctx: *mut c_void) {
    if !maps::any_io() {
        return;
    }
    let request = argument(ctx, 0);
    if maps::read_request(request, 0).is_none() {
        return;
    }
    let left: u32 = member(request as *const u8, &config::OFF_REQUEST_DATA_LEN);
    if (argument(ctx, 2) as u32) < left {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut index = 0;
    while index < OWNERS {
        let Some(part) = maps::read_request(request, index) else {
            return;
        };
        note_completed(part, now);
        let key = RequestKey { request, index };
        if REQUESTS.remove(&key).is_ok() {
            maps::io_changed(-1);
        }
        index += 1;
    }
}

/// Adds the times of a request to those of its fault, unless that is over.
#[inline(always)]
fn note_completed(part: &ReadRequest, now: u64) {
    if part.issued_ns == 0 {
        return;
    }
    let Some(io) = maps::io_of(part.tid, part.fault) else {
        return;
    };
    let queued_ns = part.issued_ns.saturating_sub(part.queued_ns);
    let served_ns = now.saturating_sub(part.issued_ns);
    maps::add(&mut io.queued_ns, queued_ns);
    maps::add(&mut io.served_ns, served_ns);
    // In one word, since another CPU may do the same at this moment: either is the last then.
    io.last = packed(queued_ns) << 32 | packed(served_ns);
    maps::add(&mut io.completed, 1);
}

/// A time as one half of `IoEvent::last`.
#[inline(always)]
fn packed(time_ns: u64) -> u64 {
    let units = time_ns >> LAST_SHIFT;
    if units < LAST_TOO_LONG {
        units
    } else {
        LAST_TOO_LONG
    }
}

/// Tracepoint block:block_bio_complete(queue, bio): a read is over that was never in a request: of a
/// device that is made of others, or has no queue.
#[inline(always)]
pub fn without_request(ctx: *mut c_void) {
    if maps::any_io() && BIOS.remove(argument(ctx, 1)).is_ok() {
        maps::io_changed(-1);
    }
}

/// The thread ends.
#[inline(always)]
pub fn forget(tid: u32) {
    if config::IO.load() != 0 {
        let _ = FAULT_IO.remove(tid);
    }
}

/// A fault's numbers before anything was read for it.
pub const NOTHING: FaultIo = FaultIo {
    fault: 0,
    asked_bytes: 0,
    issued_bytes: 0,
    requests: 0,
    shared: 0,
    elsewhere: 0,
    completed: 0,
    queued_ns: 0,
    served_ns: 0,
    held_ns: 0,
    held_bytes: 0,
    last: 0,
    device: 0,
    asked_device: 0,
};
