//! Reads what the kernel counts of processes and of the machine: plain files of /proc and of the
//! cgroup file system, none of which waits for a target's `mmap_lock`. What waits while a process executes another
//! program is read with patience.
//!
//! Called by the session's sampler alone, a few times a second. What cannot be read is `None`.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::patient_reader::PatientReader;
use super::threads::{self, Stat};
use super::{cgroups, read};
use crate::model::{Pressure, PressureOf, ProcessCounters, SystemCounters, Waits};

/// Of processes with more threads than this it is not asked in which state each of them is.
const MAX_THREADS: u32 = 128;
/// How long a process is taken to stay in its cgroup.
const CGROUP_FOR: Duration = Duration::from_secs(10);

/// How long what is read of one may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is remembered of a process.
#[derive(Debug)]
struct Known {
    /// When it started, clock ticks after boot: the id may be given to another.
    started: u64,
    cgroup: Option<PathBuf>,
    found_at: Instant,
}

/// Reads counters, and remembers where they are.
pub struct CounterReader {
    reader: PatientReader,
    tick_ns: Option<u64>,
    /// Where cgroups of version 2 are mounted.
    cgroups: Option<PathBuf>,
    known: HashMap<u32, Known>,
    round: Round,
}

/// What is the same for all processes, read at most once between two calls of
/// [`CounterReader::system`].
#[derive(Debug, Default)]
struct Round {
    pressure: OnceCell<Option<Pressure>>,
    delay_accounting: OnceCell<bool>,
}

impl CounterReader {
    /// That has read nothing yet.
    pub fn new() -> Self {
        CounterReader {
            reader: PatientReader::without_privileges(),
            tick_ns: tick_ns(),
            cgroups: cgroups::mount(),
            known: HashMap::new(),
            round: Round::default(),
        }
    }

    /// Of the machine, to begin a round of processes with.
    pub fn system(&mut self) -> SystemCounters {
        self.round = Round::default();
        let stat = read(Path::new("/proc/stat")).unwrap_or_default();
        let (iowait_ticks, run_queue) = parse_system(&stat);
        SystemCounters {
            iowait_ns: self.ns(iowait_ticks),
            run_queue,
        }
    }

    /// Of a process: nothing if it has ended, if its id is another's by now, or if reading it hangs.
    pub fn process(&mut self, pid: u32) -> (ProcessCounters, Option<Pressure>) {
        let found = self.reader.ask(pid, PATIENCE, look);
        let Some((stat, states)) = found.flatten() else {
            return Default::default();
        };
        let cgroups = self.cgroups.as_deref();
        let known = self.known.entry(pid).or_insert_with(|| Known {
            started: stat.start_time,
            cgroup: cgroups::of(pid, cgroups),
            found_at: Instant::now(),
        });
        if known.started != stat.start_time {
            return Default::default();
        }
        if known.found_at.elapsed() > CGROUP_FOR {
            known.cgroup = cgroups::of(pid, cgroups);
            known.found_at = Instant::now();
        }
        let of_cgroup = known.cgroup.as_deref().and_then(cgroup_pressure);
        let of_machine = || *self.round.pressure.get_or_init(machine_pressure);
        let pressure = of_cgroup.or_else(of_machine);
        (self.counters(&stat, states), pressure)
    }

    /// Forgets all processes but these.
    pub fn keep_only(&mut self, wanted: impl Fn(u32) -> bool) {
        self.known.retain(|pid, _| wanted(*pid));
    }

    fn counters(&self, stat: &Stat, states: Option<(u32, u32)>) -> ProcessCounters {
        // Without delay accounting the kernel writes 0.
        let blkio_ticks = stat
            .blkio_ticks
            .filter(|ticks| *ticks > 0 || self.has_delay_accounting());
        ProcessCounters {
            threads: Some(stat.threads),
            running: states.map(|(running, _)| running),
            disk_sleep: states.map(|(_, disk_sleep)| disk_sleep),
            user_ns: self.ns(Some(stat.user_ticks)),
            system_ns: self.ns(Some(stat.system_ticks)),
            blkio_ns: self.ns(blkio_ticks),
        }
    }

    fn has_delay_accounting(&self) -> bool {
        let round = &self.round.delay_accounting;
        *round.get_or_init(has_delay_accounting)
    }

    fn ns(&self, ticks: Option<u64>) -> Option<u64> {
        ticks?.checked_mul(self.tick_ns?)
    }
}

impl Default for CounterReader {
    fn default() -> Self {
        CounterReader::new()
    }
}

/// Length of a clock tick as /proc counts them, ns.
fn tick_ns() -> Option<u64> {
    1_000_000_000_u64.checked_div(threads::ticks_per_second()?)
}

/// Sysctl of Linux 5.14; before that, what is counted can be told from a 0 by nobody.
fn has_delay_accounting() -> bool {
    read(Path::new("/proc/sys/kernel/task_delayacct")).is_some_and(|text| text.starts_with(b"1"))
}

/// What `stat` says of a process, and the states of its threads, unless there are too many.
fn look(pid: u32) -> Option<(Stat, Option<(u32, u32)>)> {
    let stat = threads::process_stat(pid).ok()?;
    let states = (stat.threads <= MAX_THREADS).then(|| states(pid)).flatten();
    Some((stat, states))
}

/// How many threads are in the states R and D; `None` if one could not be looked at.
fn states(pid: u32) -> Option<(u32, u32)> {
    let (mut running, mut disk_sleep) = (0, 0);
    for tid in threads::list(pid).ok()? {
        match threads::thread_stat(pid, tid) {
            Ok(stat) => {
                running += u32::from(stat.state == b'R');
                disk_sleep += u32::from(stat.state == b'D');
            }
            // It has just ended.
            Err(threads::Error::NotFound(_)) => {}
            Err(_) => return None,
        }
    }
    Some((running, disk_sleep))
}

/// Clock ticks of iowait of all CPUs, and threads that are runnable.
fn parse_system(stat: &[u8]) -> (Option<u64>, Option<u32>) {
    let line = |key: &str| threads::status_field(stat, key);
    let iowait = line("cpu ").and_then(|cpu| cpu.split_ascii_whitespace().nth(4));
    let running = line("procs_running ");
    (
        iowait.and_then(|ticks| ticks.parse().ok()),
        running.and_then(|count| count.trim().parse().ok()),
    )
}

/// `None` if the cgroup does not count it.
fn cgroup_pressure(directory: &Path) -> Option<Pressure> {
    let [memory, io] = ["memory.pressure", "io.pressure"].map(|name| directory.join(name));
    pressure(PressureOf::Cgroup, &memory, &io)
}

fn machine_pressure() -> Option<Pressure> {
    let [memory, io] = ["/proc/pressure/memory", "/proc/pressure/io"].map(Path::new);
    pressure(PressureOf::System, memory, io)
}

fn pressure(of: PressureOf, memory: &Path, io: &Path) -> Option<Pressure> {
    let [memory, io] = [memory, io].map(|path| parse_waits(&read(path)?));
    (memory.is_some() || io.is_some()).then_some(Pressure { of, memory, io })
}

/// The totals of a pressure file, which are in µs.
fn parse_waits(text: &[u8]) -> Option<Waits> {
    let total = |key: &str| {
        let line = threads::status_field(text, key)?;
        let (_, total) = line.split_once("total=")?;
        total.trim().parse::<u64>().ok()?.checked_mul(1_000)
    };
    Some(Waits {
        some_ns: total("some ")?,
        full_ns: total("full ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_kernel_are_understood() {
        let stat = b"cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\nctxt 9\nprocs_running 3\nprocs_blocked 1\n";
        assert_eq!(parse_system(stat), (Some(50), Some(3)));
        let waits = b"some avg10=6.08 avg60=5.24 avg300=3.68 total=25835178\nfull avg10=0.00 avg60=0.13 avg300=0.36 total=6574288\n";
        let found = parse_waits(waits);
        let expected = Waits {
            some_ns: 25_835_178_000,
            full_ns: 6_574_288_000,
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        assert_eq!(parse_system(b"cpu  1 2 3\nprocs_running x\n"), (None, None));
        assert_eq!(parse_system(b"\xff\0"), (None, None));
        for text in [
            &b""[..],
            b"some total=1\n",
            b"some total=x\nfull total=1\n",
            b"some total=18446744073709551615\nfull total=1\n",
        ] {
            assert_eq!(parse_waits(text), None, "{}", text.escape_ascii());
        }
        let nobody = CounterReader::new().process(u32::MAX);
        assert_eq!(nobody, (ProcessCounters::default(), None));
    }

    #[test]
    fn this_process_is_counted_and_another_with_its_id_is_not() {
        let mut reader = CounterReader::new();
        let pid = std::process::id();
        let (counters, _) = reader.process(pid);
        assert!(counters.threads >= Some(1) && counters.running >= Some(1));
        assert!(counters.user_ns.is_some() && counters.system_ns.is_some());
        assert!(reader.system().run_queue >= Some(1));
        if let Some(known) = reader.known.get_mut(&pid) {
            known.started += 1;
        }
        assert_eq!(reader.process(pid).0, ProcessCounters::default());
        reader.keep_only(|_| false);
        assert!(reader.process(pid).0.threads.is_some());
    }
}
