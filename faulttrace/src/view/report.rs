//! What people and programs read of a whole trace, and of two compared.
//!
//! Both forms show the same numbers; docs/report-json.md is the schema of the second.

mod advice;
mod diff;
mod json;
#[cfg(test)]
mod samples;
mod text;

pub use advice::{write_advice_json, write_advice_text};
pub use diff::{Compared, write_diff_json, write_diff_text};
pub use json::write_json;
pub use text::write_text;
