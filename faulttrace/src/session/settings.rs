//! From what the user wants to how the programs are to behave.

use std::time::Duration;

use super::targets::Chosen;
use crate::cli::Plan;
use crate::probe::Settings;
use crate::process::namespaces;

/// How long a fault lasts when its thread is first shown as stuck.
pub(super) fn stuck_after(plan: &Plan) -> Duration {
    plan.stuck_after.max(plan.min_duration.unwrap_or_default())
}

/// How its programs are to behave.
pub(super) fn settings(plan: &Plan, chosen: &Chosen) -> Settings {
    let min_duration = plan.min_duration.unwrap_or_default();
    Settings {
        filter: chosen.filter(plan.follow),
        min_duration,
        // Whoever was shown as stuck is shown to come free.
        min_minor_duration: if plan.major_only {
            stuck_after(plan)
        } else {
            min_duration
        },
        ring_bytes: plan.ring_bytes,
        max_stacks: plan.max_stacks,
        pid_namespace: namespaces::own_if_not_initial().unwrap_or(0),
        light: plan.light,
        evictions: plan.evictions,
        io: plan.io,
        forced: plan.forced,
        verbose: plan.verbose,
    }
}
