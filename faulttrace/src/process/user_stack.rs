//! User stacks of threads that sleep, walked from outside along their frame pointers. Only for
//! threads that were stuck before the programs were attached: those capture stacks themselves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::IoSliceMut;
use std::time::Duration;

use faulttrace_ebpf::CODE_ADDRESS;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::patience::{Terms, Work, with_patience};
use crate::privileges;

/// How far from the stack pointer a stack is looked at.
const MAX_BYTES: u64 = 256 * 1024;
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
    let mut memory = Memory::new(|at, page| read(thread.tid, at, page));
    let mut stack = if memory.word(sp).is_some() {
        follow(ip, sp, bp, |address| memory.word(address))
    } else {
        UserStack::innermost(ip)
    };
    if ARM64 {
        stack.top = thread.returns_to;
    }
    stack
}

/// Pages of a thread's memory that a word was asked of, each read once. To read a page of which none is would make
/// a fault that the process did not ask for: above a stack may lie what hangs when it is read.
struct Memory<Read> {
    page: u64,
    /// `None`: it cannot be read.
    pages: HashMap<u64, Option<Vec<u8>>>,
    read: Read,
}

impl<Read: FnMut(u64, &mut [u8]) -> bool> Memory<Read> {
    /// `read` reads all of a page.
    fn new(read: Read) -> Self {
        Self {
            page: super::page_bytes(),
            pages: HashMap::new(),
            read,
        }
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address % self.page).ok()?;
        let at = address - address % self.page;
        let page = match self.pages.entry(at) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut page = vec![0; usize::try_from(self.page).ok()?];
                new.insert((self.read)(at, &mut page).then_some(page))
            }
        };
        let bytes = page.as_ref()?.get(offset..)?.first_chunk::<8>()?;
        Some(u64::from_ne_bytes(*bytes))
    }
}

/// Reads a page of a thread's.
fn read(tid: u32, at: u64, page: &mut [u8]) -> bool {
    let (Ok(base), Ok(pid)) = (usize::try_from(at), i32::try_from(tid)) else {
        return false;
    };
    let len = page.len();
    let mut local = [IoSliceMut::new(page)];
    let read = process_vm_readv(Pid::from_raw(pid), &mut local, &[RemoteIoVec { base, len }]);
    let read = read.inspect_err(|error| log::info!("user stack of {tid}: {error}"));
    read == Ok(len)
}

/// Follows the chain of frame pointers (System V ABI: saved frame pointer, then return address) in
/// what can be read from `sp` on. Each must lie above the one before.
fn follow(ip: u64, sp: u64, bp: u64, mut word: impl FnMut(u64) -> Option<u64>) -> UserStack {
    let end = sp.saturating_add(MAX_BYTES);
    let mut word = |address: u64| (address < end).then(|| word(address)).flatten();
    let top = word(sp).unwrap_or(0);
    let mut frames = vec![ip];
    let (mut frame, mut lowest) = (bp, sp);
    while frames.len() < MAX_FRAMES {
        let next = (frame >= lowest && frame.is_multiple_of(WORD))
            .then(|| Some((word(frame)?, word(frame.checked_add(WORD)?)?)))
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

    /// Words that lie at 0x1000.
    fn memory(words: &[u64]) -> impl FnMut(u64) -> Option<u64> {
        |address| {
            let at = usize::try_from(address.checked_sub(0x1000)? / WORD).ok()?;
            words.get(at).copied()
        }
    }

    #[test]
    fn only_pages_that_frames_lie_in_are_read_and_each_once() {
        let page = super::super::page_bytes();
        let (sp, far) = (16 * page + 8, 20 * page + 64);
        let mut read = Vec::new();
        let mut memory = Memory::new(|at, bytes: &mut [u8]| {
            read.push(at / page);
            // A frame at the stack pointer, the next far above, and one where nothing can be read.
            let words = [far, 0xa, 30 * page, 0xb].map(u64::to_ne_bytes).concat();
            let (place, words) = match at / page {
                16 => (8, &words[..16]),
                20 => (64, &words[16..]),
                _ => return false,
            };
            bytes[place..place + 16].copy_from_slice(words);
            true
        });
        assert!(memory.word(sp).is_some());
        let walked = follow(1, sp, sp, |address| memory.word(address));
        assert_eq!(walked.frames, [1, 0xa, 0xb]);
        assert_eq!(read, [16, 20, 30]);
    }

    #[test]
    fn words_of_this_process_are_read() {
        let word = 0xfa17_fa17_u64;
        let at = std::ptr::from_ref(&word).expose_provenance() as u64;
        let own = nix::unistd::gettid().as_raw().unsigned_abs();
        let mut memory = Memory::new(|at, page: &mut [u8]| read(own, at, page));
        assert_eq!((memory.word(at), memory.word(0)), (Some(word), None));
    }

    #[test]
    fn frames_are_followed_outwards() {
        let stack = memory(&[0, 0x1020, 0xa, 0, 0, 0, 0xb, 0x1]);
        // 0x1008 -> (0x1020, 0xa), 0x1020 -> (0, 0): the end.
        let walked = follow(0x7, 0x1000, 0x1008, stack);
        assert_eq!(walked.frames, [0x7, 0xa]);
        assert!(!walked.truncated);
    }

    #[test]
    fn hostile_chains_end() {
        let own = || memory(&[0x1000, 0xa, 0x1000, 0xb]);
        assert_eq!(follow(1, 0x1000, 0x1000, own()).frames, [1, 0xa]);
        assert_eq!(follow(1, 0x1000, 0x1001, own()).frames, [1]);
        assert_eq!(follow(1, 0x1000, 0xff8, own()).frames, [1]);
        assert_eq!(follow(1, 0x1000, u64::MAX - 7, own()).frames, [1]);
        let last = u64::MAX - 7;
        assert_eq!(follow(1, last, last, |_| Some(1)).frames, [1]);
        assert_eq!(follow(1, 0x1000, 0x1000, memory(&[])).frames, [1]);
        let far = 0x1000 + MAX_BYTES;
        assert_eq!(follow(1, 0x1000, far, |_| Some(1)).frames, [1]);
        let long: Vec<u64> = (0..2 * MAX_FRAMES as u64)
            .flat_map(|frame| [0x1000 + (frame + 1) * 16, 0xa])
            .collect();
        let walked = follow(1, 0x1000, 0x1000, memory(&long));
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
