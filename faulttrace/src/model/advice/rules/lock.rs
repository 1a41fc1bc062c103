//! `mmap_lock`: what changes the address space while threads of the process fault, by who held the lock.

use super::avoid;
use crate::model::Cause;
use crate::model::advice::holders::{Holder, Holders};
use crate::model::advice::{About, Action, Advice, Evidence, Findings, ProcessFindings, Rule};

/// From this version on the kernel takes faults on files, too, without `mmap_lock` (per-VMA locks).
const WITHOUT_LOCK: (u32, u32) = (6, 6);
/// Calls in which less than one in so many ns was waited for the lock are not what to change.
const PER_WAITED: u64 = 10;

/// Waits for the lock of the address space.
pub(super) fn lock(findings: &Findings, process: &ProcessFindings) -> Option<Advice> {
    let holders = process.lock_holders.as_ref();
    let mut actions = holders.map_or_else(Vec::new, actions);
    if actions.is_empty() {
        // Faults hold the lock together: that they waited at all is the evidence that it was changed.
        actions.push(Action::FewerMappings);
    }
    if findings.kernel.is_some_and(|kernel| kernel < WITHOUT_LOCK) {
        actions.push(Action::NewerKernel);
    }
    let about = About::Process(process.pid);
    let mut advice = avoid(
        Rule::MmapLock,
        about,
        &process.cause(Cause::MmapLock),
        actions,
    )?;
    if let Some(holders) = holders {
        advice
            .evidence
            .push(Evidence::Holders(Box::new(holders.clone())));
    }
    Some(advice)
}

/// What the calls are about in which the lock was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Memory is mapped.
    Map,
    /// Mappings go, move, or are changed otherwise.
    Unmap,
    /// The heap grows or shrinks.
    Heap,
    Protect,
    Advise,
    Fork,
    /// Another process looks in.
    Look(u32),
    /// Nothing that says what to do: faults themselves, threads of the kernel, other calls.
    Other,
}

impl Kind {
    fn of(holder: &Holder) -> Self {
        let Some(call) = &holder.syscall else {
            return Kind::Other;
        };
        match call.as_bytes() {
            b"mmap" | b"mmap2" | b"shmat" => Kind::Map,
            b"munmap" | b"mremap" | b"shmdt" | b"mlock" | b"mlock2" | b"mlockall" | b"munlock"
            | b"munlockall" | b"mbind" => Kind::Unmap,
            b"brk" => Kind::Heap,
            b"mprotect" | b"pkey_mprotect" => Kind::Protect,
            b"process_madvise" if holder.is_other => Kind::Look(holder.pid),
            b"madvise" | b"process_madvise" => Kind::Advise,
            // Of a thread it makes no copy of the address space, and does not hold the lock for long.
            b"fork" | b"clone" | b"clone3" => Kind::Fork,
            b"read" | b"pread64" | b"readv" | b"preadv" | b"preadv2" | b"write" | b"ioctl"
            | b"process_vm_readv" | b"process_vm_writev" | b"ptrace"
                if holder.is_other =>
            {
                Kind::Look(holder.pid)
            }
            _ => Kind::Other,
        }
    }

    fn actions(self) -> &'static [Action] {
        match self {
            Kind::Map => &[Action::FewerMappings, Action::MapPopulate],
            Kind::Unmap | Kind::Other => &[Action::FewerMappings],
            Kind::Heap => &[Action::KeepHeap],
            Kind::Protect => &[Action::FewerMprotects],
            Kind::Advise => &[Action::FewerMadvises],
            Kind::Fork => &[Action::SpawnNotFork],
            Kind::Look(_) => &[],
        }
    }
}

/// What there is evidence for: the calls that were waited for longest first.
fn actions(holders: &Holders) -> Vec<Action> {
    let mut kinds: Vec<(Kind, u64)> = Vec::new();
    let mut add = |kind, more_ns: u64| match kinds.iter_mut().find(|(known, _)| *known == kind) {
        Some((_, sum_ns)) => *sum_ns = sum_ns.saturating_add(more_ns),
        None => kinds.push((kind, more_ns)),
    };
    for (holder, waited) in &holders.rows {
        add(Kind::of(holder), waited.blocked_ns);
    }
    add(Kind::Other, holders.beyond.blocked_ns);
    add(Kind::Other, holders.unknown.blocked_ns);
    let all_ns = holders.all().blocked_ns;
    kinds.retain(|(kind, ns)| match kind {
        // Most of it would have to be.
        Kind::Other => *ns > all_ns / 2,
        _ => *ns >= (all_ns / PER_WAITED).max(1),
    });
    kinds.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let mut actions = Vec::new();
    for (kind, _) in kinds {
        let look = match kind {
            Kind::Look(pid) => Some(Action::FewerLooks {
                pid: crate::model::known_id(pid),
            }),
            _ => None,
        };
        for action in look.into_iter().chain(kind.actions().iter().copied()) {
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
    }
    actions
}
