//! The past of pages: from what the programs saw of them to [`History`].

use faulttrace_ebpf::{HistoryEvent, NO_DISTANCE, PageRemoval, PageState, removal};

use super::clock::Clock;
use super::enrich::{SyscallNames, name_of};
use crate::model::{History, How, Past, Removal, Task};
use crate::process::Cgroups;

/// What an event says. Who filled the page cache is added elsewhere.
pub(super) fn history(
    event: &HistoryEvent,
    clock: Clock,
    names: &mut SyscallNames,
    cgroups: &mut Cgroups,
) -> History {
    let page = &event.page;
    // The programs may have seen the page and forgotten it, or not have looked yet.
    let blind = event.forgotten != 0 || event.watched_ns == 0;
    let past = if event.seen == 0 {
        Past::Unknown
    } else if page.removed_ns != 0 && page.added_ns != 0 {
        Past::Refault(Box::new(removal_of(page, clock, names, cgroups)))
    } else if page.removed_ns == 0 && !blind && event.watched_ns < event.start_ns {
        Past::FirstTouch
    } else {
        Past::Unknown
    };
    History {
        watched_ns: (event.watched_ns != 0).then(|| clock.unix_ns(event.watched_ns)),
        past,
    }
}

fn removal_of(
    page: &PageState,
    clock: Clock,
    names: &mut SyscallNames,
    cgroups: &mut Cgroups,
) -> Removal {
    let PageRemoval {
        how,
        syscall,
        tgid,
        tid,
        cgroup,
        comm,
    } = &page.removal;
    Removal {
        removed_ns: clock.unix_ns(page.removed_ns),
        cached_ns: (page.cached_ns != 0).then(|| clock.unix_ns(page.cached_ns)),
        how: how_of(*how),
        by: Task {
            pid: *tgid,
            tid: *tid,
            name: name_of(comm),
            syscall: names.name(*syscall),
        },
        cgroup: cgroups.path(*cgroup),
        distance_pages: (page.distance != NO_DISTANCE).then_some(page.distance),
        filled: None,
    }
}

fn how_of(how: u32) -> How {
    match how {
        removal::KSWAPD => How::Kswapd,
        removal::DIRECT_RECLAIM => How::DirectReclaim,
        removal::MEMCG_RECLAIM => How::MemcgReclaim,
        removal::OTHER_RECLAIM => How::OtherReclaim,
        removal::DROP_CACHES => How::DropCaches,
        removal::FADVISE => How::Fadvise,
        removal::TRUNCATE => How::Truncate,
        removal::INVALIDATE => How::Invalidate,
        _ => How::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use faulttrace_ebpf::NO_SYSCALL;

    use super::*;

    /// The page was added at 20 and removed at 30, added again at 90, for a fault that began at 80.
    fn event() -> HistoryEvent {
        // SAFETY: integers only; zero is a value of each.
        let mut event: HistoryEvent = unsafe { std::mem::zeroed() };
        (event.seen, event.tid, event.start_ns) = (1, 7, 80);
        event.watched_ns = 10;
        let page = &mut event.page;
        (page.cached_ns, page.removed_ns, page.added_ns) = (20, 30, 90);
        (page.distance, page.removal.how) = (5, removal::MEMCG_RECLAIM);
        page.removal.syscall = NO_SYSCALL;
        event
    }

    fn past(event: &HistoryEvent) -> Past {
        let clock = Clock::of(0);
        let cgroups = &mut Cgroups::default();
        history(event, clock, &mut SyscallNames::default(), cgroups).past
    }

    #[test]
    fn a_page_that_was_removed_and_read_again_is_a_refault() {
        let Past::Refault(removal) = past(&event()) else {
            panic!("no refault")
        };
        let times = (removal.cached_ns, removal.removed_ns);
        assert_eq!(times, (Some(20), 30));
        assert_eq!(
            (removal.how, removal.distance_pages),
            (How::MemcgReclaim, Some(5))
        );
        let mut before = event();
        (before.page.cached_ns, before.page.distance) = (0, NO_DISTANCE);
        let Past::Refault(removal) = past(&before) else {
            panic!("no refault")
        };
        assert_eq!((removal.cached_ns, removal.distance_pages), (None, None));
    }

    #[test]
    fn a_first_touch_is_one_only_if_it_would_have_been_seen() {
        let mut first = event();
        (first.page.cached_ns, first.page.removed_ns) = (0, 0);
        assert_eq!(past(&first), Past::FirstTouch);
        for blind in [
            HistoryEvent {
                forgotten: 1,
                ..first
            },
            HistoryEvent {
                watched_ns: 80,
                ..first
            },
            HistoryEvent {
                watched_ns: 0,
                ..first
            },
            HistoryEvent { seen: 0, ..first },
        ] {
            assert_eq!(past(&blind), Past::Unknown);
        }
        // Removed once more since, so that the removal before is not known any more.
        let mut again = event();
        again.page.added_ns = 0;
        assert_eq!(past(&again), Past::Unknown);
    }
}
