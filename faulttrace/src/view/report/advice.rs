//! Advice, for people and for programs: at the end of a report, or by itself.
//!
//! docs/advice.md tells which rule gives it when; docs/report-json.md is the schema.

mod actions;
mod holders;
mod json;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub(super) use json::AdvisedPart;
pub use json::write_advice_json;
pub(super) use text::section;
pub use text::write_advice_text;
