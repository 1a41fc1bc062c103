//! The clock that workloads, file system and tests have in common.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, ns.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC is always there");
    u64::try_from(now.tv_sec()).expect("time is positive") * 1_000_000_000
        + u64::try_from(now.tv_nsec()).expect("time is positive")
}
