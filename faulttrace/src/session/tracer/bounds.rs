//! Which faults are of the time of tracing: of majors, those that the kernel's counts of it have.

use faulttrace_ebpf::{FaultEvent, flag};

/// The time of tracing, by the programs' clock.
pub(in crate::session) struct Bounds {
    /// When everything was attached.
    pub(super) begin_ns: u64,
    /// When it was decided to end.
    pub(super) end_ns: u64,
    /// The kernel's counts are about to be read: what is taken from the ring now may be told after that.
    pub(super) counts_ending: bool,
    /// When majors were not told any more.
    pub(super) majors_over_ns: Option<u64>,
}

impl Bounds {
    /// It has begun.
    pub(in crate::session) fn since(begin_ns: u64) -> Self {
        Self {
            begin_ns,
            end_ns: u64::MAX,
            counts_ending: false,
            majors_over_ns: None,
        }
    }

    /// Whether a fault is of another time, or may be.
    pub(super) fn leave_out(&self, event: &FaultEvent) -> bool {
        let is = |what: u32| event.flags & what == what;
        let outside = event.end_ns < self.begin_ns || event.end_ns > self.end_ns;
        if is(flag::MAJOR_BY_COUNT) {
            return outside || self.may_be_counted_elsewhere(event);
        }
        let over_ns = self.majors_over_ns;
        let told = is(flag::MAJOR) && over_ns.is_none_or(|over_ns| event.end_ns <= over_ns);
        // Majors are told by the kernel's event from right after the counts of their begin were read until right
        // before those of their end. Of others nothing would have told whether they were major.
        outside && !told
    }

    /// Of a major that only the thread's own count tells of, and not an event at its completion.
    fn may_be_counted_elsewhere(&self, event: &FaultEvent) -> bool {
        let is = |what: u32| event.flags & what == what;
        // Completed before there were events, and before the counts were read; a fault without an exception never has
        // one.
        let before = event.start_ns < self.begin_ns && !is(flag::GUP);
        // A thread that is preempted on its way out has its fault told then, as having ended when it was last seen.
        let after = self.counts_ending && is(flag::APPROXIMATE_END);
        before || after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_COUNT: u32 = flag::MAJOR | flag::MAJOR_BY_COUNT;

    fn event(flags: u32, start_ns: u64, end_ns: u64) -> FaultEvent {
        // SAFETY: integers only; zero is a value of each.
        let mut event: FaultEvent = unsafe { std::mem::zeroed() };
        (event.flags, event.start_ns, event.end_ns) = (flags, start_ns, end_ns);
        event
    }

    #[test]
    fn minors_are_of_the_time_in_which_they_end() {
        let bounds = Bounds {
            end_ns: 200,
            ..Bounds::since(100)
        };
        let out = |start_ns, end_ns| bounds.leave_out(&event(0, start_ns, end_ns));
        assert!(out(50, 99) && out(150, 201));
        assert!(!out(50, 100) && !out(150, 200));
    }

    #[test]
    fn majors_are_of_it_as_long_as_their_event_is_told() {
        let mut bounds = Bounds {
            end_ns: 200,
            ..Bounds::since(100)
        };
        let major = |end_ns| event(flag::MAJOR, 50, end_ns);
        assert!(!bounds.leave_out(&major(99)) && !bounds.leave_out(&major(210)));
        bounds.majors_over_ns = Some(205);
        assert!(!bounds.leave_out(&major(205)));
        assert!(bounds.leave_out(&major(206)));
    }

    #[test]
    fn majors_by_count_are_of_it_if_they_were_certainly_counted_in_it() {
        let mut bounds = Bounds {
            end_ns: 200,
            ..Bounds::since(100)
        };
        assert!(!bounds.leave_out(&event(BY_COUNT, 100, 150)));
        assert!(bounds.leave_out(&event(BY_COUNT, 99, 150)));
        assert!(!bounds.leave_out(&event(BY_COUNT | flag::GUP, 99, 150)));
        assert!(bounds.leave_out(&event(BY_COUNT | flag::GUP, 50, 99)));
        assert!(bounds.leave_out(&event(BY_COUNT, 150, 201)));
        let approximate = event(BY_COUNT | flag::APPROXIMATE_END, 150, 160);
        assert!(!bounds.leave_out(&approximate));
        bounds.counts_ending = true;
        assert!(bounds.leave_out(&approximate));
        assert!(!bounds.leave_out(&event(BY_COUNT, 150, 160)));
    }
}
