//! The clock that workloads, file system and tests have in common.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, ns.
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Unix time, ns.
pub fn unix_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// `CLOCK_THREAD_CPUTIME_ID`: how long the calling thread has run, ns.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// How long the calling thread has waited for a CPU while runnable, ns.
pub fn thread_queued_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("CONFIG_SCHED_INFO");
    let queued = text.split_whitespace().nth(1).expect("run_delay");
    queued.parse().expect("a number")
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).expect("these clocks are always there");
    u64::try_from(now.tv_sec()).expect("time is positive") * 1_000_000_000
        + u64::try_from(now.tv_nsec()).expect("time is positive")
}
