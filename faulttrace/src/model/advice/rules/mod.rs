//! The rules, by what they are about. Each looks at the findings and gives advice, or none; that it
//! is large enough, and does not contradict other advice, is not its job (`settle`).

mod devices;
mod files;
mod go;
mod lock;
mod memory;
mod process;
mod writes;

use super::{About, Action, Advice, Evidence, Findings, Gain, How, Rule, Unit};
use crate::model::summary::Tally;

/// What every rule has to say.
pub(super) fn all(findings: &Findings) -> Vec<Advice> {
    let mut given = Vec::new();
    for file in &findings.files {
        let first = given.len();
        given.extend(files::access(file));
        given.extend(files::again(findings, file));
        given.extend(files::servers(file));
        given.extend(writes::writes(file));
        go::held(file, given.get_mut(first..).unwrap_or_default());
    }
    for process in &findings.processes {
        given.extend(memory::removed(process));
        given.extend(memory::swap(findings, process));
        given.extend(memory::limit(process));
        given.extend(lock::lock(findings, process));
        given.extend(process::waits(process));
        given.extend(process::together(process));
        given.extend(go::stuck(process));
    }
    given.extend(findings.crowded.iter().map(devices::crowded));
    given.extend(memory::machine(findings));
    given
}

/// Advice to avoid all waits of a kind.
fn avoid(rule: Rule, about: About, waits: &Tally, actions: Vec<Action>) -> Option<Advice> {
    (waits.faults > 0).then(|| Advice {
        rule,
        about,
        faults: waits.faults,
        blocked_ns: waits.blocked_ns,
        gain: Gain {
            at_most_ns: Some(waits.blocked_ns),
            unit: Unit::Blocked,
            how: How::All,
        },
        evidence: vec![Evidence::Waits {
            faults: waits.faults,
            max_ns: waits.max_ns,
        }],
        only_if: None,
        actions,
        overlaps: Vec::new(),
    })
}
