//! What of the advice is worth a line, what contradicts other advice, and what is about the same time.

use std::cmp::Reverse;

use super::{About, Action, Advice, Advised, Direction, Evidence, Findings, NoAdvice, Rule, Unit};
use crate::model::Name;

/// Fewer faults are no evidence.
pub const MIN_FAULTS: u64 = 16;
/// What can gain less than this is not worth a line, ns.
pub const MIN_GAIN_NS: u64 = 10_000_000;
/// Nor what can gain less than one in so many of the blocked ns.
pub const PER_BLOCKED: u64 = 50;
/// Nor less than one in so many ns of the trace.
pub const PER_WALL: u64 = 1_000;
/// A program that could do nothing at all for one in so many ns of the trace comes before all else.
pub const PER_STOPPED: u64 = 100;
/// Processes that advice names.
pub const MAX_MEMBERS: usize = 8;

/// What has to be gained at least, ns.
pub(super) fn least_ns(blocked_ns: u64, wall_ns: Option<u64>) -> u64 {
    let of_wall = wall_ns.unwrap_or(0) / PER_WALL;
    MIN_GAIN_NS.max(blocked_ns / PER_BLOCKED).max(of_wall)
}

/// Makes a list of what the rules have to say.
pub(super) fn settle(findings: &Findings, mut given: Vec<Advice>) -> Advised {
    let least_ns = findings.least_ns();
    given.retain(|one| {
        let worth_ns = one.gain.at_most_ns.unwrap_or(one.blocked_ns);
        one.faults >= MIN_FAULTS && (worth_ns >= least_ns || stops(findings, one))
    });
    without_ps(&mut given);
    given.sort_by_key(|one| {
        let unknown = one.gain.at_most_ns.is_none();
        // What is about one thing before what is about all.
        let wall = one.gain.unit == Unit::Wall;
        let first = Reverse(stops(findings, one));
        (first, unknown, Reverse(weight_ns(one)), wall, one.rule)
    });
    agree(&mut given);
    for at in 0..given.len() {
        let others = 0..given.len();
        let overlaps = others.filter(|other| *other != at && overlap(&given[at], &given[*other]));
        given[at].overlaps = overlaps.collect();
    }
    let none = given.is_empty().then_some(if findings.faults == 0 {
        NoAdvice::NoFaults
    } else if findings.blocked_ns < least_ns {
        NoAdvice::TooLittle
    } else {
        NoAdvice::NoEvidence
    });
    Advised {
        given,
        none,
        least_ns,
        faults_beyond: findings.faults_beyond,
        one_page_in: findings.one_page_in,
    }
}

/// Whether it is about a Go program that had no P left for a considerable part of the trace. However long
/// the threads of others were blocked meanwhile, those were only some of their threads.
fn stops(findings: &Findings, one: &Advice) -> bool {
    let Some(wall_ns) = findings.wall_ns.filter(|wall_ns| *wall_ns > 0) else {
        return false;
    };
    one.evidence.iter().any(|evidence| match evidence {
        Evidence::Ps(found) => {
            u128::from(found.totals.full_ns) * u128::from(PER_STOPPED) >= u128::from(wall_ns)
        }
        _ => false,
    })
}

/// By what pieces are put in order, ns: what can be gained of the time that threads were blocked. That no P is
/// left stops all of a program, and so weighs as much as all the threads that held them.
fn weight_ns(one: &Advice) -> u64 {
    match one.rule {
        Rule::PsStuck => one.blocked_ns,
        _ => one.gain.at_most_ns.unwrap_or(one.blocked_ns),
    }
}

/// Where it is known that the threads of a Go program hold its Ps, that they are blocked together says no
/// more, and reading in threads is not what helps.
fn without_ps(given: &mut Vec<Advice>) {
    let gain_ns = |one: &Advice| one.gain.at_most_ns.unwrap_or(0);
    let stuck: Vec<(About, u64)> = given
        .iter()
        .filter(|one| one.rule == Rule::PsStuck)
        .map(|one| (one.about.clone(), gain_ns(one)))
        .collect();
    // About other threads, if it is much more.
    let is_covered = |one: &Advice| {
        let most_ns = gain_ns(one) / 2;
        let covers = |(about, ns): &(About, u64)| *about == one.about && *ns >= most_ns;
        stuck.iter().any(covers)
    };
    given.retain(|one| one.rule != Rule::BlockedTogether || !is_covered(one));
}

/// Takes out what contradicts advice before it, or what it would undo.
fn agree(given: &mut Vec<Advice>) {
    let mut agreed: Vec<(Option<Name>, Direction)> = Vec::new();
    given.retain(|one| {
        let (Some(path), Some(direction)) = (path(one), one.rule.direction()) else {
            return true;
        };
        let other = agreed.iter().find(|(of, _)| of == path);
        let agrees = other.is_none_or(|(_, agreed)| *agreed == direction);
        if agrees {
            agreed.push((path.clone(), direction));
        }
        agrees
    });
    let again: Vec<Option<Name>> = given
        .iter()
        .filter(|one| one.rule == Rule::ReadAgain)
        .filter_map(|one| path(one).cloned())
        .collect();
    let evicted = given.iter().any(|one| one.rule == Rule::Evicted);
    let has = |given: &[Advice], action| given.iter().any(|one| one.actions.contains(&action));
    // Devices may be the same.
    let both_ways = has(given, Action::RaiseReadAhead) && has(given, Action::LowerReadAhead);
    for one in given.iter_mut() {
        // Pages behind a sequential reader are the first to go, and these are needed again. Nor do
        // they stay if they are all read at the start.
        let needed = path(one).is_some_and(|path| again.contains(path));
        one.actions.retain(|action| match action {
            Action::MadvSequential | Action::MadvPopulateRead { .. } => !needed,
            Action::RaiseReadAhead | Action::LowerReadAhead => !both_ways,
            // With less swapping the page cache has less room.
            Action::LowerSwappiness => again.is_empty() && !evicted,
            _ => true,
        });
    }
    given.retain(|one| !one.actions.is_empty());
}

fn path(one: &Advice) -> Option<&Option<Name>> {
    match &one.about {
        About::File { file, .. } => Some(&file.path),
        About::Process(_) | About::Device(_) | About::Machine => None,
    }
}

/// Whether two pieces are partly about the same time.
fn overlap(a: &Advice, b: &Advice) -> bool {
    match (a.rule, b.rule) {
        (Rule::BlockedTogether, Rule::BlockedTogether) | (Rule::PsStuck, Rule::PsStuck) => false,
        // Whose reads they were is not kept.
        (Rule::BusyDevice | Rule::LimitedDevice, other)
        | (other, Rule::BusyDevice | Rule::LimitedDevice) => from_devices(other),
        (Rule::BlockedTogether | Rule::PsStuck, _) => within(&a.about, &b.about),
        (_, Rule::BlockedTogether | Rule::PsStuck) => within(&b.about, &a.about),
        (Rule::Evicted | Rule::Dropped, other) if reads(other) => within(&a.about, &b.about),
        (other, Rule::Evicted | Rule::Dropped) if reads(other) => within(&b.about, &a.about),
        _ => match (&a.about, &b.about) {
            (About::File { file: a_file, .. }, About::File { file: b_file, .. }) => {
                a_file == b_file && reads(a.rule) && reads(b.rule)
            }
            _ => false,
        },
    }
}

/// Whether rules are about reads, the same ones perhaps. What else rules are about is apart by cause.
fn reads(rule: Rule) -> bool {
    reads_disks(rule) || matches!(rule, Rule::FuseServer | Rule::NfsServer)
}

/// Whether they are about reads of files that are on disks, for all that is known.
fn reads_disks(rule: Rule) -> bool {
    rule.direction().is_some() || rule == Rule::ReadAgain
}

/// Whether what a rule is about may have come from a device.
fn from_devices(rule: Rule) -> bool {
    reads_disks(rule)
        || matches!(
            rule,
            Rule::Evicted | Rule::Dropped | Rule::SwapIn | Rule::BlockedTogether | Rule::PsStuck
        )
}

/// Whether a process is, or may be, among those that another piece is about.
fn within(process: &About, other: &About) -> bool {
    let About::Process(pid) = process else {
        return false;
    };
    match other {
        About::Process(other) => pid == other,
        About::Device(_) | About::Machine => true,
        About::File {
            pids, processes, ..
        } => {
            let named = u64::try_from(pids.len()).unwrap_or(u64::MAX);
            pids.contains(pid) || *processes > named
        }
    }
}
