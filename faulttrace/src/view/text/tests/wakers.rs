//! Who held the lock that a fault waited for.

use super::{plain, start};
use crate::model::summary::samples::{fault, record};
use crate::model::{Cause, Name, Task, Waker};

/// What is said of a wait for `mmap_lock` that this task, or nobody known, ended.
fn waited(waker: Option<Waker>) -> String {
    let mut one = fault();
    one.facts.cause = Some(Cause::MmapLock);
    if let Some(sleep) = &mut one.longest_sleep {
        sleep.waker = waker;
    }
    let text = plain(&[start(), record(one)]);
    let line = text.lines().find(|line| line.contains("waited for"));
    line.expect("what it waited for").trim().to_owned()
}

fn task(pid: u32, tid: u32, syscall: Option<&str>) -> Option<Waker> {
    Some(Waker::Task(Task {
        pid,
        tid,
        name: Name::from("w\n2"),
        syscall: syscall.map(Name::from),
    }))
}

#[test]
fn the_holder_of_mmap_lock_is_named_with_its_call() {
    let head = "waited for the lock of the address space, held";
    assert_eq!(
        waited(task(4700, 4712, Some("mprotect"))),
        format!(r"{head} last by w\n2[4712], in mprotect()")
    );
    assert_eq!(
        waited(task(4700, 4712, None)),
        format!(r"{head} last by w\n2[4712]")
    );
    assert_eq!(
        waited(task(9, 10, Some("read"))),
        format!(r"{head} last by w\n2[10] of process 9, in read()")
    );
    assert_eq!(
        waited(task(0, 0, None)),
        format!(r"{head} last by w\n2 outside this pid namespace")
    );
    for unknown in [None, Some(Waker::Interrupt)] {
        assert_eq!(waited(unknown), format!("{head} by another thread"));
    }
}
