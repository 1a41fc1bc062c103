//! The end of tracing.

use std::time::{Duration, Instant};

use faulttrace_ebpf::counter;

use super::samples::Now;
use super::{Error, Progress, Tracer};
use crate::ingest::Clock;
use crate::model::{Record, Transport};
use crate::process::starting::{self, Alone};

/// How long children are waited for: whoever ends a session waits for it to be over.
const CHILDREN_PATIENCE: Duration = Duration::from_millis(500);

impl Tracer {
    /// Detach, drain, account. The order matters: after detaching nothing is added to the ring, so
    /// that received + lost = emitted can be checked.
    pub(super) fn finish(mut self, mut progress: Progress) -> Result<(), Error> {
        let alone = self.alone(&mut progress)?;
        let before = self.probe.inflight();
        self.bounds.end_ns = Clock::monotonic_ns();
        let now = Now::new(&before, &self.stuck, self.bounds.end_ns);
        self.samples.ask_last(&now);
        self.drain_all(&mut progress)?;
        self.bounds.counts_ending = true;
        self.probe.detach_majors()?;
        self.bounds.majors_over_ns = Some(Clock::monotonic_ns());
        self.accounts.read_ends(&mut self.reader);
        self.probe.detach();
        drop(alone);
        while self.drain(&mut progress)? > 0 {
            self.hand_over(&mut progress);
        }
        // Of what is in there still, nobody can have told the end.
        let mut still = self.probe.inflight();
        for entry in &mut still {
            self.go.complete(entry);
            if let Some(report) = self.stuck.look_last(entry, self.bounds.end_ns) {
                let stuck = self.stuck_report(entry, self.bounds.end_ns, report);
                progress.batch.push(Record::Stuck(stuck));
            }
        }
        self.ask_fills(&mut progress)?;
        self.ask_read_ahead(true, &mut progress)?;
        let now = Now::new(&still, &self.stuck, self.bounds.end_ns);
        self.samples.take_last(&now);
        self.release_samples(0, &mut progress);
        self.tell_losses(&mut progress)?;
        log::info!("the programs counted: {}", progress.told.bookkeeping());
        let accounts = std::mem::take(&mut self.accounts).close();
        progress
            .batch
            .extend(accounts.into_iter().map(Record::Accounting));
        let emitted = progress.told.get(counter::FAULTS_EMITTED);
        let lost = progress.told.get(counter::FAULTS_LOST);
        let transport = Transport {
            emitted,
            received: progress.received,
            lost,
        };
        progress.batch.push(Record::Transport(transport));
        self.hand_over(&mut progress);
        Ok(())
    }

    /// Waits for children to give up their copies of links, which would keep programs attached.
    fn alone(&mut self, progress: &mut Progress) -> Result<Alone, Error> {
        let deadline = Instant::now() + CHILDREN_PATIENCE;
        loop {
            if let Some(alone) = starting::alone(Instant::now() >= deadline) {
                return Ok(alone);
            }
            if self.drain(progress)? == 0 {
                self.rest()?;
            }
            self.hand_over(progress);
        }
    }
}
