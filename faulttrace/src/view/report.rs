//! What people and programs read of a whole trace, and of two compared.
//!
//! Both forms of a report show the same numbers; docs/report-json.md is the schema of the second.

mod json;
#[cfg(test)]
mod samples;
mod text;

pub use json::write_json;
pub use text::write_text;
