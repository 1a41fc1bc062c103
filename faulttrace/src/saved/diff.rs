//! `faulttrace diff`: what changed between two traces.

use std::os::unix::ffi::OsStrExt as _;

use super::out;
use super::report::{analyse, text_options};
use crate::cli::{DiffPlan, Format};
use crate::model::analysis::{Options, compare};
use crate::view::report::{self as views, Compared};

/// Compares two traces and prints what changed.
pub fn diff(plan: &DiffPlan) -> anyhow::Result<()> {
    let options = Options {
        top: plan.tables.top,
        advise: false,
        ..Options::default()
    };
    let before = analyse(&plan.before, &plan.select, &options)?;
    let after = analyse(&plan.after, &plan.select, &options)?;
    let found = compare(&before, &after);
    let compared = Compared {
        before_name: plan.before.as_os_str().as_bytes(),
        before: &before,
        after_name: plan.after.as_os_str().as_bytes(),
        after: &after,
        diff: &found,
        top: plan.tables.top,
    };
    let mut text = Vec::new();
    match plan.tables.format {
        Format::Json => views::write_diff_json(&compared, &mut text)?,
        Format::Text => {
            views::write_diff_text(&compared, text_options(plan.tables.color), &mut text);
        }
    }
    out::print(&text)
}
