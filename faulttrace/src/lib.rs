//! faulttrace: which threads of a process are stuck in page faults, on which file and offset, in
//! which code, for how long, and why.
//!
//! The logic is a library so that tests can call it; the binary parses, runs and maps exit codes.

mod bpf_call;
pub mod cli;
pub mod export;
pub mod ingest;
pub mod memory;
pub mod model;
pub mod preflight;
pub mod privileges;
pub mod probe;
pub mod process;
pub mod saved;
pub mod session;
pub mod trace;
pub mod view;
