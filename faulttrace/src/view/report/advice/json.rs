//! Advice for programs.

use serde::Serialize;

use crate::model::advice::{About, Advice, Advised, NoAdvice, Unit};
use crate::model::analysis::Report;
use crate::model::summary::Summary;
use crate::view::escape::Escaped;
use crate::view::json::io::DevicePart;
use crate::view::json::one_line;
use crate::view::json::scalar::share;
use crate::view::json::summary::Common;
use crate::view::report::advice::holders::HoldersPart;
use crate::view::report::advice::{actions, words};
use crate::view::report::json::HeadPart;

/// Writes the advice of a report as one object on one line.
///
/// # Errors
///
/// Nothing in it can fail to be serialized; if it does all the same, nothing is written.
pub fn write_advice_json(report: &Report, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let line = AdviceLine {
        head: HeadPart::new(report),
        faults: report.total.tally.faults,
        blocked_ns: report.total.tally.blocked_ns,
        advice: AdvisedPart::of(report),
        common: Common::new(&report.summary, 0),
    };
    one_line(&line, out)
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "advice")]
struct AdviceLine<'a> {
    #[serde(flatten)]
    head: HeadPart<'a>,
    faults: u64,
    blocked_ns: u64,
    advice: Option<AdvisedPart<'a>>,
    #[serde(flatten)]
    common: Common,
}

/// What is in a report.
#[derive(Serialize)]
pub(in crate::view::report) struct AdvisedPart<'a> {
    given: Vec<AdvicePart<'a>>,
    more: usize,
    none: Option<&'static str>,
    least_ns: u64,
    faults_beyond: u64,
    one_page_in: u64,
}

impl<'a> AdvisedPart<'a> {
    pub(in crate::view::report) fn of(report: &'a Report) -> Option<Self> {
        let advised: &Advised = report.advice.as_ref()?;
        let blocked_ns = report.total.tally.blocked_ns;
        let top = report.options.top;
        let given = advised.given.iter().take(top);
        Some(AdvisedPart {
            given: given
                .map(|one| AdvicePart::new(&report.summary, one, blocked_ns))
                .collect(),
            more: advised.given.len().saturating_sub(top),
            none: advised.none.map(|none| match none {
                NoAdvice::NoFaults => "no_faults",
                NoAdvice::TooLittle => "too_little",
                NoAdvice::NoEvidence => "no_evidence",
            }),
            least_ns: advised.least_ns,
            faults_beyond: advised.faults_beyond,
            one_page_in: advised.one_page_in,
        })
    }
}

#[derive(Serialize)]
struct AdvicePart<'a> {
    rule: &'static str,
    title: &'static str,
    path: Option<Escaped<'a>>,
    mapping: Option<&'static str>,
    deleted: Option<bool>,
    #[serde(flatten)]
    device: DevicePart<'a>,
    pids: Vec<u32>,
    processes: Option<u64>,
    name: Option<Escaped<'a>>,
    faults: u64,
    blocked_ns: u64,
    gain_at_most_ns: Option<u64>,
    gain_of: &'static str,
    gain_share: Option<f64>,
    gain_how: String,
    evidence: Vec<String>,
    lock_holders: Option<HoldersPart<'a>>,
    only_if: Option<String>,
    actions: Vec<ActionPart>,
    overlaps: &'a [usize],
}

impl<'a> AdvicePart<'a> {
    fn new(summary: &'a Summary, advice: &'a Advice, blocked_ns: u64) -> Self {
        let (file, pids, processes) = match &advice.about {
            About::File {
                file,
                pids,
                processes,
            } => (Some(file), pids.clone(), Some(*processes)),
            About::Process(pid) => (None, vec![*pid], Some(1)),
            About::Device(_) | About::Machine => (None, Vec::new(), None),
        };
        let device = match &advice.about {
            About::Device(device) => Some(device),
            _ => None,
        };
        let only = pids.first().filter(|_| processes == Some(1));
        let process = only.and_then(|pid| summary.processes().find(|one| one.pid == Some(*pid)));
        let info = process.and_then(|process| process.info.as_ref());
        AdvicePart {
            rule: advice.rule.as_str(),
            title: words::title(advice.rule),
            path: file
                .and_then(|file| file.path.as_ref())
                .map(|path| Escaped(path.as_bytes())),
            mapping: file
                .and_then(|file| file.mapping)
                .map(crate::model::MappingKind::as_str),
            deleted: file.map(|file| file.deleted),
            device: DevicePart::new(device),
            pids,
            processes,
            name: info.map(|info| Escaped(info.name.as_bytes())),
            faults: advice.faults,
            blocked_ns: advice.blocked_ns,
            gain_at_most_ns: advice.gain.at_most_ns,
            gain_of: match advice.gain.unit {
                Unit::Blocked => "blocked",
                Unit::Wall => "wall",
            },
            gain_share: advice
                .gain
                .at_most_ns
                .filter(|_| advice.gain.unit == Unit::Blocked)
                .and_then(|ns| share(ns, blocked_ns)),
            gain_how: words::how(advice),
            evidence: advice.evidence.iter().map(words::evidence).collect(),
            lock_holders: HoldersPart::of(advice),
            only_if: advice.only_if.map(words::condition),
            actions: advice
                .actions
                .iter()
                .copied()
                .map(ActionPart::new)
                .collect(),
            overlaps: &advice.overlaps,
        }
    }
}

#[derive(Serialize)]
struct ActionPart {
    action: &'static str,
    what: String,
    cost: &'static str,
}

impl ActionPart {
    fn new(action: crate::model::advice::Action) -> Self {
        let actions::Words { name, what, cost } = actions::action(action);
        ActionPart {
            action: name,
            what,
            cost,
        }
    }
}
