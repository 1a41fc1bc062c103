//! Ps of Go programs.

use crate::model::advice::{
    About, Action, Advice, Evidence, FileFindings, Gain, How, ProcessFindings, Rule, Unit,
};

/// At times no P was left to run a goroutine with.
pub(super) fn stuck(process: &ProcessFindings) -> Option<Advice> {
    let ps = process.ps.as_ref()?;
    Some(Advice {
        rule: Rule::PsStuck,
        about: About::Process(process.pid),
        faults: ps.held.faults,
        blocked_ns: ps.held.blocked_ns,
        gain: Gain {
            // All threads that hold one were asleep in it, but for what they waited for a CPU.
            at_most_ns: Some(ps.totals.full_ns.min(ps.held.blocked_ns)),
            unit: Unit::Wall,
            how: How::NoPLeft,
        },
        evidence: vec![Evidence::Ps(Box::new(ps.clone()))],
        only_if: None,
        actions: vec![
            Action::RaiseGomaxprocs {
                from: ps.procs,
                enough_99: ps.enough_99,
                enough_999: ps.enough_999,
                goroutines: ps.goroutines,
            },
            Action::ReadOffPs,
        ],
        overlaps: Vec::new(),
    })
}

/// Adds to advice about a file that Ps were held meanwhile.
pub(super) fn held(file: &FileFindings, advice: &mut [Advice]) {
    if file.held_ns == 0 {
        return;
    }
    for one in advice {
        one.evidence.push(Evidence::HeldPs {
            held_ns: file.held_ns,
        });
    }
}
