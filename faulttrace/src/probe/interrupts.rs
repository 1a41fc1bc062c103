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

/// Entries of interrupts. x86: arch/x86/include/asm/idtentry.h, both the entry code and what it calls,
/// since it is not the same with FRED. arm64: arch/arm64/kernel/entry.S and entry-common.c.
fn enters_interrupt(name: &str) -> bool {
    const EXACT: [&str; 7] = [
        "common_interrupt",
        "spurious_interrupt",
        "asm_common_interrupt",
        "asm_spurious_interrupt",
        "asm_exc_xen_hypervisor_callback",
        "el1_irq",
        "el0_irq",
    ];
    const BEGINNINGS: [&str; 6] = [
        "sysvec_",
        "asm_sysvec_",
        "el1h_64_irq",
        "el1t_64_irq",
        "el0t_64_irq",
        "el0t_32_irq",
    ];
    EXACT.contains(&name) || BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

/// What does the work that interrupts left to be done later (kernel/softirq.c), in whichever task,
/// ksoftirqd included. Newer kernels have both, the first calls the second.
fn runs_softirqs(name: &str) -> bool {
    matches!(name, "__do_softirq" | "handle_softirqs")
}

/// Where system calls and exceptions are entered, and where a new thread begins.
fn begins_work(name: &str) -> bool {
    const BEGINNINGS: [&str; 9] = [
        "entry_SYSCALL",
        "entry_SYSENTER",
        "entry_INT80",
        "asm_int80",
        "asm_exc_",
        "asm_fred_entrypoint_user",
        "ret_from_fork",
        "el0t_64_sync",
        "el0t_32_sync",
    ];
    BEGINNINGS.iter().any(|begin| name.starts_with(begin)) && !enters_interrupt(name)
}

/// Whether softirqs never run on the stack of a task that is in a system call or an exception: so it is
/// on x86-64 (arch/x86/Kconfig, HAVE_SOFTIRQ_ON_OWN_STACK) but for kernels with real-time preemption.
pub(super) fn softirqs_apart() -> bool {
    let real_time = |version: &OsStr| version.to_string_lossy().contains("PREEMPT_RT");
    let kernel = nix::sys::utsname::uname();
    cfg!(target_arch = "x86_64") && kernel.is_ok_and(|kernel| !real_time(kernel.version()))
}

/// Code of interrupts and softirqs. None at all if either is missing: then a stack without them
/// would prove nothing.
pub(super) fn interrupts(functions: &dyn KernelFunctions) -> Ranges<INTERRUPT_RANGES> {
    let entries = functions.ranges_of(&enters_interrupt);
    let softirqs = functions.ranges_of(&runs_softirqs);
    if entries.is_empty() || softirqs.is_empty() {
        log::warn!("who wakes threads is not known: this kernel names no entries of interrupts");
        return [[0; 2]; INTERRUPT_RANGES];
    }
    fit(entries.into_iter().chain(softirqs))
}

/// Code that a stack which was captured whole begins with.
pub(super) fn outermost(functions: &dyn KernelFunctions) -> Ranges<OUTERMOST_RANGES> {
    fit(functions.ranges_of(&begins_work))
}

/// All of them, or none: a part would let the programs conclude what is not so.
fn fit<const N: usize>(found: impl IntoIterator<Item = Range<u64>>) -> Ranges<N> {
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|range| range.start);
    let mut ranges = [[0; 2]; N];
    let mut room = ranges.iter_mut();
    for range in found {
        let Some(to) = room.next() else {
            log::warn!("who wakes threads is not known: this kernel has too many entries");
            return [[0; 2]; N];
        };
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
        let names = ["handle_softirqs", "asm_exc_page_fault", "sysvec_reboot"];
        let found = interrupts(&kernel(&names));
        assert_eq!(found[..3], [[32, 48], [96, 112], [0, 0]]);
        let none = [[0; 2]; INTERRUPT_RANGES];
        assert_eq!(interrupts(&kernel(&names[..2])), none);
        assert_eq!(interrupts(&kernel(&names[1..])), none);
        let mut many = kernel(&names);
        many.0
            .extend((0..20).map(|index| format!("sysvec_{index}")));
        assert_eq!(interrupts(&many), none);
    }

    #[test]
    fn work_begins_at_system_calls_exceptions_and_new_threads() {
        let names = [
            "entry_SYSCALL_64_after_hwframe",
            "asm_exc_xen_hypervisor_callback",
            "ret_from_fork_asm",
        ];
        let found = outermost(&kernel(&names));
        assert_eq!(found[..3], [[32, 48], [96, 112], [0, 0]]);
    }
}
