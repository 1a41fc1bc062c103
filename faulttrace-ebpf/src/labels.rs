//! Labels that a Go program has given a goroutine for its profiler, read as `go` reads.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use faulttrace_ebpf::counter;
use faulttrace_ebpf::goroutine::{
    GoLayout, KEY_LEN, Label, Labels, MAX_LABELS, VALUE_LEN, labels_form,
};

use crate::go::{layout, long, place, read};
use crate::maps;

/// Pairs in a bucket of a map (internal/abi/map_noswiss.go, `MapBucketCount`).
const BUCKET: u32 = 8;
/// `hmap.B` and `hmap.buckets` (runtime/map.go).
const MAP_LOG2: u32 = 9;
const MAP_BUCKETS: u32 = 16;
/// The bytes that say which places of a bucket are used; smaller ones mean that it is not (`minTopHash`).
const MIN_TOP_HASH: u8 = 5;
/// A string: where it is, and its length.
const STRING: u32 = 16;

/// Labels by a hash of them, so that equal ones are kept once. Programs label by request too, so new ones
/// take the place of old ones, which userspace has long read.
#[map]
static LABELS: LruHashMap<u64, Labels> = LruHashMap::with_max_entries(4096, 0);
/// Room to read labels in, not for the program at the return of `handle_mm_fault`, which others interrupt.
#[map]
static ROOM: PerCpuArray<Labels> = PerCpuArray::with_max_entries(room::COUNT, 0);

/// When labels are read, each with room of its own on each CPU.
pub mod room {
    /// The thread falls asleep, or completes a major fault without: nothing preempts that.
    pub const NOTED: u32 = 0;
    /// A fault ends of which they have not been read: that may be preempted.
    pub const TOLD: u32 = 1;
    pub const COUNT: u32 = 2;
}

/// Reads the labels of the goroutine of the current thread, whose address `go` has left.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look_at_labels(tid: u32, tgid: u32, slept: u32, of: u32) -> u32 {
    let (Some(place), Some(layout)) = (place(tid, slept), layout(tgid)) else {
        return 0;
    };
    let at = place.labels;
    place.labels = 0;
    if slept != 0 && maps::inflight(tid).is_none() {
        // That program has taken it: the thread fell asleep before it was known to be one of Go.
        maps::count(counter::GO_LABELS_UNREADABLE);
        return 0;
    }
    // SAFETY: the value lives as long as the map and belongs to this CPU, see `ROOM`.
    let Some(room) = ROOM.get_ptr_mut(of).map(|room| unsafe { &mut *room }) else {
        return 0;
    };
    clear(room);
    if at == 0 || fill(room, of, layout, at).is_none() {
        maps::count(counter::GO_LABELS_UNREADABLE);
        return 0;
    }
    let id = hash(room);
    match LABELS.insert(id, &*room, u64::from(BPF_NOEXIST)) {
        Ok(()) | Err(maps::EXISTS) => place.labels = id,
        Err(_) => maps::count(counter::GO_LABELS_UNREADABLE),
    }
    1
}

#[inline(always)]
fn fill(room: &mut Labels, of: u32, layout: &GoLayout, at: u64) -> Option<()> {
    if layout.labels_form == labels_form::LIST {
        let (list, count) = (long(at, 0)?, long(at, 8)?);
        return each(room, of, count, |index| {
            Some((list + u64::from(index * 2 * STRING), STRING))
        });
    }
    if layout.labels_form != labels_form::MAP {
        return None;
    }
    let map = long(at, 0)?;
    let (count, bucket) = (long(map, 0)?, long(map, MAP_BUCKETS)?);
    // More than one bucket: more labels than are kept.
    if byte(map, MAP_LOG2)? != 0 {
        return None;
    }
    each(room, of, count, |index| {
        let is_used = byte(bucket, index)? >= MIN_TOP_HASH;
        is_used.then_some((bucket + u64::from(BUCKET + index * STRING), BUCKET * STRING))
    })
}

/// Reads labels from those of 8 places that have one: `place` tells where its key is, and how far
/// behind it its value.
#[inline(always)]
fn each(
    room: &mut Labels,
    of: u32,
    count: u64,
    place: impl Fn(u32) -> Option<(u64, u32)>,
) -> Option<()> {
    room.count = count as u32;
    let mut index = 0;
    let mut kept = 0_u32;
    while index < BUCKET {
        if u64::from(kept) >= count || kept as usize >= MAX_LABELS {
            break;
        }
        if let Some((key, to_value)) = place(index) {
            if read_label(kept, key, to_value, of) == 0 {
                return None;
            }
            kept += 1;
        }
        index += 1;
    }
    (kept > 0).then_some(())
}

/// Reads the label whose key is told at `key`, as this one of [`ROOM`]. 0 = it cannot be read.
///
/// A function of its own with global linkage, for the verifier to follow it once (kernel commit 51c39bb1d5d1,
/// 5.6) and not in each of 8 places: that took most of what it does for most programs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_label(kept: u32, key: u64, to_value: u32, of: u32) -> u32 {
    // SAFETY: as in `look_at_labels`.
    let Some(room) = ROOM.get_ptr_mut(of).map(|room| unsafe { &mut *room }) else {
        return 0;
    };
    let label = &mut room.labels[kept as usize & (MAX_LABELS - 1)];
    u32::from(string(label, key, to_value).is_some())
}

#[inline(always)]
fn string(label: &mut Label, key: u64, to_value: u32) -> Option<()> {
    let (at, length) = (long(key, 0)?, long(key, 8)?);
    label.key_len = length as u32;
    bytes(label.key.as_mut_ptr().cast(), at, length, KEY_LEN)?;
    let (at, length) = (long(key, to_value)?, long(key, to_value + 8)?);
    label.value_len = length as u32;
    bytes(label.value.as_mut_ptr().cast(), at, length, VALUE_LEN)
}

/// The first bytes of a string: all but one of so much `room`, which is a power of two.
#[inline(always)]
fn bytes(into: *mut c_void, at: u64, length: u64, room: usize) -> Option<()> {
    let most = room as u64 - 1;
    let kept = if length > most { most } else { length };
    let kept = kept as u32 & (room as u32 - 1);
    read(into, kept, at, 0).then_some(())
}

#[inline(always)]
fn byte(base: u64, offset: u32) -> Option<u8> {
    let mut found = 0_u8;
    read((&raw mut found).cast(), 1, base, offset).then_some(found)
}

const WORDS: usize = size_of::<Labels>() / 8;

/// Writes zeros.
#[inline(always)]
fn clear(room: &mut Labels) {
    let words = (&raw mut *room).cast::<u64>();
    let mut index = 0;
    while index < WORDS {
        // SAFETY: within the structure, which has no parts that are not whole words; volatile, so that it
        // stays a loop.
        unsafe { core::ptr::write_volatile(words.add(index), 0) };
        index += 1;
    }
}

/// A hash of labels, never 0.
#[inline(always)]
fn hash(room: &Labels) -> u64 {
    let words = (&raw const *room).cast::<u64>();
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    let mut index = 0;
    while index < WORDS {
        // SAFETY: as above.
        let word = unsafe { core::ptr::read_volatile(words.add(index)) };
        hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
        index += 1;
    }
    if hash == 0 { 1 } else { hash }
}
