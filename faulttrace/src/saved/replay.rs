//! `faulttrace replay`: the stream of a trace as it was live.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::out::is_broken_pipe;
use super::select::Filter;
use crate::cli::ReplayPlan;
use crate::model::Record;
use crate::model::summary::Summary;
use crate::trace::{Order, Trace};
use crate::view::{self, Show, View};

/// How often views may say what they held back.
const TICK: Duration = Duration::from_millis(50);
/// The clock of records and that of the writer are not the same.
const CLOCKS_DIFFER_NS: u64 = 1_000_000_000;
/// What is rendered is written when there is this much of it.
const WRITE_BYTES: usize = 64 * 1024;

/// Shows a trace.
pub fn replay(plan: &ReplayPlan) -> anyhow::Result<()> {
    let trace = super::open(&plan.file)?;
    let mut filter = Filter::new(&plan.select, &trace)?;
    let show = Show {
        format: plan.format,
        color: plan.color,
        kernel_stacks: plan.kernel_stacks,
        several: several(&trace)?,
    };
    let mut player = Player {
        view: view::on_stdout(show),
        summary: Summary::new(),
        pace: Pace::new(&trace, plan.speed),
        out: Vec::new(),
    };
    match player.play(&trace, plan, &mut filter) {
        Err(Stopped::Reader) => Ok(()),
        Err(Stopped::Output(error)) => Err(error).context("standard output"),
        Err(Stopped::Trace(error)) => {
            // What was readable was shown; the rest is said.
            let _ = player.write();
            Err(error.into())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether the trace is of several processes, so that entries name theirs.
fn several(trace: &Trace) -> anyhow::Result<bool> {
    let targets = &trace.start().targets;
    let [target] = targets.as_slice() else {
        return Ok(true);
    };
    let mut others = false;
    trace.sites(|_, site| others |= site.facts.pid != target.pid)?;
    Ok(others)
}

/// Why it did not get to the end.
enum Stopped {
    /// The reader of the output went away.
    Reader,
    Output(io::Error),
    Trace(crate::trace::Error),
}

struct Player {
    view: Box<dyn View>,
    summary: Summary,
    pace: Pace,
    out: Vec<u8>,
}

impl Player {
    fn play(
        &mut self,
        trace: &Trace,
        plan: &ReplayPlan,
        filter: &mut Filter<'_>,
    ) -> Result<(), Stopped> {
        self.record(&Record::Start(trace.start().clone()))?;
        let mut stopped = None;
        let done = trace.records(Order::OldestFirst, |item| {
            if !filter.takes(&item) {
                if let Some(thread) = item.frees() {
                    self.summary.came_free(thread.tid);
                }
                return ControlFlow::Continue(());
            }
            let record = item.into_record();
            if is_early(&record, plan.stuck_after) {
                self.summary.add_unshown(&record);
                return ControlFlow::Continue(());
            }
            match self.record(&record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(why) => {
                    stopped = Some(why);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(why) = stopped {
            return Err(why);
        }
        done.map_err(Stopped::Trace)?;
        for loss in filter.losses(trace.meta()) {
            self.record(&loss)?;
        }
        self.summary.end_stalls();
        self.show_stalls();
        self.view.finish(&self.summary, &mut self.out);
        self.write()
    }

    /// Shows one record when its time has come.
    fn record(&mut self, record: &Record) -> Result<(), Stopped> {
        if let Some(at_ns) = time_of(record) {
            while self.pace.wait_for(at_ns) {
                self.view.tick(self.pace.now(), &mut self.out);
                self.write()?;
            }
        }
        let now = self.pace.now();
        self.view.tick(now, &mut self.out);
        self.summary.add(record);
        self.view.record(record, now, &mut self.out);
        self.show_stalls();
        if self.out.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Shows the stalls that are known by now.
    fn show_stalls(&mut self) {
        let now = self.pace.now();
        for stall in self.summary.take_stalls() {
            self.view.record(&stall, now, &mut self.out);
        }
    }

    fn write(&mut self) -> Result<(), Stopped> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&self.out).and_then(|()| stdout.flush());
        self.out.clear();
        written.map_err(|error| {
            if is_broken_pipe(&error) {
                Stopped::Reader
            } else {
                Stopped::Output(error)
            }
        })
    }
}

/// A report of a stuck thread that was made before it was stuck for so long.
fn is_early(record: &Record, stuck_after: Option<Duration>) -> bool {
    let Record::Stuck(stuck) = record else {
        return false;
    };
    stuck_after.is_some_and(|after| u128::from(stuck.elapsed_ns) < after.as_nanos())
}

/// When a record was made, Unix time ns, if it says so.
fn time_of(record: &Record) -> Option<u64> {
    match record {
        Record::Start(start) => Some(start.time_ns),
        Record::Fault(fault) => Some(fault.end_ns),
        Record::Stuck(stuck) => stuck.facts.begin_ns?.checked_add(stuck.elapsed_ns),
        Record::ProcessEnd(end) => Some(end.time_ns),
        Record::Sample(sample) => Some(sample.time_ns),
        _ => None,
    }
}

/// The clock of a replay: views fold what came within a second, by the trace's time.
struct Pace {
    begun: Instant,
    start_ns: u64,
    /// Nothing was written later, whatever records say: nobody is to wait for centuries.
    written_ns: u64,
    /// How far the trace is, since its start.
    at: Duration,
    speed: Option<f64>,
}

impl Pace {
    fn new(trace: &Trace, speed: Option<f64>) -> Self {
        Self {
            begun: Instant::now(),
            start_ns: trace.start().time_ns,
            written_ns: trace.meta().written_ns,
            at: Duration::ZERO,
            speed,
        }
    }

    /// The trace's time as views see it.
    fn now(&self) -> Instant {
        self.begun.checked_add(self.at).unwrap_or(self.begun)
    }

    /// Goes towards a time. `true`: not there yet, having waited for a tick.
    fn wait_for(&mut self, at_ns: u64) -> bool {
        let at_ns = at_ns.min(self.written_ns.saturating_add(CLOCKS_DIFFER_NS));
        let wanted = Duration::from_nanos(at_ns.saturating_sub(self.start_ns));
        let Some(speed) = self.speed else {
            self.at = self.at.max(wanted);
            return false;
        };
        let passed = self.begun.elapsed().as_secs_f64() * speed;
        let passed = Duration::try_from_secs_f64(passed).unwrap_or(Duration::MAX);
        if passed >= wanted {
            self.at = self.at.max(wanted);
            return false;
        }
        self.at = self.at.max(passed);
        let left = (wanted - passed).as_secs_f64() / speed;
        let left = Duration::try_from_secs_f64(left).unwrap_or(TICK);
        std::thread::sleep(left.min(TICK));
        true
    }
}
