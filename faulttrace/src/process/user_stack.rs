//! User stacks of threads that sleep, walked from outside along their frame pointers. Only for
//! threads that were stuck before the programs were attached: those capture stacks themselves.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::time::Duration;

use faulttrace_ebpf::CODE_ADDRESS;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::patience::{Terms, Work, with_patience};
use crate::privileges;

/// How much of a stack is looked at.
const MAX_BYTES: usize = 256 * 1024;
/// As many frames as the programs capture.
const MAX_FRAMES: usize = faulttrace_ebpf::MAX_FRAMES;
/// Reading takes the `mmap_lock` of the target, and hangs with it: how long one may take, and all together.
const PATIENCE: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(5);
/// A word of the target's.
const WORD: u64 = 8;

/// Where a thread will go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// Where the innermost function returns to, if a register holds that; 0 = the stack does.
    pub returns_to: u64,
}

/// Whether return addresses may bear a signature, and a call leaves its own in a register.
const ARM64: bool = cfg!(target_arch = "aarch64");
/// What of a saved return address is the address.
const CODE: u64 = if ARM64 { CODE_ADDRESS } else { u64::MAX };

/// A stack, innermost frame first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserStack {
    /// Instruction addresses.
    pub frames: Vec<u64>,
    /// There may be more.
    pub truncated: bool,
    /// The word at the stack pointer, or what the register has in which a call leaves where to return to; 0
    /// if it could not be read.
    pub top: u64,
}

impl UserStack {
    /// Nothing but where the thread will go on is known.
    pub fn innermost(ip: u64) -> Self {
        UserStack {
            frames: vec![ip],
            truncated: true,
            top: 0,
        }
    }
}

/// The stacks of several threads, in their order, as far as they can be read in time and before `is_over`
/// says that nobody wants to know any more; `None` for the others.
pub fn walk_all(threads: &[Registers], is_over: &dyn Fn() -> bool) -> Vec<Option<UserStack>> {
    let mut processes: HashMap<u32, Process> = HashMap::new();
    for (index, registers) in threads.iter().enumerate() {
        let process = processes.entry(registers.pid).or_default();
        process.threads.push((index, *registers));
    }
    let terms = Terms {
        name: "user stack",
        privileges: privileges::MEMORY,
        patience: PATIENCE,
        limit: LIMIT,
        is_over,
    };
    let mut stacks = vec![None; threads.len()];
    for (index, stack) in with_patience(processes.into_values().collect(), &terms).answers {
        if let Some(place) = stacks.get_mut(index) {
            *place = Some(stack);
        }
    }
    stacks
}

/// The threads of one process: if reading hangs for one, it does for the others.
#[derive(Default)]
struct Process {
    threads: Vec<(usize, Registers)>,
}

impl Work for Process {
    type Answer = (usize, UserStack);

    fn pid(&self) -> u32 {
        self.threads.first().map_or(0, |(_, of)| of.pid)
    }

    fn step(&mut self, tell: &dyn Fn((usize, UserStack))) -> bool {
        for (index, registers) in &self.threads {
            tell((*index, walk(*registers)));
        }
        false
    }
}

fn walk(thread: Registers) -> UserStack {
    let Registers { ip, sp, bp, .. } = thread;
    let mut memory = vec![0; MAX_BYTES];
    let mut stack = match read_stack(thread, &mut memory) {
        0 => UserStack::innermost(ip),
        read => follow(ip, sp, bp, memory.get(..read).unwrap_or_default()),
    };
    if ARM64 {
        stack.top = thread.returns_to;
    }
    stack
}

/// How much could be read from the stack pointer on: up to the stack's end.
fn read_stack(thread: Registers, memory: &mut [u8]) -> usize {
    let (Ok(base), Ok(pid)) = (usize::try_from(thread.sp), i32::try_from(thread.tid)) else {
        return 0;
    };
    // A transfer stops at the first part that cannot be read whole, so it is given by pages.
    let page = usize::try_from(super::page_bytes()).unwrap_or(memory.len());
    let mut remote = Vec::new();
    let (mut at, end) = (base, base.saturating_add(memory.len()));
    while at < end {
        let next = (at / page + 1).saturating_mul(page).min(end);
        remote.push(RemoteIoVec {
            base: at,
            len: next - at,
        });
        at = next;
    }
    let mut local = [IoSliceMut::new(memory)];
    process_vm_readv(Pid::from_raw(pid), &mut local, &remote).unwrap_or_else(|error| {
        log::info!("user stack of {}: {error}", thread.tid);
        0
    })
}

/// Follows the chain of frame pointers (System V ABI: saved frame pointer, then return address) in
/// what was read from `sp` on. Each must lie above the one before.
fn follow(ip: u64, sp: u64, bp: u64, memory: &[u8]) -> UserStack {
    let word = |address: u64| {
        let at = usize::try_from(address.checked_sub(sp)?).ok()?;
        let bytes = memory.get(at..)?.first_chunk::<8>()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let top = word(sp).unwrap_or(0);
    let mut frames = vec![ip];
    let (mut frame, mut lowest) = (bp, sp);
    while frames.len() < MAX_FRAMES {
        let next = (frame >= lowest && frame.is_multiple_of(WORD))
            .then(|| Some((word(frame)?, word(frame + WORD)?)))
            .flatten();
        // The outermost frame has no frame pointer to go back to.
        let Some((outer, address)) = next.filter(|(_, address)| *address != 0) else {
            return UserStack {
                frames,
                truncated: false,
                top,
            };
        };
        frames.push(address & CODE);
        lowest = frame + WORD;
        frame = outer;
    }
    UserStack {
        frames,
        truncated: true,
        top,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn frames_are_followed_outwards() {
        let stack = memory(&[0, 0x1020, 0xa, 0, 0, 0, 0xb, 0x1]);
        // 0x1008 -> (0x1020, 0xa), 0x1020 -> (0, 0): the end.
        let walked = follow(0x7, 0x1000, 0x1008, &stack);
        assert_eq!(walked.frames, [0x7, 0xa]);
        assert!(!walked.truncated);
    }

    #[test]
    fn hostile_chains_end() {
        let own = memory(&[0x1000, 0xa, 0x1000, 0xb]);
        assert_eq!(follow(1, 0x1000, 0x1000, &own).frames, [1, 0xa]);
        assert_eq!(follow(1, 0x1000, 0x1001, &own).frames, [1]);
        assert_eq!(follow(1, 0x1000, 0xff8, &own).frames, [1]);
        assert_eq!(follow(1, 0x1000, u64::MAX - 7, &own).frames, [1]);
        assert_eq!(follow(1, 0x1000, 0x1000, &[]).frames, [1]);
        let long: Vec<u64> = (0..2 * MAX_FRAMES as u64)
            .flat_map(|frame| [0x1000 + (frame + 1) * 16, 0xa])
            .collect();
        let walked = follow(1, 0x1000, 0x1000, &memory(&long));
        assert_eq!((walked.frames.len(), walked.truncated), (MAX_FRAMES, true));
    }

    #[test]
    fn who_does_not_exist_keeps_the_innermost_frame() {
        let nobody = Registers {
            pid: 0,
            tid: i32::MAX.unsigned_abs(),
            ip: 5,
            sp: 0,
            bp: 0,
            returns_to: 0,
        };
        let innermost = Some(UserStack::innermost(5));
        assert_eq!(walk_all(&[nobody], &|| false), [innermost]);
        assert_eq!(walk_all(&[nobody], &|| true), [None]);
    }
}
