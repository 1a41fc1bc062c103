//! Rows of `samples`.

use std::sync::Arc;

use rusqlite::Row;

use super::others::{Other, name};
use crate::model::{Pressure, PressureOf, ProcessCounters, Record, Sample, SystemCounters, Waits};
use crate::trace::rows::absolute;

/// What is read of a row, after its number.
pub(super) const COLUMNS: &str = "pid, time_rel_ns, settled_rel_ns, stall_threads, in_fault, \
     threads, running, disk_sleep, user_ns, system_ns, blkio_ns, iowait_ns, run_queue, pressure, \
     memory_some_ns, memory_full_ns, io_some_ns, io_full_ns";

/// A row, its times still relative.
pub(super) struct Sampled {
    time: i64,
    settled: i64,
    sample: Sample,
}

impl Sampled {
    pub(super) fn record(self, base_ns: u64) -> Record {
        let time_ns = absolute(self.time, base_ns);
        Record::Sample(Arc::new(Sample {
            time_ns,
            // A row can say what it likes; nothing is settled that is still to come.
            settled_ns: absolute(self.settled, base_ns).min(time_ns),
            ..self.sample
        }))
    }
}

/// Reads a row.
pub(super) fn sample(row: &Row<'_>) -> rusqlite::Result<Option<Other>> {
    let count = |index| row.get::<_, Option<u32>>(index);
    let ns = |index| -> rusqlite::Result<_> {
        Ok(row.get::<_, Option<i64>>(index)?.map(i64::cast_unsigned))
    };
    Ok(Some(Other::Sample(Sampled {
        time: row.get(2)?,
        settled: row.get(3)?,
        sample: Sample {
            pid: row.get(1)?,
            time_ns: 0,
            settled_ns: 0,
            stall_threads: row.get(4)?,
            in_fault: row.get(5)?,
            process: ProcessCounters {
                threads: count(6)?,
                running: count(7)?,
                disk_sleep: count(8)?,
                user_ns: ns(9)?,
                system_ns: ns(10)?,
                blkio_ns: ns(11)?,
            },
            system: SystemCounters {
                iowait_ns: ns(12)?,
                run_queue: count(13)?,
            },
            pressure: pressure(row)?,
        },
    })))
}

/// `None` also of a kind that this version does not know.
fn pressure(row: &Row<'_>) -> rusqlite::Result<Option<Pressure>> {
    let of = name(row, 14)?;
    let of = of.and_then(|of| PressureOf::from_name(std::str::from_utf8(of.as_bytes()).ok()?));
    let waits = |some: usize, full: usize| -> rusqlite::Result<_> {
        let ns = |index| row.get::<_, Option<i64>>(index);
        let pair = ns(some)?.zip(ns(full)?);
        Ok(pair.map(|(some, full)| Waits {
            some_ns: some.cast_unsigned(),
            full_ns: full.cast_unsigned(),
        }))
    };
    let (memory, io) = (waits(15, 16)?, waits(17, 18)?);
    Ok(of.map(|of| Pressure { of, memory, io }))
}
