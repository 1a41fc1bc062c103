//! What threads of a Go program are at that were stuck in faults before the programs were attached. Read as
//! the programs do it (`faulttrace-ebpf`, go.rs), but from outside: that waits for the process's
//! `mmap_lock`, so it is done where waiting is allowed.

use std::io::IoSliceMut;

use faulttrace_ebpf::UserRegisters;
use faulttrace_ebpf::goroutine::{GoLayout, Goroutine, MAX_LOCAL, SCAN, SYSCALL, flag};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// Memory of another process.
pub(super) struct Memory(pub(super) u32);

impl Memory {
    /// The number of 64 bits at an address.
    fn long(&self, base: u64, offset: u32) -> Option<u64> {
        self.read(base, offset).map(u64::from_ne_bytes)
    }

    /// The number of 32 bits.
    pub(super) fn word(&self, base: u64, offset: u32) -> Option<u32> {
        self.read(base, offset).map(u32::from_ne_bytes)
    }

    fn read<const N: usize>(&self, base: u64, offset: u32) -> Option<[u8; N]> {
        let base = usize::try_from(base.checked_add(u64::from(offset))?).ok()?;
        let pid = Pid::from_raw(i32::try_from(self.0).ok()?);
        let mut bytes = [0; N];
        let mut local = [IoSliceMut::new(&mut bytes)];
        let read = process_vm_readv(pid, &mut local, &[RemoteIoVec { base, len: N }]);
        (read == Ok(N)).then_some(bytes)
    }
}

/// What a thread with these registers is at; `None` if it cannot be read.
pub(super) fn of(memory: &Memory, layout: &GoLayout, thread: &UserRegisters) -> Option<Goroutine> {
    let m = present_m(memory, layout, thread)?;
    let mut found = Goroutine {
        flags: flag::TRIED | flag::FOUND,
        ..Goroutine::NONE
    };
    let running = memory.long(m, layout.m_curg)?;
    let mut in_syscall = false;
    if running != 0 {
        found.id = memory.long(running, layout.g_id)?;
        found.start_pc = memory.long(running, layout.g_start_pc)?;
        found.go_pc = memory.long(running, layout.g_go_pc)?;
        found.flags |= flag::HAS_ID;
        in_syscall = memory.word(running, layout.g_status)? & !SCAN == SYSCALL;
    }
    let variable = |address: u64| (address != 0).then(|| memory.word(address, 0)).flatten();
    if let Some(procs) = variable(layout.gomaxprocs) {
        found.procs = procs;
        found.flags |= flag::HAS_PROCS;
    }
    if let Some(global) = variable(layout.runqsize).filter(|count| count.cast_signed() >= 0) {
        found.global = global;
        found.flags |= flag::HAS_GLOBAL;
    }
    let p = memory.long(m, layout.m_p)?;
    if in_syscall {
        found.flags |= flag::IN_SYSCALL;
    } else if p != 0 {
        found.p = memory.word(p, layout.p_id)?;
        found.flags |= flag::HOLDS_P;
        if let Some(local) = local(memory, layout, p) {
            found.local = local;
            found.flags |= flag::HAS_LOCAL;
        }
    }
    Some(found)
}

fn present_m(memory: &Memory, layout: &GoLayout, thread: &UserRegisters) -> Option<u64> {
    let m_of = |g: u64| {
        let m = memory.long(g, layout.g_m)?;
        let knows = |member| memory.long(m, member) == Some(g);
        (knows(layout.m_curg) || knows(layout.m_g0)).then_some(m)
    };
    let has_tls = layout.has_tls != 0 && thread.thread_pointer != 0;
    let by_tls = has_tls
        .then(|| {
            let at = thread.thread_pointer.checked_add_signed(layout.tls_g)?;
            m_of(memory.long(at, 0)?)
        })
        .flatten();
    by_tls.or_else(|| {
        let in_go = (layout.text_begin..layout.text_end).contains(&thread.ip);
        in_go.then(|| m_of(thread.g)).flatten()
    })
}

/// Goroutines in the queue of a P, the one that is next included.
fn local(memory: &Memory, layout: &GoLayout, p: u64) -> Option<u32> {
    let (head, tail) = (
        memory.word(p, layout.p_runq_head)?,
        memory.word(p, layout.p_runq_tail)?,
    );
    let queued = tail.wrapping_sub(head);
    let next = memory.long(p, layout.p_run_next)? != 0;
    (queued <= MAX_LOCAL).then(|| queued + u32::from(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Structures as in a process, in our own.
    fn own() -> (Vec<u64>, GoLayout, UserRegisters) {
        // g at 0..8, m at 8..16, p at 16..24, variables at 24.
        let mut words = vec![0_u64; 26];
        let at = |words: &[u64], index: usize| (&raw const words[index]) as u64;
        let (g, m, p) = (at(&words, 0), at(&words, 8), at(&words, 16));
        (words[0], words[1], words[2]) = (m, 18, 0x1000);
        (words[3], words[4]) = (0x2000, 2);
        (words[8], words[9], words[10]) = (0, g, p);
        (words[16], words[17], words[18], words[19]) = (7, 5, 9, 0xabc);
        (words[24], words[25]) = (4, 33);
        let layout = GoLayout {
            text_begin: 0x10,
            text_end: 0x20,
            gomaxprocs: at(&words, 24),
            runqsize: at(&words, 25),
            g_m: 0,
            g_id: 8,
            g_start_pc: 16,
            g_go_pc: 24,
            g_status: 32,
            m_g0: 0,
            m_curg: 8,
            m_p: 16,
            p_id: 0,
            p_runq_head: 8,
            p_runq_tail: 16,
            p_run_next: 24,
            ..GoLayout::default()
        };
        let registers = UserRegisters {
            tid: 1,
            padding: 0,
            ip: 0x18,
            sp: 0,
            bp: 0,
            returns_to: 0,
            thread_pointer: 0,
            g,
        };
        (words, layout, registers)
    }

    #[test]
    fn a_goroutine_is_read() {
        let (words, layout, registers) = own();
        let memory = Memory(std::process::id());
        let found = of(&memory, &layout, &registers).expect("read");
        assert_eq!((found.id, found.p, found.procs), (18, 7, 4));
        assert_eq!((found.local, found.global), (5, 33));
        assert_eq!((found.start_pc, found.go_pc), (0x1000, 0x2000));
        assert_eq!(found.flags & flag::IN_SYSCALL, 0);
        drop(words);
    }

    #[test]
    fn in_a_system_call_no_p_is_held() {
        let (mut words, layout, registers) = own();
        words[4] = u64::from(SCAN | SYSCALL);
        let memory = Memory(std::process::id());
        let found = of(&memory, &layout, &registers).expect("read");
        assert_eq!(
            found.flags & (flag::IN_SYSCALL | flag::HOLDS_P),
            flag::IN_SYSCALL
        );
    }

    #[test]
    fn what_does_not_fit_is_not_taken_for_one() {
        let (mut words, layout, mut registers) = own();
        let memory = Memory(std::process::id());
        registers.ip = 0x20;
        assert_eq!(of(&memory, &layout, &registers), None, "no code of Go's");
        registers.ip = 0x18;
        words[9] = 0x1234;
        assert_eq!(of(&memory, &layout, &registers), None, "its m knows it not");
        registers.g = 8;
        assert_eq!(of(&memory, &layout, &registers), None, "no memory there");
        assert_eq!(of(&Memory(u32::MAX), &layout, &registers), None);
    }
}
