//! Recognises a kernel stack that was unwound before, by the return addresses that still lie where they
//! lay then.
//!
//! Unwinding takes microseconds, and a storm of faults sleeps in a few places. Where a function calls
//! another from, and how much stack it uses up to there, is fixed: if the outermost return address is
//! where it was and the same, the function that it tells of keeps the next one in the same place too, and
//! so on inwards. Only a call through a pointer may lead elsewhere; then all that follows would have to
//! be left over from an earlier call, and the stack be exactly as deep.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use faulttrace_ebpf::{CODE_ADDRESS, STACK_SLOTS, counter};

use crate::config;
use crate::maps::{self, KNOWN_PLACES, KnownStack, STACK_WORDS, STACKS, room};
use crate::registers;
use crate::stack::{SEED, mixed, note, seen};

/// Frames that may lie deeper than the program's context: those of the program, always the same.
const OWN_FRAMES: u64 = 4;
/// How many stacks pass that are of a known one's depth, but another, before it makes room for one.
const PATIENCE: u64 = 8;

/// The current task's kernel stack above the program's context.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Address of the context.
    from: u64,
    /// Bytes up to the registers of user mode; [`STACK_BYTES`] or more: it is not to be recognised.
    bytes: u64,
}

/// What is looked at of a stack.
const STACK_BYTES: u64 = STACK_WORDS as u64 * 8;

impl Extent {
    /// Of a stack that is not to be recognised. No `Option`: of that the compiler reads what was not written,
    /// which older verifiers refuse.
    pub const NONE: Extent = Extent {
        from: 0,
        bytes: u64::MAX,
    };

    #[inline(always)]
    fn is_none(self) -> bool {
        self.bytes >= STACK_BYTES
    }
}

/// The extent of the stack on which the program runs.
#[inline(always)]
pub fn extent(ctx: *mut c_void, word: &mut u64) -> Extent {
    if config::STACKS_BY_KERNEL.load() != 0 {
        return Extent::NONE;
    }
    let from = registers::number_of(ctx, word);
    let bytes = registers::top_of_stack(from).wrapping_sub(from);
    Extent { from, bytes }
}

/// Id and number of frames of the stack, if it is a known one.
#[inline(always)]
pub fn recognise(extent: Extent) -> Option<(u64, u32)> {
    if extent.is_none() {
        return None;
    }
    let known = maps::known_stack(extent.bytes)?;
    if known.places == 0 || known.bytes != extent.bytes || !read(extent) {
        return None;
    }
    if check_of(extent.bytes) != known.check || STACKS.get_ptr(known.id).is_none() {
        return None;
    }
    maps::count(counter::STACKS_RECOGNISED);
    Some((known.id, known.len))
}

/// Learns the stack in the room of `sched_switch`, which has `len` frames and this id.
#[inline(always)]
pub fn learn(extent: Extent, len: u32, id: u64) {
    if extent.is_none() {
        return;
    }
    let Some(known) = maps::known_stack(extent.bytes) else {
        return;
    };
    known.misses += 1;
    if known.places != 0 && known.misses % PATIENCE != 0 {
        return;
    }
    known.places = 0;
    if read(extent) && find_places(extent.bytes, len) != 0 {
        known.id = id;
        known.len = len;
    }
}

/// Reads the stack into `maps::stack_words()`.
#[inline(always)]
fn read(extent: Extent) -> bool {
    let Some(words) = maps::stack_words() else {
        return false;
    };
    let mut size = extent.bytes;
    // SAFETY: clears bits, of which none is set (`extent`). In assembly, because the compiler knows that and
    // would leave it out; but the verifier of older kernels forgets it.
    unsafe {
        core::arch::asm!("{size} &= {most}", size = inout(reg) size, most = const STACK_BYTES - 1);
    }
    let size = size as u32;
    // SAFETY: there is room for as many bytes; the helper accepts any address and fails on a bad one.
    unsafe {
        bpf_probe_read_kernel(
            words.as_mut_ptr().cast(),
            size,
            extent.from as *const c_void,
        ) == 0
    }
}

/// Finds the frames of the stack in the room of `sched_switch` on the stack in `maps::stack_words()`, from the
/// outermost on, and notes their places. 0 = not all are there.
///
/// A function of its own; see `stack::scan_stack`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_places(bytes: u64, len: u32) -> u32 {
    let (Some(scratch), Some(words), Some(known)) = (
        maps::scratch(room::SWITCH),
        maps::stack_words(),
        maps::known_stack(bytes),
    ) else {
        return 0;
    };
    // In memory, where the verifier does not follow what the loop learns of it.
    note(&mut known.bytes, bytes);
    note(&mut known.left, u64::from(len));
    note(&mut known.check, SEED);
    let mut index = STACK_WORDS;
    while index > 0 {
        index -= 1;
        let left = seen(&known.left);
        if left == 0 {
            break;
        }
        let frame = scratch.stack.frames[(left - 1) as usize & (STACK_SLOTS - 1)];
        if (index as u64 * 8) < seen(&known.bytes) && as_address(words[index]) == frame {
            let place = u64::from(len) - left;
            known.at[place as usize & (KNOWN_PLACES - 1)] = index as u16;
            note(&mut known.left, left - 1);
            let check = mixed(seen(&known.check), frame);
            note(&mut known.check, check);
        }
    }
    let left = seen(&known.left);
    let places = u64::from(len) - left;
    if left > OWN_FRAMES || places > KNOWN_PLACES as u64 {
        return 0;
    }
    known.places = places as u32;
    places as u32
}

/// What lies in the places of a known stack, as `KnownStack::check` has it. See `stack::scan_stack`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn check_of(bytes: u64) -> u64 {
    let (Some(words), Some(known)) = (maps::stack_words(), maps::known_stack(bytes)) else {
        return 0;
    };
    let known: &KnownStack = known;
    let mut check = SEED;
    let mut place = 0;
    while place < KNOWN_PLACES {
        if place >= known.places as usize {
            break;
        }
        let index = known.at[place] as usize & (STACK_WORDS - 1);
        check = mixed(check, as_address(words[index]));
        place += 1;
    }
    check
}

/// A word of the stack as the return address that it may be; that of the kernel may be signed (arm64).
#[inline(always)]
fn as_address(word: u64) -> u64 {
    if cfg!(bpf_target_arch = "aarch64") {
        word | !CODE_ADDRESS
    } else {
        word
    }
}
