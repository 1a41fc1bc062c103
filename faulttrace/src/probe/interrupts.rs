//! Where the running kernel enters interrupts, and where the work of its tasks begins: what the
//! programs tell from a stack by whether a task or an interrupt wakes a thread.

use std::ffi::OsStr;
use std::ops::Range;

use super::KernelFunctions;

/// As many as `INTERRUPTS` of `faulttrace-ebpf`'s config.rs has room for.
pub(super) const INTERRUPT_RANGES: usize = 16;
/// As many as `OUTERMOST` has room for.
pub(super) const OUTERMOST_RANGES: usize = 8;

/// Address ranges, [start, end) each, ascending; unused ones are 0, 0 and come last.
pub(super) type Ranges<const N: usize> = [[u64; 2]; N];

/// Entry code of interrupts: every stack of one has it outside FRED. x86: arch/x86/include/asm/idtentry.h.
/// arm64: arch/arm64/kernel/entry.S and entry-common.c.
fn enters_interrupt(name: &str) -> bool {
    const EXACT: [&str; 5] = [
        "asm_common_interrupt",
        "asm_spurious_interrupt",
        "asm_exc_xen_hypervisor_callback",
        "el1_irq",
        "el0_irq",
    ];
    const BEGINNINGS: [&str; 5] = [
        "asm_sysvec_",
        "el1h_64_irq",
        "el1t_64_irq",
        "el0t_64_irq",
        "el0t_32_irq",
    ];
    EXACT.contains(&name) || BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

/// What FRED's one entry for all events calls for interrupts (arch/x86/entry/entry_fred.c, since kernel
/// commit 14619d912b65, 6.9).
fn handles_interrupt(name: &str) -> bool {
    matches!(name, "common_interrupt" | "spurious_interrupt") || name.starts_with("sysvec_")
}

/// Whether this kernel enters through FRED. If that cannot be told, it may.
pub(super) fn fred() -> bool {
    let Ok(cpus) = std::fs::read_to_string("/proc/cpuinfo") else {
        return true;
    };
    let flags = cpus.lines().filter(|line| line.starts_with("flags"));
    flags
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "fred")
}

/// What does the work that interrupts left to be done later (kernel/softirq.c), in whichever task,
/// ksoftirqd included. Newer kernels have both, the first calls the second.
fn runs_softirqs(name: &str) -> bool {
    matches!(name, "__do_softirq" | "handle_softirqs")
}

/// Where system calls and page faults are entered, and where a new thread begins. Other exceptions are
/// left out: they hardly wake anybody, and lie in more places than there is room for on many kernels.
/// A stack that begins with one is counted as one that does not tell.
fn begins_work(name: &str) -> bool {
    const BEGINNINGS: [&str; 9] = [
        "entry_SYSCALL_",
        "entry_SYSENTER",
        "entry_INT80",
        "asm_int80",
        "asm_exc_page_fault",
        "asm_fred_entrypoint_user",
        "ret_from_fork",
        "el0t_64_sync",
        "el0t_32_sync",
    ];
    BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

/// Whether softirqs never run on the stack of a task that is in a system call or an exception: so it is
/// on x86-64 (arch/x86/Kconfig, HAVE_SOFTIRQ_ON_OWN_STACK) but for kernels with real-time preemption.
pub(super) fn softirqs_apart() -> bool {
    let real_time = |version: &OsStr| version.to_string_lossy().contains("PREEMPT_RT");
    let kernel = nix::sys::utsname::uname();
    cfg!(target_arch = "x86_64") && kernel.is_ok_and(|kernel| !real_time(kernel.version()))
}

/// Code of interrupts and softirqs. None at all if either is missing: then a stack without them
/// would prove nothing. The handlers lie here and there, in more ranges than there is room for on many
/// kernels: they are taken with FRED alone.
pub(super) fn interrupts(functions: &dyn KernelFunctions, fred: bool) -> Ranges<INTERRUPT_RANGES> {
    let wanted = |name: &str| enters_interrupt(name) || fred && handles_interrupt(name);
    let entries = functions.ranges_of(&wanted);
    let softirqs = functions.ranges_of(&runs_softirqs);
    if entries.is_empty() || softirqs.is_empty() {
        log::warn!("who wakes threads is not known: this kernel names no entries of interrupts");
        return [[0; 2]; INTERRUPT_RANGES];
    }
    fit("interrupts", entries.into_iter().chain(softirqs))
}

/// Code that a stack which was captured whole begins with.
pub(super) fn outermost(functions: &dyn KernelFunctions) -> Ranges<OUTERMOST_RANGES> {
    fit("work", functions.ranges_of(&begins_work))
}

/// All of them, or none: a part would let the programs conclude what is not so.
fn fit<const N: usize>(what: &str, found: impl IntoIterator<Item = Range<u64>>) -> Ranges<N> {
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|range| range.start);
    let mut ranges = [[0; 2]; N];
    if found.len() > N {
        let count = found.len();
        log::warn!(
            "who wakes threads is not known: this kernel enters {what} at {count} places, not at most {N}"
        );
        return ranges;
    }
    for (to, range) in ranges.iter_mut().zip(found) {
        *to = [range.start, range.end];
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions of 16 bytes each, 32 apart.
    struct Kernel(Vec<String>);

    impl KernelFunctions for Kernel {
        fn range_of(&self, name: &str) -> Option<Range<u64>> {
            self.ranges_of(&|other| other == name).first().cloned()
        }

        fn ranges_of(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<Range<u64>> {
            let places = (1..).map(|index| index * 32..index * 32 + 16);
            let named = self.0.iter().zip(places);
            named
                .filter(|(name, _)| wanted(name))
                .map(|(_, place)| place)
                .collect()
        }
    }

    fn kernel(names: &[&str]) -> Kernel {
        Kernel(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn interrupts_are_known_by_their_entries_and_softirqs_or_not_at_all() {
        let names = ["handle_softirqs", "asm_exc_page_fault", "asm_sysvec_reboot"];
        let found = interrupts(&kernel(&names), false);
        assert_eq!(found[..3], [[32, 48], [96, 112], [0, 0]]);
        let none = [[0; 2]; INTERRUPT_RANGES];
        assert_eq!(interrupts(&kernel(&names[..2]), true), none);
        assert_eq!(interrupts(&kernel(&names[1..]), true), none);
        let mut many = kernel(&names);
        many.0
            .extend((0..20).map(|index| format!("sysvec_{index}")));
        let entries = interrupts(&many, false);
        assert_eq!(entries[..3], found[..3]);
        assert_eq!(interrupts(&many, true), none);
        many.0.truncate(4);
        let handlers = interrupts(&many, true);
        assert_eq!(handlers[..3], [[32, 48], [96, 112], [128, 144]]);
    }

    #[test]
    fn work_begins_at_system_calls_page_faults_and_new_threads() {
        let names = [
            "entry_SYSCALL_64_after_hwframe",
            "asm_exc_int3",
            "entry_SYSCALL32_ignore",
            "ret_from_fork_asm",
        ];
        let found = outermost(&kernel(&names));
        assert_eq!(found[..3], [[32, 48], [128, 144], [0, 0]]);
    }
}
