//! Writes to mapped files that have to wait.

use super::avoid;
use crate::model::advice::{Action, Advice, FileFindings, Rule};

/// By what they wait for.
pub(super) fn writes(file: &FileFindings) -> impl Iterator<Item = Advice> {
    let writes = &file.writes;
    [
        (Rule::DirtyLimit, writes.throttled, Action::DirtyLimits),
        (Rule::StablePage, writes.stable, Action::FewerSyncs),
        (Rule::Journal, writes.journal, Action::Fallocate),
    ]
    .into_iter()
    .filter_map(|(rule, waits, action)| avoid(rule, file.about(), &waits, vec![action]))
}
