//! Advice in words: what was seen, how a gain was computed, what the trace does not tell.

use crate::model::advice::{
    Advice, Advised, Again, CallSite, Condition, Evidence, HeldSum, How, NoAdvice, PER_BLOCKED,
    PER_WALL, PsFindings, Reads, RemovedFindings, Rule, StallFindings, Unit, WINDOW_BYTES,
};
use crate::model::{AheadPages, DeviceTotals};
use crate::view::escape::escaped;
use crate::view::report::advice::holders;
use crate::view::text::history;
use crate::view::text::words::{about, at_most, duration, plural};
use crate::view::text::words::{name, percent};

/// Longest name of a source file, bytes.
const MAX_FILE: usize = 64;

/// What is wrong, in a few words.
pub(super) fn title(rule: Rule) -> &'static str {
    match rule {
        Rule::ReadaheadOff => "read in order, page by page: readahead is off",
        Rule::ReadaheadLate => "read in order, and reads are waited for",
        Rule::Prefetch => "many reads where a few large ones would do",
        Rule::RandomAccess => "read here and there, each time with readahead",
        Rule::ReadAgain => "pages were read again that had been in memory",
        Rule::Evicted => "pages were read again that had been evicted",
        Rule::Dropped => "pages were read again that had been dropped on purpose",
        Rule::SwapIn => "memory had been swapped out",
        Rule::CompressedSwap => "memory had been compressed (zswap or zram)",
        Rule::MemcgLimit => "its memory cgroup is at its limit",
        Rule::DirectReclaim => "no memory was free",
        Rule::Compaction => "memory had to be made contiguous, for huge pages",
        Rule::MmapLock => "the address space was being changed meanwhile",
        Rule::DirtyLimit => "writes are throttled: too much memory is dirty",
        Rule::StablePage => "writes wait for pages that are being written back",
        Rule::Journal => "writes wait for the journal or for blocks of the file",
        Rule::FuseServer => "its FUSE server answers late",
        Rule::NfsServer => "its NFS server answers late",
        Rule::Userfaultfd => "its userfaultfd handler answers late",
        Rule::CopyOnWrite => "pages were copied on write",
        Rule::Migration => "pages were being moved",
        Rule::HugePages => "huge pages were being made or copied by other threads",
        Rule::BlockedTogether => "its threads are blocked together, for reads",
        Rule::LimitedDevice => "a limit holds reads back before the device is asked",
        Rule::BusyDevice => "reads wait for their turn at the device",
        Rule::PsStuck => "no P is left to run goroutines with: all are stuck in page faults",
    }
}

/// What shows it.
pub(super) fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Waits { faults, max_ns } if *max_ns > 0 => format!(
            "{} waited for that, the longest took {}",
            plural(*faults, "fault"),
            duration(*max_ns)
        ),
        Evidence::Waits { faults, .. } => format!("{} waited for that", plural(*faults, "fault")),
        Evidence::HowRead(reads) => how_read(reads),
        Evidence::Forward { forward, steps } => format!(
            "{} of {} from fault to fault go forward, to the next page or within readahead's reach",
            percent(*forward, *steps),
            plural(*steps, "step")
        ),
        Evidence::Scattered { scattered, steps } => format!(
            "{} of {} from fault to fault go backward or far forward",
            percent(*scattered, *steps),
            plural(*steps, "step")
        ),
        Evidence::Range { from, to, faults } => format!(
            "{} at +{from:#x}..+{to:#x}, {}",
            plural(*faults, "fault"),
            about(to.saturating_sub(*from))
        ),
        Evidence::ReadAhead(pages) => read_ahead(pages),
        Evidence::Early { within_ns, wall_ns } => format!(
            "95 % of the blocked time lies in the first {} of {}: a start, or a cold cache",
            duration(*within_ns),
            duration(*wall_ns)
        ),
        Evidence::CameAgain { again, bytes } => came_again(again, *bytes),
        Evidence::Removed(found) => removed(found),
        Evidence::Together(stalls) => together(stalls),
        Evidence::Holders(found) => holders::told(found),
        Evidence::Requests {
            completed,
            queued_ns,
            served_ns,
        } => requests(*completed, *queued_ns, *served_ns),
        Evidence::HeldBack(totals) => held_back(totals),
        Evidence::Ps(found) => ps(found),
        Evidence::HeldPs { held_ns } => format!(
            "faults on it held Ps of Go programs for {} in all",
            duration(*held_ns)
        ),
        Evidence::MostlyReads {
            reads_ns,
            blocked_ns,
        } => format!(
            "{} of what it was blocked in faults went to reads of files",
            percent(*reads_ns, *blocked_ns)
        ),
    }
}

fn requests(completed: u64, queued_ns: u64, served_ns: u64) -> String {
    format!(
        "{}: in the mean queued for {} before the device got them, and served in {}",
        plural(completed, "request"),
        duration(queued_ns),
        duration(served_ns)
    )
}

fn held_back(of: &DeviceTotals) -> String {
    format!(
        "reads of {} of {} were held back for {} in all; the device then took {} for the reads of all",
        of.held,
        plural(of.faults, "fault"),
        duration(of.held_ns),
        duration(of.queued_ns.saturating_add(of.served_ns))
    )
}

fn how_read(reads: &Reads) -> String {
    let parts: Vec<String> = [
        (&reads.single, "a read of its page only"),
        (&reads.ahead, "a read with readahead"),
        (
            &reads.started,
            "a read (with readahead or without is not known)",
        ),
        (&reads.served, "the answer of its server"),
        (
            &reads.waited,
            "a read that another thread or readahead had started",
        ),
        (
            &reads.asked_for,
            "pages that a system call was to bring in (not counted here)",
        ),
    ]
    .into_iter()
    .filter(|(tally, _)| tally.faults > 0)
    .map(|(tally, what)| {
        let (count, time) = (plural(tally.faults, "fault"), duration(tally.blocked_ns));
        format!("{count} waited for {what}, {time}")
    })
    .collect();
    parts.join("; ")
}

fn came_again(again: &Again, bytes: u64) -> String {
    let pages = plural(again.pages, "different page");
    if again.faults == 0 {
        return format!("{pages} ({}), none of them twice", about(bytes));
    }
    format!(
        "of {pages}, {} ({}) came again, {}; {} of these had the kernel start a read, so the page was \
         not in memory any more",
        again.again_pages,
        about(bytes),
        plural(again.faults, "time"),
        again.started
    )
}

fn removed(found: &RemovedFindings) -> String {
    let mut text = format!("{} read them", plural(found.again.faults, "fault"));
    if let Some((remover, faults)) = &found.by {
        let by = history::remover(remover, &|_| None);
        text += &format!("; of {faults} the page had been {by}");
    }
    if let Some((who, faults)) = &found.filled {
        let who = history::named(who, &|_| None);
        text += &format!("; of {faults}, {who} had filled the page cache meanwhile");
    }
    if let Some([p50, p90, p99]) = found.more_bytes {
        text += &format!(
            "; by the refault distances {} more would have avoided half of them, {} more 90 %, {} more \
             99 %",
            about(p50),
            about(p90),
            about(p99)
        );
    }
    text
}

fn together(stalls: &StallFindings) -> String {
    let of = match stalls.threads {
        Some(threads) => format!("of the {} that had faults", plural(threads, "thread")),
        None => "of its threads".to_owned(),
    };
    format!(
        "{}, {} in all, at least {} {of} were blocked at once (up to {})",
        plural(stalls.count, "time"),
        duration(stalls.total_ns),
        stalls.needed,
        stalls.max_threads
    )
}

fn ps(found: &PsFindings) -> String {
    let totals = &found.totals;
    let mut text = format!(
        "all {} Ps were stuck at once for {} in {}",
        found.procs,
        duration(totals.full_ns),
        plural(totals.full_count, "stall")
    );
    if let Some(longest) = &totals.longest {
        text += &format!(", the longest of {}", duration(longest.length_ns()));
    }
    match totals.most_queued {
        Some(most) => {
            text += &format!(", with up to {} ready to run", plural(most, "goroutine"));
        }
        None => text += "; how many goroutines were ready to run is not known",
    }
    text += &format!("; in all {} of Ps were lost", duration(totals.lost_ns()));
    let sites: Vec<String> = found.sites.iter().map(site).collect();
    if !sites.is_empty() {
        text += &format!(", at: {}", sites.join("; "));
    }
    text
}

/// `main.touch main.go:76 (40 faults, 2.02 s)`.
fn site((site, sum): &(CallSite, HeldSum)) -> String {
    let mut text = site
        .function
        .as_ref()
        .map_or_else(|| "a place without a name".to_owned(), name);
    if let (Some(file), Some(line)) = (&site.file, site.line) {
        let base = file.as_bytes().rsplit(|byte| *byte == b'/').next();
        let base = escaped(base.unwrap_or_default(), MAX_FILE);
        text += &format!(" {base}:{line}");
    }
    format!(
        "{text} ({}, {})",
        plural(sum.faults, "fault"),
        duration(sum.held_ns)
    )
}

/// What can be gained.
pub(super) fn gain(advice: &Advice) -> String {
    match (advice.gain.at_most_ns, advice.gain.unit) {
        (Some(ns), Unit::Blocked) => format!(
            "gains at most {} of {} blocked",
            duration(ns),
            duration(advice.blocked_ns)
        ),
        (Some(ns), Unit::Wall) => format!("gains at most {} of the clock's time", duration(ns)),
        (None, _) => format!(
            "gains an unknown part of {} blocked",
            duration(advice.blocked_ns)
        ),
    }
}

/// How that was computed.
pub(super) fn how(advice: &Advice) -> String {
    match (advice.gain.how, advice.gain.unit) {
        (How::All, Unit::Blocked) => "all the waits in question".to_owned(),
        (How::All, Unit::Wall) => {
            "the length of those times, or the blocked time shared among as many threads if that is less"
                .to_owned()
        },
        (How::WindowReads { reads, each_ns }, _) => format!(
            "the waits in question, less {} of {} for the range, {} each like those seen on average",
            plural(reads, "read"),
            about(WINDOW_BYTES),
            duration(each_ns)
        ),
        (How::PageReads { reads, each_ns }, _) => format!(
            "the waits in question, less {} of a page each, {} each like the reads of single pages of \
             this file on average",
            plural(reads, "read"),
            duration(each_ns)
        ),
        (How::NoPLeft, _) => "the time in which no P was left, or what the faults that held them blocked in all if that is less".to_owned(),
        (How::Queued, _) => {
            "the time in the queue, or what the faults blocked in all if that is less".to_owned()
        }
        (How::HeldBack, _) => {
            "the time that reads were held back, or what the faults blocked in all if that is less"
                .to_owned()
        }
        (How::Unknown, _) => {
            "the trace has no reads of single pages of this file to compare with".to_owned()
        }
    }
}

/// What must be so.
pub(super) fn condition(condition: Condition) -> String {
    match condition {
        Condition::FewUsed {
            pages_percent,
            at_most_percent,
        } => few_used(pages_percent, at_most_percent),
        Condition::OnlyMapped => {
            "nobody reads the same pages with read() soon after: this trace tells of mappings alone"
                .to_owned()
        }
        Condition::NotOnPurpose => {
            "nobody dropped the pages on purpose (POSIX_FADV_DONTNEED, drop_caches) or put another \
             file under the same name: this trace does not tell"
                .to_owned()
        }
    }
}

fn few_used(pages_percent: Option<u64>, at_most_percent: Option<u64>) -> String {
    let pages = |percent: u64| format!("{}.{:02}", percent / 100, percent % 100);
    let limit = match pages_percent {
        Some(percent) => format!("fewer than {}", pages(percent)),
        None => "few".to_owned(),
    };
    let known = match at_most_percent {
        Some(percent) => format!(
            "of each, at most {} are by way of a mapping, which is all that this trace tells",
            pages(percent)
        ),
        None => {
            "this trace does not tell how many are (--evictions tells how many at most)".to_owned()
        }
    };
    format!(
        "{limit} of the pages that a read brings in are used: {known}. Try it, and compare two traces \
         (faulttrace diff)"
    )
}

/// How much was read besides what was asked for, and used.
fn read_ahead(pages: &AheadPages) -> String {
    let mut text = format!(
        "{} read besides the pages that faults asked for, of all traced processes: at most {} of it was \
         mapped since",
        history::bytes(pages.read),
        at_most(pages.used_at_most(), pages.read)
    );
    if pages.dropped > 0 {
        text += &format!(", {} left memory unmapped", history::bytes(pages.dropped));
    }
    text
}

/// Why there is none.
pub(super) fn none(advised: &Advised, why: NoAdvice, blocked_ns: u64) -> String {
    match why {
        NoAdvice::NoFaults => "none: there are no faults".to_owned(),
        NoAdvice::TooLittle => format!(
            "none: faults blocked for {} in all, and less than {} is not worth it",
            duration(blocked_ns),
            duration(advised.least_ns)
        ),
        NoAdvice::NoEvidence => format!(
            "none: for nothing that would gain {} or more does this trace have the evidence",
            duration(advised.least_ns)
        ),
    }
}

/// What is not in it, and why.
pub(super) fn limits(advised: &Advised) -> Vec<String> {
    let mut limits = Vec::new();
    if advised.faults_beyond > 0 {
        limits.push(format!(
            "{} on files beyond what could be remembered: no rule has looked at them",
            plural(advised.faults_beyond, "fault")
        ));
    }
    if advised.one_page_in > 1 {
        limits.push(format!(
            "pages that came again are an estimate from one page in {}",
            advised.one_page_in
        ));
    }
    limits
}

/// What a piece must gain.
pub(super) fn threshold(advised: &Advised) -> String {
    format!(
        "what gains less than {} is left out (1/{PER_BLOCKED} of the blocked time, 1/{PER_WALL} of the \
         trace, or 10 ms)",
        duration(advised.least_ns)
    )
}

const _: () = assert!(crate::model::advice::MIN_GAIN_NS == 10_000_000);
