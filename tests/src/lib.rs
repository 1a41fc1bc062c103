//! What the end-to-end tests share: the workloads that fault, the slow file system they fault
//! on, and the harness that runs both next to the tracer and compares what each of them says.
//!
//! Nothing here knows how the tracer works: its only contract is the command line and the JSON
//! records. The ground truth is the workloads' own clock, the kernel's own counters and the
//! file system's own log.

pub mod clock;
pub mod demo;
pub mod endurance;
pub mod frozen;
pub mod harness;
pub mod mem;
pub mod nfs;
pub mod random;
pub mod slowfs;
pub mod truth;
pub mod workload;
