//! The record `sample`: what the kernel counts beside the faults.

use serde::Serialize;

use crate::model::Sample;

#[derive(Serialize)]
#[serde(tag = "type", rename = "sample")]
pub(super) struct SampleLine {
    time_ns: u64,
    pid: u32,
    settled_ns: u64,
    stall_threads: u32,
    threads_in_fault: u32,
    threads: Option<u32>,
    threads_running: Option<u32>,
    threads_in_disk_sleep: Option<u32>,
    user_ns: Option<u64>,
    system_ns: Option<u64>,
    blkio_delay_ns: Option<u64>,
    iowait_ns: Option<u64>,
    run_queue: Option<u32>,
    pressure_of: Option<&'static str>,
    memory_some_ns: Option<u64>,
    memory_full_ns: Option<u64>,
    io_some_ns: Option<u64>,
    io_full_ns: Option<u64>,
}

impl SampleLine {
    pub(super) fn new(sample: &Sample) -> Self {
        let (process, system) = (&sample.process, &sample.system);
        let pressure = sample.pressure.as_ref();
        let memory = pressure.and_then(|pressure| pressure.memory);
        let io = pressure.and_then(|pressure| pressure.io);
        SampleLine {
            time_ns: sample.time_ns,
            pid: sample.pid,
            settled_ns: sample.settled_ns,
            stall_threads: sample.stall_threads,
            threads_in_fault: sample.in_fault,
            threads: process.threads,
            threads_running: process.running,
            threads_in_disk_sleep: process.disk_sleep,
            user_ns: process.user_ns,
            system_ns: process.system_ns,
            blkio_delay_ns: process.blkio_ns,
            iowait_ns: system.iowait_ns,
            run_queue: system.run_queue,
            pressure_of: pressure.map(|pressure| pressure.of.as_str()),
            memory_some_ns: memory.map(|waits| waits.some_ns),
            memory_full_ns: memory.map(|waits| waits.full_ns),
            io_some_ns: io.map(|waits| waits.some_ns),
            io_full_ns: io.map(|waits| waits.full_ns),
        }
    }
}
