//! Owns threads, channels and the order of shutdown: detach, drain, join, flush, report.
//!
//! Five threads. The tracer owns the programs and everything learnt of the target; the sampler reads
//! counters for it; the writer
//! blocks on standard output, the recorder on the file of a saved trace; this one waits for signals,
//! timers and records, and never blocks.
//! Channels are bounded: when standard output is slow, the tracer waits, the ring fills, and the
//! programs count what does not fit. The target is never slowed.

mod accounting;
mod attached;
mod failure;
mod output;
mod recorder;
mod run;
mod sampler;
mod screen;
mod settings;
mod signals;
mod start_record;
mod stuck;
mod targets;
mod tracer;

pub use failure::Failure;
pub use run::{Ended, Saving, run};
