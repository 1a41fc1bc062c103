//! Reads of block devices as the tracer tells them, beside what the kernel's own tracer says.

use super::blocks::BlockRead;
use super::record::{Fault, Io};
use super::tracer::Trace;
use crate::mem::PAGE;

/// The faults that began reads, with what devices did for them.
pub fn with_io<'a>(trace: &'a Trace, pid: u32, device: &str) -> Vec<(&'a Fault, &'a Io)> {
    let faults = trace.faults(pid);
    faults.iter().for_each(|fault| fault.check_parts());
    let with = faults.into_iter().filter_map(|fault| {
        let io = fault.io.as_ref()?;
        (io.device.as_deref() == Some(device)).then_some((fault, io))
    });
    with.collect()
}

/// Sum over these faults.
pub fn sum(faults: &[(&Fault, &Io)], of: impl Fn(&Io) -> u64) -> u64 {
    faults.iter().map(|(_, io)| of(io)).sum()
}

/// Queued and served, ns, of one thread's faults with a read each, and the same by the kernel's tracer.
/// Now and then a CPU of the reference machine runs no BPF program for a while, so that a completion goes
/// unseen; that is told, and such faults are left out on both sides.
pub fn totals(trace: &Trace, faults: &[(&Fault, &Io)], reads: &[BlockRead]) -> [(u64, u64); 2] {
    assert_eq!(faults.len(), reads.len(), "a read for each fault");
    let [mut ours, mut theirs] = [(0, 0); 2];
    let mut unseen = 0;
    for ((_, io), read) in faults.iter().zip(reads) {
        let times = read.issued_us.zip(read.completed_us);
        let (Some((issued, completed)), 1) = (times, io.completed) else {
            unseen += 1;
            continue;
        };
        ours.0 += io.queued_ns;
        ours.1 += io.served_ns;
        theirs.0 += (issued - read.queued_us) * 1000;
        theirs.1 += (completed - issued) * 1000;
    }
    let told = trace.lost_for("io_completions_unseen");
    assert_eq!(told, unseen, "completions that were not seen are told");
    trace.check(unseen * 20 <= reads.len() as u64, || {
        format!("{unseen} of {} completions were not seen", reads.len())
    });
    [ours, theirs]
}

/// Panics unless both are the same but for some percent, and so much in addition.
pub fn agree(what: &str, ours: u64, theirs: u64, percent: u64, slack: u64) {
    eprintln!("{what}: {ours}, by another's account {theirs}");
    let most = theirs * percent / 100 + slack;
    assert!(
        ours.abs_diff(theirs) <= most,
        "{what}: {ours}, not {theirs}"
    );
}

/// Panics unless the fault waited, if it did, for a single page that it read itself.
pub fn check_single_page(fault: &Fault, io: &Io) {
    let counts = (io.requests, io.shared, io.elsewhere);
    assert!(
        counts == (1, 0, 0) && io.bytes == PAGE as u64,
        "one read of one page: {fault:?}"
    );
    // On a fast disk the page may be there before the thread sleeps for it.
    let did_not_sleep = fault.blocked_ns == 0 && fault.facts.cause.is_none();
    assert!(
        did_not_sleep || fault.facts.cause() == "file_read",
        "{fault:?}"
    );
}
