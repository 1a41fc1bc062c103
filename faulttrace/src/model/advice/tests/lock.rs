//! Waits for `mmap_lock`, by who held it.

use super::others::because;
use super::*;
use crate::model::advice::{Evidence, Holders};
use crate::model::summary::Waited;
use crate::model::summary::samples::start;
use crate::model::{Sleep, Task, Waker};

/// The process that waits.
const OWN: u32 = 4700;

/// Waits of 0.75 ms each for what a thread of this process held in this call.
fn held(count: u64, pid: u32, name: &str, syscall: Option<&str>) -> Vec<Fault> {
    let task = Task {
        pid,
        tid: pid,
        name: Name::from(name),
        syscall: syscall.map(Name::from),
    };
    woken(count, Some(&Waker::Task(task)))
}

fn woken(count: u64, waker: Option<&Waker>) -> Vec<Fault> {
    let mut faults = because(Cause::MmapLock, count);
    for one in &mut faults {
        one.longest_sleep = Some(Sleep {
            after_ns: 0,
            blocked_ns: MS / 4 * 3,
            runqueue_ns: 0,
            waker: waker.cloned(),
        });
    }
    faults
}

/// What is said of them, one group after another.
fn of(groups: impl IntoIterator<Item = Vec<Fault>>) -> Advice {
    let mut faults: Vec<Fault> = groups.into_iter().flatten().collect();
    for (one, n) in faults.iter_mut().zip(0..) {
        let again = nth(n);
        one.facts.begin_ns = again.facts.begin_ns;
        one.end_ns = again.end_ns;
    }
    only(&advised(faults)).clone()
}

fn holders(advice: &Advice) -> &Holders {
    let found = advice.evidence.iter().find_map(|one| match one {
        Evidence::Holders(found) => Some(found),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{advice:#?}"))
}

fn waits(faults: u64) -> Waited {
    Waited {
        faults,
        blocked_ns: faults * MS / 4 * 3,
    }
}

#[test]
fn each_call_has_its_remedy() {
    for (call, actions) in [
        ("mmap", &[Action::FewerMappings, Action::MapPopulate][..]),
        ("munmap", &[Action::FewerMappings]),
        ("mremap", &[Action::FewerMappings]),
        ("brk", &[Action::KeepHeap]),
        ("mprotect", &[Action::FewerMprotects]),
        ("madvise", &[Action::FewerMadvises]),
        ("clone", &[Action::SpawnNotFork]),
        // Of the process itself it is no look from outside.
        ("read", &[Action::FewerMappings]),
    ] {
        let one = of([held(40, OWN, "loader", Some(call))]);
        assert_eq!(one.rule, Rule::MmapLock);
        assert_eq!(one.actions, actions, "{call}");
        let found = holders(&one);
        let [(holder, waited)] = &found.rows[..] else {
            panic!("{found:#?}");
        };
        assert_eq!(*waited, waits(40));
        assert!(!holder.is_other && holder.pid == OWN);
        assert_eq!(holder.syscall, Some(Name::from(call)));
        assert_eq!(found.unknown, Waited::default());
    }
}

#[test]
fn who_looks_in_from_another_process_is_named() {
    let one = of([held(40, 812, "exporter", Some("read"))]);
    assert_eq!(one.actions, [Action::FewerLooks { pid: Some(812) }]);
    let (holder, _) = &holders(&one).rows[0];
    assert!(holder.is_other && holder.name == Name::from("exporter"));
    // Outside the pid namespace nobody has an id.
    let one = of([held(40, 0, "exporter", Some("process_vm_readv"))]);
    assert_eq!(one.actions, [Action::FewerLooks { pid: None }]);
}

#[test]
fn who_is_not_known_is_not_blamed() {
    let one = of([
        held(30, OWN, "loader", Some("mprotect")),
        woken(7, None),
        woken(3, Some(&Waker::Interrupt)),
    ]);
    assert_eq!(holders(&one).unknown, waits(10));
    assert_eq!(holders(&one).rows[0].1, waits(30));
    assert_eq!(one.actions, [Action::FewerMprotects]);
    // Most of it is not known: what can be said of every wait for this lock comes first.
    let one = of([held(10, OWN, "loader", Some("mprotect")), woken(30, None)]);
    assert_eq!(one.actions, [Action::FewerMappings, Action::FewerMprotects]);
    let one = of([woken(40, None)]);
    assert_eq!(one.actions, [Action::FewerMappings]);
    assert!(holders(&one).rows.is_empty());
    // Nor is a thread that was in a fault itself, which has the lock together with others.
    let one = of([held(40, OWN, "worker", None)]);
    assert_eq!(one.actions, [Action::FewerMappings]);
    // Without any sleep of which it is known, the whole wait is nobody's.
    let mut faults = because(Cause::MmapLock, 40);
    faults.iter_mut().for_each(|one| one.longest_sleep = None);
    let one = of([faults]);
    let unknown = holders(&one).unknown;
    assert_eq!((unknown.faults, unknown.blocked_ns), (40, one.blocked_ns));
}

#[test]
fn what_was_waited_for_longest_comes_first_and_little_is_left_out() {
    let one = of([
        held(20, OWN, "heap", Some("brk")),
        held(70, OWN, "loader", Some("mprotect")),
        held(9, OWN, "mapper", Some("munmap")),
        held(1, 812, "exporter", Some("read")),
    ]);
    assert_eq!(one.actions, [Action::FewerMprotects, Action::KeepHeap]);
    let rows = holders(&one).rows.iter().map(|(_, waited)| waited.faults);
    assert_eq!(rows.collect::<Vec<_>>(), [70, 20, 9, 1]);
    // Threads of one name are one, and calls of one kind are taken together.
    let one = of([
        held(90, OWN, "loader", Some("mprotect")),
        held(6, OWN, "a", Some("munmap")),
        held(6, OWN, "b", Some("mremap")),
    ]);
    assert_eq!(one.actions, [Action::FewerMprotects, Action::FewerMappings]);
}

#[test]
fn holders_beyond_what_can_be_remembered_are_counted() {
    let names = (0..300).map(|n| held(1, OWN, &format!("loader-{n}"), Some("mprotect")));
    let one = of(names);
    let found = holders(&one);
    assert_eq!((found.rows.len(), found.beyond), (256, waits(44)));
    assert_eq!(found.all(), waits(300));
    let (first, others) = found.top(5);
    assert_eq!((first.len(), others), (5, waits(295)));
}

#[test]
fn a_newer_kernel_is_for_those_who_have_an_older_one() {
    let on_kernel = |release: &str| {
        let mut start = start();
        if let Record::Start(start) = &mut start {
            Arc::make_mut(start).kernel = release.to_owned();
        }
        let all = with(&[start], because(Cause::MmapLock, 40));
        has(only(&all), Action::NewerKernel)
    };
    assert!(on_kernel("6.1.0-28-amd64"));
    assert!(on_kernel("5.10.1"));
    assert!(!on_kernel("6.6.0"));
    assert!(!on_kernel("6.18.44-fc-v657"));
    assert!(!on_kernel("unheard of"));
    assert!(!has(
        only(&advised(because(Cause::MmapLock, 40))),
        Action::NewerKernel
    ));
}
