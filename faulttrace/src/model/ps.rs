//! The Ps of a Go program that threads hold in page faults: how many at each moment, and when none was
//! left to run a goroutine with.
//!
//! Times come in pieces during which the same threads were in faults, one after another in either
//! direction, from whoever goes through the faults.

use super::Goroutine;

/// Gaps between two times in which all Ps were stuck that make it one: a thread that goes from one fault
/// straight into the next lets nobody else run in between. The runtime lets a goroutine run for 10 ms
/// before it looks for another (runtime/proc.go, `forcePreemptNS`), so that such a gap is too short for
/// anything but another goroutine's turn.
const MAX_GAP_NS: u64 = 100_000;
/// Ps told apart.
const MAX_PS: usize = 4096;

/// A thread that is in a fault and holds a P.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    /// Unix time, ns.
    pub(crate) begin_ns: u64,
    /// Unix time, ns; the largest number if it is not over.
    pub(crate) end_ns: u64,
    /// The goroutine that it runs.
    goroutine: Option<u64>,
    /// The P's number.
    p: u32,
    procs: Option<u32>,
    local: Option<u32>,
    global: Option<u32>,
    global_at_end: Option<u32>,
}

impl Held {
    /// `None` if a thread that is at this holds no P, as far as is known.
    pub(crate) fn of(
        goroutine: Option<&Goroutine>,
        (begin_ns, end_ns): (u64, u64),
    ) -> Option<Self> {
        let goroutine = goroutine?;
        Some(Held {
            begin_ns,
            end_ns,
            goroutine: goroutine.id,
            p: goroutine.p?,
            // A trace that others wrote may say so.
            procs: goroutine.procs.filter(|procs| *procs != 0),
            local: goroutine.queued_local,
            global: goroutine.queued_global,
            global_at_end: goroutine.queued_global_at_end,
        })
    }
}

/// A time in which every P of a program was stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullStall {
    /// Unix time, ns.
    pub begin_ns: u64,
    /// Unix time, ns.
    pub end_ns: u64,
    /// Of that, how long all were stuck, without the gaps between one fault and the next, ns.
    pub stuck_ns: u64,
    /// GOMAXPROCS.
    pub procs: u32,
    /// Goroutines that were ready to run and could not, the most that were seen; `None` if none of the
    /// queues could be read.
    pub queued: Option<u64>,
}

impl FullStall {
    /// From its begin to its end, ns.
    pub fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }
}

/// What it adds up to for one program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PsTotals {
    /// For how long exactly so many Ps were stuck at once, by their number, ns. None: not followed.
    pub levels_ns: Vec<u64>,
    /// For how long all were, ns.
    pub full_ns: u64,
    /// How often.
    pub full_count: u64,
    /// The longest time.
    pub longest: Option<FullStall>,
    /// The most goroutines that were seen to be ready to run while all Ps were stuck.
    pub most_queued: Option<u64>,
    /// GOMAXPROCS while Ps were stuck: the least and the most.
    pub procs: Option<(u32, u32)>,
    /// For how long Ps were stuck while it was not known how many there are, ns.
    pub unknown_ns: u64,
}

impl PsTotals {
    /// Time of Ps that was lost: each counts for itself, ns.
    pub fn lost_ns(&self) -> u64 {
        let levels = (0_u64..).zip(&self.levels_ns);
        levels.fold(0, |sum, (ps, ns)| {
            sum.saturating_add(ps.saturating_mul(*ns))
        })
    }

    /// For how long at least so many Ps were stuck, ns.
    pub fn at_least_ns(&self, ps: usize) -> u64 {
        let levels = self.levels_ns.iter().skip(ps);
        levels.fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// Whether any P was seen to be stuck.
    pub fn is_empty(&self) -> bool {
        self.levels_ns.is_empty()
    }

    fn add(&mut self, ps: usize, ns: u64) {
        let ps = ps.min(MAX_PS);
        if self.levels_ns.len() <= ps {
            self.levels_ns.resize(ps + 1, 0);
        }
        if let Some(level) = self.levels_ns.get_mut(ps) {
            *level = level.saturating_add(ns);
        }
    }
}

/// The fold over the times.
#[derive(Debug, Default)]
pub(crate) struct Ps {
    pub(crate) totals: PsTotals,
    open: Option<FullStall>,
    /// All were stuck in the last piece.
    is_full: bool,
    /// Room for who holds which.
    holders: Vec<(Option<u64>, u64, u32)>,
    /// Room for the numbers of Ps.
    numbers: Vec<u32>,
}

impl Ps {
    /// From `begin_ns` to `end_ns`, a time next to those that came before, these threads held Ps.
    /// Returns a stall that is over by that.
    pub(crate) fn pass(
        &mut self,
        (begin_ns, end_ns): (u64, u64),
        held: impl Iterator<Item = Held> + Clone,
    ) -> Option<FullStall> {
        if begin_ns >= end_ns {
            return None;
        }
        let mut over = self.leave(begin_ns, end_ns);
        self.is_full = false;
        let length_ns = end_ns - begin_ns;
        let procs = held.clone().filter_map(|one| one.procs).max();
        let mut ps = self.distinct(held.clone());
        match procs {
            Some(procs) => ps = ps.min(procs as usize),
            None if ps > 0 => {
                self.totals.unknown_ns = self.totals.unknown_ns.saturating_add(length_ns);
            }
            None => {}
        }
        if ps > 0 {
            self.totals.add(ps, length_ns);
        }
        if let Some(procs) = procs {
            let (least, most) = self.totals.procs.unwrap_or((procs, procs));
            self.totals.procs = Some((least.min(procs), most.max(procs)));
            self.is_full = ps >= procs as usize;
            if self.is_full {
                self.full((begin_ns, end_ns), procs, queued((begin_ns, end_ns), held));
                return over;
            }
        }
        // What is further away than this piece reaches cannot be part of it any more.
        if let Some(open) = self.open {
            let far_ns = end_ns
                .saturating_sub(open.end_ns)
                .max(open.begin_ns.saturating_sub(begin_ns));
            if far_ns > MAX_GAP_NS {
                over = self.finish();
            }
        }
        over
    }

    /// How many Ps these threads hold. Ends of faults may be approximate, so that two seem to hold the same;
    /// or a goroutine seems to be in two faults, of which the earlier is over.
    fn distinct(&mut self, held: impl Iterator<Item = Held>) -> usize {
        self.holders.clear();
        let holders = held.map(|one| (one.goroutine, one.begin_ns, one.p));
        self.holders.extend(holders);
        self.holders.sort_unstable();
        self.numbers.clear();
        let next = self.holders.iter().skip(1).map(Some).chain([None]);
        let last = self.holders.iter().zip(next).filter(|(one, next)| {
            let same = next.is_some_and(|next| next.0 == one.0);
            one.0.is_none() || !same
        });
        self.numbers.extend(last.map(|((_, _, p), _)| *p));
        self.numbers.sort_unstable();
        self.numbers.dedup();
        self.numbers.len()
    }

    /// Whether all were stuck in the last piece.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// The stall under way, if any.
    pub(crate) fn under_way(&self) -> Option<FullStall> {
        self.open
    }

    /// There is no more: the stall that was under way.
    pub(crate) fn finish(&mut self) -> Option<FullStall> {
        let over = self.open.take()?;
        self.close(&over);
        Some(over)
    }

    /// Ends the stall that is too far from this time to go on in it.
    fn leave(&mut self, begin_ns: u64, end_ns: u64) -> Option<FullStall> {
        let open = self.open?;
        let gap_ns = begin_ns
            .saturating_sub(open.end_ns)
            .max(open.begin_ns.saturating_sub(end_ns));
        (gap_ns > MAX_GAP_NS).then(|| self.finish()).flatten()
    }

    fn full(&mut self, (begin_ns, end_ns): (u64, u64), procs: u32, queued: Option<u64>) {
        let length_ns = end_ns - begin_ns;
        self.totals.full_ns = self.totals.full_ns.saturating_add(length_ns);
        let open = self.open.get_or_insert(FullStall {
            begin_ns,
            end_ns,
            stuck_ns: 0,
            procs,
            queued: None,
        });
        open.begin_ns = open.begin_ns.min(begin_ns);
        open.end_ns = open.end_ns.max(end_ns);
        open.stuck_ns = open.stuck_ns.saturating_add(length_ns);
        open.procs = open.procs.max(procs);
        open.queued = open.queued.max(queued);
    }

    fn close(&mut self, over: &FullStall) {
        let totals = &mut self.totals;
        totals.full_count = totals.full_count.saturating_add(1);
        totals.most_queued = totals.most_queued.max(over.queued);
        let longest_ns = totals.longest.map_or(0, |one| one.length_ns());
        if over.length_ns() > longest_ns {
            totals.longest = Some(*over);
        }
    }
}

/// Goroutines that were ready to run at the edges of this time: those in the queues of the Ps that are
/// stuck, to which nothing is added meanwhile, and those in the queue of all, as it was read when one of
/// the faults began or ended.
fn queued((begin_ns, end_ns): (u64, u64), held: impl Iterator<Item = Held> + Clone) -> Option<u64> {
    let local = held.clone().filter_map(|one| one.local);
    let local = local.map(u64::from).reduce(u64::saturating_add);
    let began = |one: &Held| (one.begin_ns >= begin_ns).then_some(one.global).flatten();
    let ended = |one: &Held| {
        (one.end_ns <= end_ns)
            .then_some(one.global_at_end)
            .flatten()
    };
    let global = held.filter_map(|one| began(&one).max(ended(&one)));
    match (local, global.max()) {
        (None, None) => None,
        (local, global) => Some(
            local
                .unwrap_or(0)
                .saturating_add(global.map_or(0, u64::from)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Each of another P, by when it begins.
    fn held(begin_ns: u64, end_ns: u64) -> Held {
        Held {
            begin_ns,
            end_ns,
            goroutine: None,
            p: u32::try_from((begin_ns ^ end_ns) % 1_000_003).expect("small"),
            procs: Some(2),
            local: Some(3),
            global: Some(10),
            global_at_end: Some(40),
        }
    }

    /// Passes the times between the edges of these faults, in one direction or the other.
    fn sweep(faults: &[Held], forwards: bool) -> (Ps, Vec<FullStall>) {
        let mut edges: Vec<u64> = faults
            .iter()
            .flat_map(|one| [one.begin_ns, one.end_ns])
            .collect();
        edges.sort_unstable();
        let mut pieces: Vec<(u64, u64)> = edges.windows(2).map(|at| (at[0], at[1])).collect();
        if !forwards {
            pieces.reverse();
        }
        let mut ps = Ps::default();
        let mut over = Vec::new();
        for (begin, end) in pieces {
            let under_way = |one: &Held| one.begin_ns <= begin && one.end_ns >= end;
            let now = faults.iter().copied().filter(under_way);
            over.extend(ps.pass((begin, end), now));
        }
        over.extend(ps.finish());
        (ps, over)
    }

    #[test]
    fn levels_add_up_to_the_time_of_all() {
        let faults = [held(0, 10 * MS), held(4 * MS, 20 * MS)];
        for forwards in [true, false] {
            let (ps, over) = sweep(&faults, forwards);
            assert_eq!(ps.totals.levels_ns, [0, 14 * MS, 6 * MS]);
            assert_eq!(ps.totals.lost_ns(), 26 * MS);
            assert_eq!(ps.totals.at_least_ns(1), 20 * MS);
            assert_eq!((ps.totals.full_ns, ps.totals.full_count), (6 * MS, 1));
            assert_eq!(ps.totals.procs, Some((2, 2)));
            let longest = ps.totals.longest.expect("one");
            assert_eq!(over, [longest]);
            assert_eq!((longest.begin_ns, longest.end_ns), (4 * MS, 10 * MS));
            // Both queues of Ps, and what waited for all when it ended.
            assert_eq!(longest.queued, Some(46));
        }
    }

    #[test]
    fn one_fault_after_another_is_one_stall() {
        let gap = 30_000;
        let faults = [
            held(0, 50 * MS),
            held(0, 10 * MS),
            held(10 * MS + gap, 20 * MS),
            held(25 * MS, 50 * MS),
        ];
        for forwards in [true, false] {
            let (ps, over) = sweep(&faults, forwards);
            assert_eq!(over.len(), 2, "{over:?}");
            let first = over.iter().find(|one| one.begin_ns == 0).expect("one");
            assert_eq!(
                (first.length_ns(), first.stuck_ns),
                (20 * MS, 20 * MS - gap)
            );
            assert_eq!(ps.totals.full_ns, 45 * MS - gap);
            assert_eq!(ps.totals.longest.map(|one| one.length_ns()), Some(25 * MS));
        }
    }

    #[test]
    fn a_goroutine_is_in_one_fault_at_a_time() {
        // The end of its first is approximate: it begins the next before.
        let of = |goroutine, begin, end| Held {
            goroutine,
            ..held(begin * MS, end * MS)
        };
        let faults = [of(Some(1), 0, 25), of(Some(1), 20, 40)];
        for forwards in [true, false] {
            let (ps, over) = sweep(&faults, forwards);
            assert_eq!(ps.totals.levels_ns[1..], [40 * MS]);
            assert!(over.is_empty(), "{over:?}");
            let other = [faults[0], of(Some(2), 20, 40)];
            let (ps, _) = sweep(&other, forwards);
            assert_eq!(ps.totals.levels_ns[1..], [35 * MS, 5 * MS]);
            let runtime = [of(None, 0, 25), of(None, 20, 40)];
            assert_eq!(sweep(&runtime, forwards).0.totals.full_ns, 5 * MS);
        }
    }

    #[test]
    fn what_is_not_known_is_no_stall() {
        let mut one = held(0, MS);
        one.procs = None;
        (one.local, one.global, one.global_at_end) = (None, None, None);
        let (ps, over) = sweep(&[one], true);
        assert_eq!((ps.totals.unknown_ns, ps.totals.full_ns), (MS, 0));
        assert!(over.is_empty() && ps.totals.procs.is_none());
        one.procs = Some(1);
        let (_, over) = sweep(&[one], true);
        assert_eq!(over.first().map(|one| one.queued), Some(None));
    }

    #[test]
    fn no_more_are_stuck_than_there_are() {
        // The end of the first is approximate.
        let faults = [held(0, 10 * MS), held(0, 11 * MS), held(9 * MS, 10 * MS)];
        let (ps, _) = sweep(&faults, true);
        assert_eq!(ps.totals.levels_ns, [0, MS, 10 * MS]);
        // One P that two threads seem to hold is one.
        let mut same = [held(0, 10 * MS), held(5 * MS, 20 * MS)];
        same[1].p = same[0].p;
        let (ps, over) = sweep(&same, true);
        assert_eq!((ps.totals.levels_ns, over), (vec![0, 20 * MS], vec![]));
    }
}
