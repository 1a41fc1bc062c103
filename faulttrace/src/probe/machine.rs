//! How the kernel enters page faults on the architecture that this is built for.

/// As many as `LEAVE` of `faulttrace-ebpf`'s config.rs has room for. With one more, Linux 7.3 verifies the
/// program at `sched_waking` without coming to an end.
pub(super) const LEAVE_RANGES: usize = 6;

/// What the programs go by to tell from a kernel stack whether its thread is in a page fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// A function that every fault by an exception passes.
    pub(super) entry: &'static str,
    /// How many frames there are outside of it at most if the exception came from user mode.
    pub(super) entry_outer: u64,
    /// The address of that function lies right under the registers of user mode.
    pub(super) entry_below_registers: bool,
    /// Functions that run between a fault's completion and the return from its exception, by all their
    /// names: they changed with the generic entry code (x86: 5.10 to 6.18; arm64 took it later).
    pub(super) leaving: [&'static str; LEAVE_RANGES],
}

/// arch/x86/include/asm/idtentry.h: an entry of its own for each exception.
const X86_64: Machine = Machine {
    entry: "asm_exc_page_fault",
    entry_outer: 0,
    entry_below_registers: true,
    leaving: [
        "irqentry_exit",
        "irqentry_exit_to_user_mode",
        "exit_to_user_mode_loop",
        "exit_to_user_mode_prepare",
        "raw_irqentry_exit_cond_resched",
        "arch_do_signal_or_restart",
    ],
};

/// arch/arm64/kernel/entry-common.c, arch/arm64/mm/fault.c: one entry for all exceptions. Outside there are
/// el0t_64_sync, its handler, and el0_da or el0_ia unless they are inlined; for faults in system calls,
/// those of the call as well.
const AARCH64: Machine = Machine {
    entry: "do_mem_abort",
    entry_outer: 3,
    entry_below_registers: false,
    leaving: [
        "irqentry_exit",
        "irqentry_exit_to_user_mode",
        "exit_to_user_mode_loop",
        "do_notify_resume",
        "raw_irqentry_exit_cond_resched",
        "arch_do_signal_or_restart",
    ],
};

pub(super) const MACHINE: Machine = if cfg!(target_arch = "aarch64") {
    AARCH64
} else {
    X86_64
};
