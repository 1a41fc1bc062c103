//! A storm: a process that does the same small block of work again and again and logs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use faulttrace_tests::clock::monotonic_ns;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::workload::blocks::{EVENTS, LOGGED_BYTES};

use crate::tools::Tools;

/// One that runs.
pub(crate) struct Storm {
    work: Work,
    log: PathBuf,
    events_per_block: f64,
}

/// A span of `CLOCK_MONOTONIC`, ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) begin_ns: u64,
    pub(crate) end_ns: u64,
}

impl Window {
    /// Lets this much time pass.
    pub(crate) fn pass(length: std::time::Duration) -> Window {
        let begin_ns = monotonic_ns();
        std::thread::sleep(length);
        Window {
            begin_ns,
            end_ns: monotonic_ns(),
        }
    }

    /// Its length, s.
    pub(crate) fn seconds(self) -> f64 {
        (self.end_ns - self.begin_ns) as f64 / 1e9
    }
}

impl Storm {
    /// Starts one: `kind` and its options as `faulttrace-workload blocks` takes them.
    pub(crate) fn start(
        tools: &Tools,
        scratch: &Path,
        kind: &str,
        options: &[String],
    ) -> anyhow::Result<Storm> {
        let log = scratch.join(format!("{kind}.log"));
        let mut command = Command::new(&tools.workload);
        command.args(["blocks", kind]).arg(&log).args(options);
        let work = Work::start_command(&format!("storm {kind}"), &mut command);
        let events = work.ready.places.get(EVENTS);
        let events_per_block = *events.context("the storm does not tell its events")? as f64;
        Ok(Storm {
            work,
            log,
            events_per_block,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.work.pid()
    }

    /// Ends it, for its log.
    pub(crate) fn end(self) -> anyhow::Result<Log> {
        self.work.exit();
        let bytes = std::fs::read(&self.log).with_context(|| self.log.display().to_string())?;
        Log::parse(&bytes, self.events_per_block)
    }
}

/// All blocks of a storm, in order of their beginning.
pub(crate) struct Log {
    blocks: Vec<Block>,
    events_per_block: f64,
}

struct Block {
    begin_ns: u64,
    end_ns: u64,
    ns_per_event: f64,
}

impl Log {
    fn parse(bytes: &[u8], events_per_block: f64) -> anyhow::Result<Log> {
        ensure!(
            bytes.len().is_multiple_of(LOGGED_BYTES),
            "the storm's log is cut: {} bytes",
            bytes.len()
        );
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes);
        let mut blocks = Vec::new();
        for block in bytes.chunks_exact(LOGGED_BYTES) {
            let (begin_ns, took_ns) = (number(&block[8..16])?, number(&block[16..])?);
            blocks.push(Block {
                begin_ns,
                end_ns: begin_ns.saturating_add(took_ns),
                ns_per_event: took_ns as f64 / events_per_block,
            });
        }
        blocks.sort_by_key(|block| block.begin_ns);
        Ok(Log {
            blocks,
            events_per_block,
        })
    }

    /// Events a second in these windows.
    pub(crate) fn rate_in(&self, windows: &[Window]) -> f64 {
        let seconds: f64 = windows.iter().map(|window| window.seconds()).sum();
        self.in_windows(windows).len() as f64 * self.events_per_block / seconds
    }

    /// Times of an event in the blocks that lie in these windows, ns, a mean for each block.
    pub(crate) fn in_windows(&self, windows: &[Window]) -> Vec<f64> {
        let mut values = Vec::new();
        for window in windows {
            let first = self
                .blocks
                .partition_point(|block| block.begin_ns < window.begin_ns);
            let begun = self.blocks[first..].iter();
            values.extend(
                begun
                    .take_while(|block| block.begin_ns < window.end_ns)
                    .filter(|block| block.end_ns <= window.end_ns)
                    .map(|block| block.ns_per_event),
            );
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_count() {
        let blocks = [[0, 100, 50], [1, 90, 20], [0, 160, 50], [0, 220, 1]];
        let bytes: Vec<u8> = blocks
            .iter()
            .flatten()
            .flat_map(|number: &u64| number.to_ne_bytes())
            .collect();
        let log = Log::parse(&bytes, 10.0).unwrap();
        let window = |begin_ns, end_ns| Window { begin_ns, end_ns };
        assert_eq!(log.in_windows(&[window(90, 200)]), [2.0, 5.0]);
        assert_eq!(log.in_windows(&[window(0, 95), window(220, 230)]), [0.1]);
        assert_eq!(log.rate_in(&[window(100, 200)]), 10.0 / 100e-9);
        assert!(Log::parse(&bytes[1..], 10.0).is_err());
    }
}
