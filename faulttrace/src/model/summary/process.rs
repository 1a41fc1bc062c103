//! The totals of one process, or of several together.

use std::sync::Arc;

use hdrhistogram::Histogram;

use super::pasts::Pasts;
use super::room::Room;
use super::table::{ByCause, ByFile, ByStack, ByThread};
use super::{FileKey, Remainder, StackKey, Tally, ThreadKey};
use crate::model::ps::PsTotals;
use crate::model::{Devices, End, Facts, Fault, GoProcess, ProcessInfo, Stack, Stuck};

/// A fault that was reported as stuck and not seen to end.
#[derive(Debug, Clone)]
pub struct StillStuck {
    /// The latest report of it.
    pub stuck: Arc<Stuck>,
    /// Its process ended, so the thread is gone; only the fault's own end was not seen.
    pub process_ended: bool,
}

/// What the faults of one process add up to.
#[derive(Debug, Clone, Default)]
pub struct ProcessSummary {
    /// `None` for several processes together.
    pub pid: Option<u32>,
    /// Name and executable, as last seen.
    pub info: Option<ProcessInfo>,
    /// The Go program it runs, as last seen.
    pub go: Option<Arc<GoProcess>>,
    /// Since when its goroutines have been told, Unix time ns.
    go_since_ns: Option<u64>,
    /// When it was sampled last, Unix time ns.
    sampled_ns: Option<u64>,
    /// All faults.
    pub tally: Tally,
    /// Faults whose end is approximate.
    pub approximate: u64,
    /// Faults in which the thread died.
    pub died: u64,
    /// Faults that began before faulttrace attached: their times are lower bounds.
    pub began_before_attach: u64,
    /// Faults whose beginning was not seen: their durations are lower bounds.
    pub begin_approximate: u64,
    /// By thread.
    pub by_thread: ByThread,
    /// By file.
    pub by_file: ByFile,
    /// By user stack.
    pub by_stack: ByStack,
    /// By cause.
    pub by_cause: ByCause,
    /// What was known of the pages that were waited for.
    pub pasts: Pasts,
    /// What block devices did, see [`Summary::devices`](super::Summary::devices).
    pub(super) devices: Devices,
    /// Growth of the kernel's `maj_flt`; `None` if unknown for (one of) the process(es).
    pub maj_flt_delta: Option<u64>,
    /// Processes counted here whose `maj_flt` was reported, readable or not.
    accounted: u64,
    /// `None` until the first fault. Two digits: percentiles are right to 1 %.
    durations: Option<Box<Histogram<u64>>>,
}

/// Significant digits of the histogram.
const DIGITS: u8 = 2;

impl ProcessSummary {
    pub(super) fn new(pid: Option<u32>) -> Self {
        ProcessSummary {
            pid,
            ..ProcessSummary::default()
        }
    }

    pub(super) fn add(&mut self, fault: &Fault, room: &mut Room) {
        let mut tally = Tally::default();
        tally.add(fault);
        self.credit(&fault.facts, fault.end, &tally, true, room);
        self.record_durations(fault.duration_ns, 1);
        if let Some(history) = &fault.history {
            self.pasts.add(history, fault.blocked_ns);
        }
        let io = fault.io.as_deref();
        self.devices.add(io, fault.facts.cause, fault.blocked_ns);
    }

    /// Counts faults that are alike but for their numbers, which `tally` has added up; all but
    /// their durations, for [`ProcessSummary::record_durations`]. `latest`: no fault counted
    /// before is later, so the thread's name is the latest.
    pub(super) fn credit(
        &mut self,
        facts: &Facts,
        end: End,
        tally: &Tally,
        latest: bool,
        room: &mut Room,
    ) {
        self.tally.merge(tally);
        let faults = tally.faults;
        match end {
            End::Exact => {}
            End::Approximate => self.approximate = self.approximate.saturating_add(faults),
            End::Died => self.died = self.died.saturating_add(faults),
        }
        if facts.began_before_attach {
            self.began_before_attach = self.began_before_attach.saturating_add(faults);
        }

        if facts.begin_approximate {
            self.begin_approximate = self.begin_approximate.saturating_add(faults);
        }

        let key = ThreadKey::of(facts);
        let thread = Some(&facts.thread);
        let named = |room: &mut Room| room.take_name(thread).then(|| facts.thread.clone());
        let (sum, name) = self.by_thread.at(key, named, room);
        sum.merge(tally);
        if let Some(name) = name
            && latest
            && *name != facts.thread
            && room.rename(name, &facts.thread)
        {
            *name = facts.thread.clone();
        }
        let key = FileKey::of(&facts.place);
        let path = facts.place.path.as_ref();
        let file = self
            .by_file
            .at(key, |room| room.take_name(path).then_some(()), room);
        file.0.merge(tally);
        let stack = facts.user_stack.as_ref();
        let key = StackKey::of(facts);
        self.by_stack
            .at(key, |room| share(stack, room), room)
            .0
            .merge(tally);
        self.by_cause
            .at(facts.cause, |_| Some(()), room)
            .0
            .merge(tally);
    }

    pub(super) fn account(&mut self, maj_flt_delta: Option<u64>) {
        self.maj_flt_delta = match (self.accounted, self.maj_flt_delta, maj_flt_delta) {
            (0, _, new) => new,
            (_, Some(sum), Some(new)) => Some(sum.saturating_add(new)),
            // Part of a sum that is unknown makes the sum unknown.
            (_, _, _) => None,
        };
        self.accounted += 1;
    }

    /// What it runs, or ran earlier.
    pub(super) fn runs_go(&mut self, time_ns: u64) {
        let since_ns = self.go_since_ns.get_or_insert(time_ns);
        *since_ns = time_ns.min(*since_ns);
    }

    /// It was there at this time.
    pub(super) fn sampled(&mut self, time_ns: u64) {
        self.sampled_ns = self.sampled_ns.max(Some(time_ns));
    }

    /// How much time of Ps there was while its goroutines were told, after `since_ns`, ns; `None` if that is
    /// not known, as when GOMAXPROCS has changed.
    pub fn ps_time_ns(&self, ps: &PsTotals, since_ns: u64) -> Option<u64> {
        let (least, most) = ps.procs.filter(|_| ps.unknown_ns == 0)?;
        let since_ns = self.go_since_ns?.max(since_ns);
        let told_ns = self.sampled_ns?.checked_sub(since_ns)?;
        let all_ns = told_ns.saturating_mul(most.into());
        // More can be lost by faults that began before.
        (least == most && all_ns >= ps.lost_ns()).then_some(all_ns)
    }

    pub(super) fn merge(&mut self, other: &ProcessSummary, room: &mut Room) {
        self.tally.merge(&other.tally);
        self.approximate += other.approximate;
        self.died += other.died;
        self.began_before_attach += other.began_before_attach;
        self.begin_approximate += other.begin_approximate;
        self.by_thread.merge(&other.by_thread, room);
        self.by_file.merge(&other.by_file, room);
        self.by_stack.merge(&other.by_stack, room);
        self.by_cause.merge(&other.by_cause, room);
        self.pasts.merge(&other.pasts);
        self.devices.merge(&other.devices);
        self.account(other.maj_flt_delta);
        if let Some(theirs) = &other.durations {
            // Auto-resizing histograms of the same precision: adding cannot fail.
            match &mut self.durations {
                Some(ours) => drop(ours.add(theirs.as_ref())),
                None => self.durations = Some(theirs.clone()),
            }
        }
    }

    /// The duration below which `percentile` per cent (0 to 100) of the faults stay, ns, right to
    /// 1 % of its value; `None` without faults. The maximum is exact: [`Tally::max_ns`].
    pub fn duration_percentile_ns(&self, percentile: f64) -> Option<u64> {
        let durations = self.durations.as_ref()?;
        // The histogram answers with the upper end of a bucket, which no fault may have reached.
        Some(
            durations
                .value_at_percentile(percentile)
                .min(self.tally.max_ns),
        )
    }

    /// The majors reported against the kernel's count, as if no filter had held any back.
    pub(super) fn remainder(&self) -> Remainder {
        Remainder {
            maj_flt_delta: self.maj_flt_delta,
            majors: self.tally.majors,
            ..Remainder::default()
        }
    }

    /// `count` faults of this duration.
    pub(super) fn record_durations(&mut self, duration_ns: u64, count: u64) {
        if self.durations.is_none() {
            self.durations = Histogram::new(DIGITS).ok().map(Box::new);
        }
        if let Some(durations) = &mut self.durations {
            // Fails only if the table cannot grow to the value; then it counts at the top.
            if durations.record_n(duration_ns, count).is_err() {
                durations.saturating_record_n(duration_ns, count);
            }
        }
    }
}

/// A stack as the tables keep it: none is kept as none.
#[expect(clippy::option_option, reason = "outside is room, inside is the stack")]
fn share(stack: Option<&Arc<Stack>>, room: &mut Room) -> Option<Option<Arc<Stack>>> {
    match stack {
        None => Some(None),
        Some(stack) => room.share(stack).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_ps_is_told_while_it_is_known() {
        let mut process = ProcessSummary::default();
        let ps = |procs, lost| PsTotals {
            levels_ns: vec![0, lost],
            procs: Some(procs),
            ..PsTotals::default()
        };
        assert_eq!(process.ps_time_ns(&ps((2, 2), 1), 0), None);
        for time_ns in [500, 200] {
            process.runs_go(time_ns);
            process.sampled(time_ns + 400);
        }
        assert_eq!(process.ps_time_ns(&ps((2, 2), 1), 0), Some(1400));
        assert_eq!(process.ps_time_ns(&ps((2, 2), 1), 800), Some(200));
        assert_eq!(process.ps_time_ns(&ps((2, 2), 201), 800), None);
        assert_eq!(process.ps_time_ns(&ps((2, 3), 1), 0), None);
        let mut unknown = ps((2, 2), 1);
        unknown.unknown_ns = 1;
        assert_eq!(process.ps_time_ns(&unknown, 0), None);
    }
}
