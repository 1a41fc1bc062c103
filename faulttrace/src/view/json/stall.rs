//! The record `stall`, and what stalls add up to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::summary::FilePart;
use crate::model::stall::{Meanwhile, Stall, StallFile, StallTotals};
use crate::model::{Cause, PressureOf};

#[derive(Serialize)]
#[serde(tag = "type", rename = "stall")]
pub(super) struct StallLine<'a> {
    #[serde(flatten)]
    stall: StallPart<'a>,
}

impl<'a> StallLine<'a> {
    pub(super) fn new(stall: &'a Stall) -> Self {
        StallLine {
            stall: StallPart::new(stall),
        }
    }
}

#[derive(Serialize)]
struct StallPart<'a> {
    pid: u32,
    time_ns: u64,
    duration_ns: u64,
    over: bool,
    threads: u64,
    max_threads: u64,
    threads_needed: u32,
    files: Vec<FileRow<'a>>,
    other_files_faults: u64,
    causes: BTreeMap<&'static str, u64>,
    meanwhile: Option<MeanwhilePart>,
    no_p_left_ns: Option<u64>,
}

impl<'a> StallPart<'a> {
    fn new(stall: &'a Stall) -> Self {
        StallPart {
            pid: stall.pid,
            time_ns: stall.begin_ns,
            duration_ns: stall.duration_ns,
            over: stall.over,
            threads: stall.threads,
            max_threads: stall.max_threads,
            threads_needed: stall.needed,
            files: stall.files.iter().map(FileRow::new).collect(),
            other_files_faults: stall.other_faults,
            causes: causes(&stall.causes),
            meanwhile: stall.meanwhile.as_ref().map(MeanwhilePart::new),
            no_p_left_ns: stall.no_p_left_ns,
        }
    }
}

pub(super) fn causes(of: &[(Option<Cause>, u64)]) -> BTreeMap<&'static str, u64> {
    let mut causes = BTreeMap::new();
    for (cause, faults) in of {
        *causes
            .entry(cause.unwrap_or(Cause::Unknown).as_str())
            .or_default() += faults;
    }
    causes
}

#[derive(Serialize)]
pub(super) struct FileRow<'a> {
    #[serde(flatten)]
    file: FilePart<'a>,
    faults: u64,
}

impl<'a> FileRow<'a> {
    pub(super) fn new(of: &'a StallFile) -> Self {
        FileRow {
            file: FilePart::new(&of.file),
            faults: of.faults,
        }
    }
}

#[derive(Serialize)]
pub(in crate::view) struct MeanwhilePart {
    time_ns: u64,
    duration_ns: u64,
    samples: u64,
    threads: Option<u32>,
    runnable_share: Option<f64>,
    user_ns: Option<u64>,
    system_ns: Option<u64>,
    blkio_delay_ns: Option<u64>,
    iowait_ns: Option<u64>,
    run_queue: Option<f64>,
    pressure_of: Option<&'static str>,
    memory_some_ns: Option<u64>,
    memory_full_ns: Option<u64>,
    io_some_ns: Option<u64>,
    io_full_ns: Option<u64>,
}

impl MeanwhilePart {
    pub(in crate::view) fn new(of: &Meanwhile) -> Self {
        MeanwhilePart {
            time_ns: of.begin_ns,
            duration_ns: of.duration_ns,
            samples: of.samples,
            threads: of.threads,
            runnable_share: of.share,
            user_ns: of.user_ns,
            system_ns: of.system_ns,
            blkio_delay_ns: of.blkio_ns,
            iowait_ns: of.iowait_ns,
            run_queue: of.run_queue,
            pressure_of: of.pressure_of.map(PressureOf::as_str),
            memory_some_ns: of.memory.map(|waits| waits.some_ns),
            memory_full_ns: of.memory.map(|waits| waits.full_ns),
            io_some_ns: of.io.map(|waits| waits.some_ns),
            io_full_ns: of.io.map(|waits| waits.full_ns),
        }
    }
}

/// Of a process, in its summary.
#[derive(Serialize)]
pub(super) struct StallsPart<'a> {
    threads_needed: Option<u32>,
    count: u64,
    total_ns: u64,
    late_faults: u64,
    longest: Vec<StallPart<'a>>,
}

impl<'a> StallsPart<'a> {
    pub(super) fn new(of: &'a StallTotals) -> Self {
        StallsPart {
            threads_needed: of.needed,
            count: of.count,
            total_ns: of.total_ns,
            late_faults: of.late,
            longest: of.worst.iter().map(|stall| StallPart::new(stall)).collect(),
        }
    }
}
