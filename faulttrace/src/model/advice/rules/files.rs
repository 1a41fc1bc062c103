//! How files are read: with too little readahead, with too much, more than once, or from a slow
//! server.

use super::avoid;
use crate::model::MappingKind;
use crate::model::advice::{
    Action, Advice, Condition, Evidence, FileFindings, Findings, Gain, How, MIN_FAULTS, Reads,
    Rule, Unit, WINDOW_BYTES,
};
use crate::model::analysis::{MIN_STEPS, Pattern, WINDOW_BYTES as NEAR_BYTES};
use crate::model::summary::Tally;

/// Steps forward within readahead's reach that make a way through a file one that goes forward, %.
const FORWARD_PERCENT: u64 = 80;
/// Such steps that reads here and there may have at most, beyond those that chance gives in a file of
/// that size, %: with more, reads go on where the last one ended, so what was read ahead was used.
const CONTINUED_PERCENT: u64 = 10;
/// In files of fewer windows of such steps, chance gives too many to tell.
const MIN_WINDOWS: u64 = 4;
/// Waits for readahead that reads here and there may have at most, %: a wait is a use.
const AWAITED_PERCENT: u64 = 5;
/// Reads here and there that are enough to tell.
const MIN_RANDOM_READS: u64 = 64;
/// Reads of one page that are enough to tell how long one takes.
const MIN_PAGE_READS: u64 = 16;

/// The one piece of advice on how a file should be read ahead, if there is one: so that no two can
/// contradict each other.
pub(super) fn access(file: &FileFindings) -> Option<Advice> {
    let reads = file.reads.all();
    if reads.faults < MIN_FAULTS || reads.blocked_ns == 0 {
        return None;
    }
    let program = file.file.mapping == Some(MappingKind::Exe);
    if goes_forward(file) && !program {
        let single = &file.reads.single;
        return if at_least(single.blocked_ns, reads.blocked_ns, 50) {
            readahead_off(file)
        } else {
            readahead_late(file)
        };
    }
    prefetch(file, program).or_else(|| random(file).filter(|_| !program))
}

/// Page by page through a file.
fn readahead_off(file: &FileFindings) -> Option<Advice> {
    let single = &file.reads.single;
    let (how, gain_ns) = in_windows(file, single)?;
    let bytes = file.span_bytes()?;
    let actions = vec![
        Action::MadvNormal,
        Action::MadvSequential,
        Action::MadvWillneed { bytes },
    ];
    Some(advice(
        file,
        Rule::ReadaheadOff,
        single,
        (how, Some(gain_ns)),
        actions,
    ))
}

/// Waiting for reads that could have been started earlier.
fn readahead_late(file: &FileFindings) -> Option<Advice> {
    let bytes = file.span_bytes()?;
    let reads = file.reads.all();
    let actions = vec![
        Action::MadvWillneed { bytes },
        Action::RaiseReadAhead,
        Action::MadvPopulateRead { bytes },
    ];
    let gain = (How::All, Some(reads.blocked_ns));
    Some(advice(file, Rule::ReadaheadLate, &reads, gain, actions))
}

/// Many reads where few would do.
fn prefetch(file: &FileFindings, program: bool) -> Option<Advice> {
    let reads = file.reads.all();
    let (how, gain_ns) = in_windows(file, &reads)?;
    // Where pages do not stay, neither would those that are read before they are needed.
    let stays = !at_least(file.again.faults, reads.faults, 50);
    if !at_least(gain_ns, reads.blocked_ns, 50) || !stays {
        return None;
    }
    let bytes = file.span_bytes()?;
    let page_by_page = at_least(file.reads.single.faults, reads.faults, 50);
    let actions = match (program, page_by_page) {
        (true, _) => vec![Action::WarmFile { bytes }],
        // With MADV_RANDOM, populating reads page by page as well.
        (false, true) => vec![Action::MadvWillneed { bytes }, Action::MadvNormal],
        (false, false) => vec![
            Action::MadvPopulateRead { bytes },
            Action::MadvWillneed { bytes },
        ],
    };
    Some(advice(
        file,
        Rule::Prefetch,
        &reads,
        (how, Some(gain_ns)),
        actions,
    ))
}

/// Reads here and there, with readahead that nothing was seen to use.
fn random(file: &FileFindings) -> Option<Advice> {
    let steps = file
        .steps
        .filter(|steps| steps.pattern() == Pattern::Random)?;
    let Reads { ahead, single, .. } = file.reads;
    let continued = steps.next_page.saturating_add(steps.near);
    let all = file.reads.all();
    let span = file.span_bytes()?;
    let by_chance = NEAR_BYTES * 100 / span.max(1);
    if ahead.faults < MIN_RANDOM_READS
        || span < MIN_WINDOWS * NEAR_BYTES
        || at_least(continued, steps.steps, CONTINUED_PERCENT + by_chance)
        || at_least(file.reads.waited.faults, all.faults, AWAITED_PERCENT)
    {
        return None;
    }
    let each_ns = (single.faults >= MIN_PAGE_READS).then(|| mean_ns(&single));
    let (gain, pages_percent) = match each_ns {
        None => ((How::Unknown, None), None),
        Some(each_ns) => {
            let how = How::PageReads {
                reads: ahead.faults,
                each_ns,
            };
            let left_ns = ahead.faults.saturating_mul(each_ns);
            let gain_ns = ahead.blocked_ns.checked_sub(left_ns).filter(|ns| *ns > 0)?;
            let pages = mean_ns(&ahead).saturating_mul(100).checked_div(each_ns);
            ((how, Some(gain_ns)), pages)
        }
    };
    let actions = vec![Action::MadvRandom, Action::LowerReadAhead];
    let mut advice = advice(file, Rule::RandomAccess, &ahead, gain, actions);
    advice.only_if = Some(few_used(file, pages_percent));
    Some(advice)
}

/// What must be so of the pages that reads bring in: `pages_percent` of a page are used of each in the mean, at
/// most. The page that was asked for is.
fn few_used(file: &FileFindings, pages_percent: Option<u64>) -> Condition {
    let reads = &file.reads;
    // Of what faults in system calls had read nothing is told.
    let told = file.ahead.filter(|_| reads.ahead_in_calls == 0);
    let of_each = |used: u64| {
        let reads = reads.ahead.faults.max(1);
        used.saturating_mul(100).div_ceil(reads).saturating_add(100)
    };
    let at_most_percent = told.map(|ahead| of_each(ahead.used_at_most()));
    let known = pages_percent.zip(at_most_percent);
    if known.is_some_and(|(limit, most)| most < limit) {
        return Condition::OnlyMapped;
    }
    Condition::FewUsed {
        pages_percent,
        at_most_percent,
    }
}

/// Pages that were in memory before.
pub(super) fn again(findings: &Findings, file: &FileFindings) -> Option<Advice> {
    let reads = file.reads.all();
    let again = file.again;
    // Without a read that was started, pages may have been there and locked.
    if again.faults < MIN_FAULTS || again.started == 0 {
        return None;
    }
    // An estimate from a part of the pages is never more than all.
    let faults = again.faults.min(reads.faults);
    let blocked_ns = again.blocked_ns.min(reads.blocked_ns);
    let bytes = again.again_pages.saturating_mul(findings.page_bytes);
    let lock = Action::MlockFile { bytes };
    let (actions, only_if) = if how_removed(findings, file) {
        // What is said of the process says the rest, and how much.
        (vec![lock], None)
    } else {
        let all = vec![Action::MoreMemory, lock, Action::MoveNeighbour];
        (all, Some(Condition::NotOnPurpose))
    };
    let waits = Tally {
        faults,
        blocked_ns,
        ..Tally::default()
    };
    let mut advice = avoid(Rule::ReadAgain, file.about(), &waits, actions)?;
    advice.evidence = vec![Evidence::CameAgain { again, bytes }];
    advice.only_if = only_if;
    Some(advice)
}

/// Whether it is known of the processes that waited for a file how its pages had gone.
fn how_removed(findings: &Findings, file: &FileFindings) -> bool {
    let known = |pid: &u32| {
        let process = findings.processes.iter().find(|one| one.pid == *pid);
        process.is_some_and(|process| process.removed.is_some())
    };
    !file.pids.is_empty() && file.pids.iter().all(known)
}

/// Servers that answer late.
pub(super) fn servers(file: &FileFindings) -> impl Iterator<Item = Advice> {
    [
        (Rule::FuseServer, &file.fuse, Action::QuickerFuse),
        (Rule::NfsServer, &file.nfs, Action::QuickerNfs),
    ]
    .into_iter()
    .filter_map(|(rule, waits, action)| avoid(rule, file.about(), waits, vec![action]))
}

/// What is left of reads, if all there is between the first and the last page that faulted were read
/// in large pieces, as often as it was read: how that is computed, and what is gained, ns.
fn in_windows(file: &FileFindings, reads: &Tally) -> Option<(How, u64)> {
    let windows = file.span_bytes()?.div_ceil(WINDOW_BYTES);
    // How often, on average, a page was read.
    let pages = file.again.pages.max(1);
    let times = pages.saturating_add(file.again.faults).div_ceil(pages);
    let own = file.reads.own();
    let each_ns = mean_ns(if own.faults > 0 { &own } else { reads });
    let count = windows.saturating_mul(times);
    let left_ns = count.saturating_mul(each_ns);
    let gain_ns = reads.blocked_ns.checked_sub(left_ns)?;
    let how = How::WindowReads {
        reads: count,
        each_ns,
    };
    Some((how, gain_ns))
}

fn advice(
    file: &FileFindings,
    rule: Rule,
    reads: &Tally,
    (how, at_most_ns): (How, Option<u64>),
    actions: Vec<Action>,
) -> Advice {
    Advice {
        rule,
        about: file.about(),
        faults: reads.faults,
        blocked_ns: reads.blocked_ns,
        gain: Gain {
            at_most_ns,
            unit: Unit::Blocked,
            how,
        },
        evidence: evidence(file),
        only_if: None,
        actions,
        overlaps: Vec::new(),
    }
}

fn evidence(file: &FileFindings) -> Vec<Evidence> {
    let mut evidence = vec![Evidence::HowRead(Box::new(file.reads))];
    if let Some(steps) = file.steps.filter(|steps| steps.steps >= MIN_STEPS) {
        let forward = steps.next_page.saturating_add(steps.near);
        evidence.push(if goes_forward(file) {
            Evidence::Forward {
                forward,
                steps: steps.steps,
            }
        } else {
            Evidence::Scattered {
                scattered: steps.far.saturating_add(steps.backward),
                steps: steps.steps,
            }
        });
    }
    if let Some(range) = file.range {
        evidence.push(Evidence::Range {
            from: range.from,
            to: range.to,
            faults: range.faults,
        });
    }
    if let Some(pages) = file.ahead.filter(|pages| pages.read > 0) {
        evidence.push(Evidence::ReadAhead(pages));
    }
    if let Some((within_ns, wall_ns)) = file.early {
        evidence.push(Evidence::Early { within_ns, wall_ns });
    }
    evidence
}

/// Whether threads, or goroutines, go through the file in its order.
fn goes_forward(file: &FileFindings) -> bool {
    file.steps.is_some_and(|steps| {
        let forward = steps.next_page.saturating_add(steps.near);
        steps.steps >= MIN_STEPS && at_least(forward, steps.steps, FORWARD_PERCENT)
    })
}

/// Whether a part is so many percent of a whole.
fn at_least(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

/// How long one of them blocked on average, ns.
fn mean_ns(reads: &Tally) -> u64 {
    reads.blocked_ns.checked_div(reads.faults).unwrap_or(0)
}
