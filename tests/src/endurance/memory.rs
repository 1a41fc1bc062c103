//! How much memory the tracer has, with its helper, and whether that grows.

use std::fs;
use std::time::{Duration, Instant};

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// The part of a run in which caches fill: not judged.
const WARM_UP: usize = 4;
/// What may come on top of a tenth: pages of the allocator, a helper started anew.
const ALLOWED_KIB: u64 = 4096;

/// Shorter runs do not tell growth from filling.
const JUDGED_AFTER: Duration = Duration::from_secs(240);
/// The most that a tracer may take with the tables of its summary and its caches full.
const MOST_KIB: u64 = 512 * 1024;

/// The resident memory of a process and its descendants, over time.
#[derive(Debug)]
pub struct Memory {
    pid: u32,
    next: Instant,
    samples: Vec<u64>,
}

/// What came of it, KiB.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    /// Median of the first quarter after warming up.
    pub early: u64,
    /// Median of the last quarter.
    pub late: u64,
    /// The most.
    pub most: u64,
    /// How many samples there are.
    pub samples: usize,
}

impl Memory {
    /// Of this process.
    pub fn of(pid: u32) -> Memory {
        Memory {
            pid,
            next: Instant::now(),
            samples: Vec::new(),
        }
    }

    /// Looks, if it is time to.
    pub fn look(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        let family = family(self.pid);
        let sum = family.iter().filter_map(|pid| resident(*pid)).sum();
        if sum > 0 {
            self.samples.push(sum);
        }
    }

    /// How it has grown. Panics if there are too few samples to tell.
    pub fn growth(&self) -> Growth {
        growth(&self.samples)
    }
}

impl Growth {
    /// Panics if it has grown in a run of this length; in a short one, in which caches fill all the
    /// time, if it is more than they may take.
    pub fn check(&self, time: Duration) {
        if time < JUDGED_AFTER {
            assert!(self.most <= MOST_KIB, "too much memory, KiB: {self:?}");
            return;
        }
        let allowed = self.early + self.early / 10 + ALLOWED_KIB;
        assert!(
            self.late <= allowed,
            "the tracer's memory grows, KiB: {self:?}, allowed are {allowed}"
        );
    }
}

fn growth(samples: &[u64]) -> Growth {
    let warm = &samples[samples.len() / WARM_UP..];
    let quarter = warm.len() / 4;
    assert!(quarter >= 3, "too few samples: {}", samples.len());
    Growth {
        early: median(&warm[..quarter]),
        late: median(&warm[warm.len() - quarter..]),
        most: samples.iter().copied().max().expect("samples"),
        samples: samples.len(),
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// A process, its children, and theirs.
pub fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{parent}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
    }
    found
}

/// `VmRSS`, KiB; `None` if it is gone.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_seen_and_a_level_is_none() {
        let level: Vec<u64> = (0..400).map(|at| 50_000 + at % 7).collect();
        growth(&level).check(JUDGED_AFTER);
        let grows: Vec<u64> = (0..400).map(|at| 50_000 + at * 50).collect();
        assert!(std::panic::catch_unwind(|| growth(&grows).check(JUDGED_AFTER)).is_err());
    }

    #[test]
    fn the_family_is_this_process_with_its_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("a child");
        let found = family(std::process::id());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(found.contains(&child.id()) && found.contains(&std::process::id()));
        assert!(resident(std::process::id()).expect("ours") > 0);
    }
}
