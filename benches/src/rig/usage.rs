//! What a tracer uses, from /proc: CPU time and memory of all its processes.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// The process and its descendants. Others that end or begin meanwhile may be missed.
fn family(pid: u32) -> BTreeSet<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, parent(process)?)))
        .collect();
    let mut family = BTreeSet::from([pid]);
    loop {
        let before = family.len();
        let children = all.iter().filter(|(_, parent)| family.contains(parent));
        let children: Vec<_> = children.map(|(process, _)| *process).collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4)
}

/// A field of /proc/PID/stat, numbered as in proc(5), after the name.
fn stat_field<T: std::str::FromStr>(pid: u32, number: usize) -> Option<T> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

/// How many major faults the kernel has counted for a process.
pub(crate) fn majors(pid: u32) -> anyhow::Result<u64> {
    stat_field(pid, 12).ok_or_else(|| anyhow!("/proc/{pid}/stat has no maj_flt: did it end?"))
}

/// CPU time so far of a process, its living threads, and its descendants, ns: from schedstat, which
/// counts ns where /proc/PID/stat counts ticks.
pub(crate) fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for process in family(pid) {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let ran = text.split(' ').next().and_then(|ran| ran.parse().ok());
            sum += ran.unwrap_or(0_u64);
        }
    }
    anyhow::ensure!(
        sum > 0,
        "/proc/{pid}/task/*/schedstat says nothing: this kernel has no CONFIG_SCHED_INFO, or the process ended"
    );
    Ok(sum)
}

/// CPU time of all children that have ended and were waited for, with theirs.
pub(crate) fn ended_children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// Memory of a process and its descendants, KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident.
    pub(crate) resident: u64,
    /// Of that, neither files nor shared: what it allocated.
    pub(crate) anonymous: u64,
    /// The most that was ever resident, each process at its own peak.
    pub(crate) peak: u64,
}

/// Of all processes of a tracer, now.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let mut sum = Memory::default();
    for process in family(pid) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        sum.resident += kib(&status, "VmRSS:").unwrap_or(0);
        sum.anonymous += kib(&status, "RssAnon:").unwrap_or(0);
        sum.peak += kib(&status, "VmHWM:").unwrap_or(0);
    }
    anyhow::ensure!(
        sum.resident > 0,
        "/proc/{pid}/status has no VmRSS: did it end?"
    );
    Ok(sum)
}

/// A figure of /proc/PID/status.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        assert!(family(me).contains(&me));
        assert!(memory(me).unwrap().resident > 0);
        assert_eq!(stat_field(me, 4), Some(std::os::unix::process::parent_id()));
    }

    #[test]
    fn figures_are_found_by_their_name() {
        let status = "VmHWM:\t    9 kB\nVmRSS:\t    7 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(7));
        assert_eq!(kib(status, "RssAnon:"), None);
    }

    #[test]
    fn who_has_ended_uses_nothing() {
        assert!(memory(u32::MAX).is_err());
        assert!(majors(u32::MAX).is_err());
    }
}
