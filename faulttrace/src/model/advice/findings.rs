//! What the rules have to go by: the report's numbers and what was gathered, put together.

use std::collections::HashMap;

use super::gather::{Gather, OfFile};
use super::goroutines::{OfGo, PsFindings};
use super::holders::{Holders, OfHolders};
use super::pages::Again;
use super::reads::{Reads, Writes};
use super::settle::{MAX_MEMBERS, least_ns};
use super::{About, Advised, rules, settle};
use crate::model::analysis::{
    Evidence as Steps, HotRange, PAGE_BYTES, Part, Report, SLICES, SeriesKey,
};
use crate::model::summary::{FileKey, ProcessSummary, Remover, Tally, Waited, Who};
use crate::model::{AheadPages, Cause, Device, DeviceTotals, DeviceVerdict, Devices, LossClass};

/// All that the rules look at.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// How long the trace is, ns; `None` if that is not known.
    pub wall_ns: Option<u64>,
    /// How many faults there are.
    pub faults: u64,
    /// How long all of them blocked, ns.
    pub blocked_ns: u64,
    /// Version of the kernel, first two numbers; `None` if it is not told.
    pub kernel: Option<(u32, u32)>,
    /// Size of a page, bytes.
    pub page_bytes: u64,
    /// Files that were waited for.
    pub files: Vec<FileFindings>,
    /// Processes that had faults.
    pub processes: Vec<ProcessFindings>,
    /// Devices before which reads waited for their turn (`--io`).
    pub crowded: Vec<(Device, DeviceTotals)>,
    /// As in [`Advised`].
    pub faults_beyond: u64,
    /// As in [`Advised`].
    pub one_page_in: u64,
}

/// A file, over all processes.
#[derive(Debug, Clone)]
pub struct FileFindings {
    /// Which.
    pub file: FileKey,
    /// Ids of processes that waited for it, the lowest first.
    pub pids: Vec<u32>,
    /// Waits for reads.
    pub reads: Reads,
    /// Waits in order to write.
    pub writes: Writes,
    /// Waits for a FUSE server.
    pub fuse: Tally,
    /// Waits for an NFS server.
    pub nfs: Tally,
    /// Pages that came again.
    pub again: Again,
    /// What faults had read of it ahead; `None` if that was not told (`--evictions`).
    pub ahead: Option<AheadPages>,
    /// How threads and goroutines went through it; `None` if that is not known.
    pub steps: Option<Steps>,
    /// Where the faults were; `None` if that is not known.
    pub range: Option<HotRange>,
    /// How long threads of Go programs held Ps in faults on it, ns.
    pub held_ns: u64,
    /// Within how long from the beginning of the trace nearly all of its blocked time lies, and how long
    /// the trace is, ns; `None` unless that is early.
    pub early: Option<(u64, u64)>,
}

/// A process.
#[derive(Debug, Clone)]
pub struct ProcessFindings {
    /// Which.
    pub pid: u32,
    /// Its faults.
    pub all: Tally,
    /// Its faults by cause.
    pub causes: Vec<(Cause, Tally)>,
    /// Its memory that was swapped in.
    pub swapped: Again,
    /// What it read again that had been in memory, if that was looked at (`--evictions`): what reclaim
    /// had taken, and what had been dropped on purpose.
    pub removed: Option<[RemovedFindings; 2]>,
    /// When its threads were blocked at once; `None` if it has one thread, or none was.
    pub stalls: Option<StallFindings>,
    /// Who held the lock of its address space that its faults waited for; `None` if none did, or there
    /// were too many processes.
    pub lock_holders: Option<Holders>,
    /// The Ps of a Go program; `None` if at no time all were stuck.
    pub ps: Option<PsFindings>,
}

/// When threads of a process were blocked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StallFindings {
    /// So many threads at once are a stall.
    pub needed: u64,
    /// Threads that had faults; `None` if there were too many to be counted.
    pub threads: Option<u64>,
    /// How many stalls there were.
    pub count: u64,
    /// Their length in all, ns.
    pub total_ns: u64,
    /// The most threads in faults at once.
    pub max_threads: u64,
}

/// Pages that were read again after they had been removed from memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovedFindings {
    /// Faults that read them.
    pub again: Waited,
    /// How and by whom most of them were removed, and how many.
    pub by: Option<(Remover, u64)>,
    /// Who, but the process itself, added most to the page cache while most of them were in it, and how
    /// many.
    pub filled: Option<(Who, u64)>,
    /// So much more memory would have avoided so many of them as `AVOIDED` has per cent, bytes; `None` if that is not
    /// known, or would not have helped.
    pub more_bytes: Option<[u64; 3]>,
}

impl RemovedFindings {
    /// What reclaim took from a process, and what was dropped.
    fn of(process: &ProcessSummary, pid: u32, page_bytes: u64) -> Option<[Self; 2]> {
        let pasts = &process.pasts;
        if pasts.is_empty() {
            return None;
        }
        let mut both = [Self::default(), Self::default()];
        for (remover, waited) in pasts.removed.ranked() {
            let [reclaimed, dropped] = &mut both;
            let is_reclaim = remover.how.is_reclaim();
            let one = if is_reclaim { reclaimed } else { dropped };
            one.again.add(waited);
            one.by
                .get_or_insert_with(|| (remover.clone(), waited.faults));
        }
        let [reclaimed, _] = &mut both;
        let mut filled = pasts.filled.ranked().into_iter();
        reclaimed.filled = filled
            .find(|(who, _)| who.pid != pid)
            .map(|(who, waited)| (who.clone(), waited.faults));
        reclaimed.more_bytes = pasts
            .avoided()
            .map(|avoided| avoided.map(|pages| pages.saturating_mul(page_bytes)));
        Some(both)
    }
}

impl ProcessFindings {
    /// Its faults of a cause.
    pub fn cause(&self, cause: Cause) -> Tally {
        let found = self.causes.iter().find(|(of, _)| *of == cause);
        found.map(|(_, tally)| *tally).unwrap_or_default()
    }
}

/// Of 20 slices of a trace, nearly all waits in the first so many are early.
const EARLY_SLICES: usize = SLICES / 4;

impl Findings {
    /// Of a finished report.
    pub(crate) fn of(report: &Report, gather: &mut Gather, page_bytes: u64) -> Self {
        let wall_ns = report.wall.map(|wall| wall.length_ns());
        let mut go = std::mem::take(&mut gather.go);
        let again = gather.pages.spaces();
        let again = |space: &u32| again.get(space).copied().unwrap_or_default();
        let files = gather.files.iter();
        let mut files: Vec<_> = files
            .filter(|(_, of)| of.reads.all().faults > 0 || of.writes != Writes::default())
            .map(|(file, of)| FileFindings::of(report, file, of, again(&of.space)))
            .collect();
        files.sort_by(|a, b| a.file.cmp(&b.file));
        let processes = report.summary.processes();
        let processes = processes.filter_map(|process| {
            let pid = process.pid?;
            let swapped = gather.memories.get(&pid).map(again);
            let mut found = ProcessFindings::of(report, process, pid, swapped.unwrap_or_default())?;
            found.removed = RemovedFindings::of(process, pid, page_bytes);
            let holders = gather.lock_holders.get(&pid);
            found.lock_holders = holders.map(OfHolders::found);
            found.ps = ps(report, pid, &mut go, wall_ns.unwrap_or(0));
            Some(found)
        });
        Findings {
            wall_ns,
            faults: report.total.tally.faults,
            blocked_ns: report.total.tally.blocked_ns,
            kernel: report
                .start
                .as_ref()
                .and_then(|start| version(&start.kernel)),
            page_bytes,
            processes: processes.collect(),
            files,
            crowded: crowded(report),
            faults_beyond: gather.beyond,
            one_page_in: gather.pages.one_in(),
        }
    }

    /// What would help.
    pub fn advise(&self) -> Advised {
        settle::settle(self, rules::all(self))
    }

    /// What gains less than this is not worth a line, ns.
    pub(super) fn least_ns(&self) -> u64 {
        least_ns(self.blocked_ns, self.wall_ns)
    }
}

/// Devices before which reads waited: in the queue, or held back by a limit.
fn crowded(report: &Report) -> Vec<(Device, DeviceTotals)> {
    let devices = report.summary.devices(&report.total);
    let ranked = devices.into_iter().flat_map(Devices::ranked);
    let crowded = ranked.filter(|(_, totals)| {
        let verdict = totals.verdict();
        matches!(verdict, Some(DeviceVerdict::Busy | DeviceVerdict::Limited))
    });
    crowded
        .map(|(device, totals)| (device.clone(), *totals))
        .collect()
}

impl FileFindings {
    fn of(report: &Report, file: &FileKey, of: &OfFile, again: Again) -> Self {
        let detail = report.all.files.get(file);
        let access = detail.and_then(|detail| detail.access.as_ref());
        let offsets = detail.and_then(|detail| detail.offsets.as_ref());
        FileFindings {
            file: file.clone(),
            pids: of.pids.iter().copied().collect(),
            reads: of.reads,
            writes: of.writes,
            fuse: of.fuse,
            nfs: of.nfs,
            again,
            ahead: file
                .path
                .as_ref()
                .and_then(|path| report.summary.read_ahead().of(path))
                .copied(),
            steps: access.map(|access| access.evidence),
            range: offsets.map(|offsets| offsets.whole),
            held_ns: of.held_ns,
            early: early(report, file),
        }
    }

    /// What advice about it is about.
    pub(super) fn about(&self) -> About {
        let pids = self.pids.iter().take(MAX_MEMBERS).copied().collect();
        About::File {
            file: self.file.clone(),
            pids,
            processes: u64::try_from(self.pids.len()).unwrap_or(u64::MAX),
        }
    }

    /// From the first page that faulted to behind the last, bytes.
    pub(super) fn span_bytes(&self) -> Option<u64> {
        let range = self.range.filter(|range| range.faults > 0)?;
        Some(range.to.saturating_sub(range.from).max(PAGE_BYTES))
    }
}

/// How early the waits for a file were over, of how long a trace.
fn early(report: &Report, file: &FileKey) -> Option<(u64, u64)> {
    let key = SeriesKey::File(file.path.clone(), file.mapping);
    let wall_ns = report.options.wall?.length_ns();
    let slices = report.series(&key)?.blocked_ns;
    let all: u128 = slices.iter().copied().map(u128::from).sum();
    let mut held = 0;
    let last = slices.iter().position(|slice| {
        held += u128::from(*slice);
        held * 100 >= all * 95
    })?;
    let within = u64::try_from(last).ok()? + 1;
    (all > 0 && last < EARLY_SLICES).then(|| (wall_ns / SLICES as u64 * within, wall_ns))
}

impl ProcessFindings {
    fn of(report: &Report, process: &ProcessSummary, pid: u32, swapped: Again) -> Option<Self> {
        if process.tally.faults == 0 {
            return None;
        }
        let causes = process.by_cause.ranked();
        let causes = causes
            .into_iter()
            .filter_map(|(cause, entry)| Some(((*cause)?, entry.tally)));
        let part = part_of(report, pid);
        let stalls = part.and_then(|part| {
            let stalls = part.stalls.as_ref().filter(|stalls| stalls.count > 0)?;
            (part.concurrency.max_threads > 1 && stalls.needed > 1).then_some(StallFindings {
                needed: stalls.needed,
                threads: part.concurrency.threads,
                count: stalls.count,
                total_ns: stalls.total_ns,
                max_threads: part.concurrency.max_threads,
            })
        });
        Some(ProcessFindings {
            pid,
            all: process.tally,
            causes: causes.collect(),
            swapped,
            removed: None,
            stalls,
            lock_holders: None,
            ps: None,
        })
    }
}

fn part_of(report: &Report, pid: u32) -> Option<&Part> {
    let mut parts = std::iter::once(&report.all).chain(&report.parts);
    parts.find(|part| part.pid == Some(pid))
}

/// The Ps of a process.
fn ps(report: &Report, pid: u32, go: &mut HashMap<u32, OfGo>, wall_ns: u64) -> Option<PsFindings> {
    let totals = part_of(report, pid)?.ps.as_ref()?;
    // Faults that are not there may have held more of them.
    let lost = |class| report.summary.lost_in(class) > 0;
    let is_whole = !lost(LossClass::Lost) && !lost(LossClass::Filtered);
    PsFindings::of(totals, go.get_mut(&pid)?, wall_ns, is_whole)
}

/// `6.12` of `6.12.0-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
