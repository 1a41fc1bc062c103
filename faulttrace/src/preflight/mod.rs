//! Privileges and kernel features: what is there, what is missing, what that costs, how to mend it.
//!
//! `facts` looks at the system, `check` judges without looking, `report` prints. The same checks
//! run before attaching and in `faulttrace doctor`.

mod check;
mod facts;
mod kernel_calls;
mod ladder;
mod report;

use crate::cli::{Color, DoctorPlan, Format, Plan};
use crate::view;
use check::State;
use facts::{Depth, Facts};

/// Checks what a session needs, in a few milliseconds. The error is the failing rows as doctor
/// prints them.
pub fn require(_plan: &Plan) -> Result<(), String> {
    let facts = Facts::gather(std::path::Path::new("/"), Depth::Quick);
    let missing: Vec<_> = check::all(&facts)
        .into_iter()
        .filter(|check| check.state == State::Missing)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(report::failure(&missing))
    }
}

/// Prints everything; `true` if a session can run. `terminal`: the output goes to one.
pub fn doctor(plan: &DoctorPlan, terminal: bool, out: &mut Vec<u8>) -> bool {
    let facts = Facts::gather(std::path::Path::new("/"), Depth::Full);
    let checks = check::all(&facts);
    let jobs = ladder::ladder(&facts);
    let color = plan.color == Color::Always || (plan.color == Color::Auto && terminal);
    match plan.format {
        Format::Text => report::text(&checks, &jobs, color, view::terminal_width(), out),
        Format::Json => report::json(&checks, &jobs, out),
    }
    check::possible(&checks, &jobs)
}
