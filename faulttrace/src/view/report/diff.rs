//! Two traces compared, for people and for programs.

mod beside;
mod headline;
mod json;
mod text;

use crate::model::analysis::{Diff, Report};

pub use json::write_diff_json;
pub use text::write_diff_text;

/// Two reports, and what differs.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// What the first one is called: the path of its file.
    pub before_name: &'a [u8],
    /// The first one.
    pub before: &'a Report,
    /// What the second one is called.
    pub after_name: &'a [u8],
    /// The second one.
    pub after: &'a Report,
    /// [`compare`](crate::model::analysis::compare) of the two.
    pub diff: &'a Diff,
    /// Rows of a table.
    pub top: usize,
}
