//! The longest sleep of a fault: where in it, and who ended it.

use faulttrace_ebpf::{FaultEvent, waker};

use super::enrich::name_of;
use crate::model::{Name, Sleep, Task, Waker};

/// Where the longest sleep lies, within the bounds of the fault's own times.
pub(super) fn longest_sleep(
    event: &FaultEvent,
    duration_ns: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
    waker: Option<Waker>,
) -> Option<Sleep> {
    if event.longest_out_ns == 0 {
        return None;
    }
    let after_ns = event.longest_out_ns.saturating_sub(event.start_ns);
    let after_ns = after_ns.min(duration_ns);
    let left_ns = duration_ns - after_ns;
    let slept_ns = event.longest_sleep_ns.min(blocked_ns).min(left_ns);
    let waited_ns = event.longest_runqueue_ns.min(runqueue_ns);
    Some(Sleep {
        after_ns,
        blocked_ns: slept_ns,
        runqueue_ns: waited_ns.min(left_ns - slept_ns),
        waker,
    })
}

/// Who ended a sleep; `syscall_name` names the call it was in.
pub(super) fn waker(
    woken_by: &faulttrace_ebpf::Waker,
    syscall_name: impl FnOnce(u32) -> Option<Name>,
) -> Option<Waker> {
    match woken_by.kind {
        waker::INTERRUPT => Some(Waker::Interrupt),
        waker::TASK => Some(Waker::Task(Task {
            pid: woken_by.tgid,
            tid: woken_by.tid,
            name: name_of(&woken_by.comm),
            syscall: syscall_name(woken_by.syscall),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> FaultEvent {
        // SAFETY: integers only; zero is a value of each.
        let mut event: FaultEvent = unsafe { std::mem::zeroed() };
        (event.start_ns, event.longest_out_ns) = (1_000, 1_100);
        (event.longest_sleep_ns, event.longest_runqueue_ns) = (500, 50);
        event
    }

    #[test]
    fn a_sleep_lies_within_its_fault() {
        let sleep = |event: &FaultEvent, duration, blocked, runqueue| {
            let sleep = longest_sleep(event, duration, blocked, runqueue, None).expect("a sleep");
            (sleep.after_ns, sleep.blocked_ns, sleep.runqueue_ns)
        };
        assert_eq!(sleep(&event(), 700, 600, 60), (100, 500, 50));
        assert_eq!(sleep(&event(), 620, 600, 60), (100, 500, 20));
        assert_eq!(sleep(&event(), 700, 400, 10), (100, 400, 10));
        assert_eq!(sleep(&event(), 80, 80, 80), (80, 0, 0));
        let mut unseen = event();
        unseen.longest_out_ns = 0;
        assert_eq!(longest_sleep(&unseen, 700, 600, 60, None), None);
    }

    #[test]
    fn a_waker_is_told_only_if_it_was_seen() {
        let mut event = event().longest_waker;
        (event.tgid, event.syscall) = (7, 10);
        let mut woken_by = |kind| {
            event.kind = kind;
            waker(&event, |number| {
                (number == 10).then(|| Name::from("mprotect"))
            })
        };
        assert_eq!(woken_by(waker::UNKNOWN), None);
        assert_eq!(woken_by(waker::INTERRUPT), Some(Waker::Interrupt));
        assert_eq!(woken_by(77), None);
        let task = Waker::Task(Task {
            pid: 7,
            tid: 0,
            name: Name::from(""),
            syscall: Some(Name::from("mprotect")),
        });
        assert_eq!(woken_by(waker::TASK), Some(task));
    }
}
