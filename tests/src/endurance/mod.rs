//! Long runs: `chaos` and `soak`. Whether the tracer lasts, does not grow, and still counts right.
//!
//! `cargo xtask chaos` and `cargo xtask soak` run them for long, the end-to-end tests for seconds.

pub mod chaos;
pub mod memory;
pub mod soak;
pub mod watched;
