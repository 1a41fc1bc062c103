//! Feeds a trace to an analysis: one thread reads it, this one counts. Each takes about half of the
//! time.
//!
//! Sites are handed over once, and faults name them by their place in the list of those: counting the
//! references to a site from two threads would cost more than all the rest.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::progress::Progress;
use super::select::Filter;
use crate::model::analysis::Analysis;
use crate::model::summary::{Later, ThreadKey};
use crate::model::{Measure, Record, Site};
use crate::trace::{Item, Order, Result, Trace};

/// How many records are handed over at once.
const BATCH: usize = 4096;
/// How many batches may wait.
const QUEUE: usize = 4;
/// How many sites are remembered; then all are forgotten, and handed over again.
const MAX_SITES: usize = 65_536;

/// What is handed over.
#[derive(Default)]
struct Batch {
    /// The list of sites begins anew.
    anew: bool,
    /// Sites that are new on the list.
    sites: Vec<(u64, Arc<Site>)>,
    steps: Vec<Step>,
}

/// A record.
enum Step {
    /// A fault of the site at this place of the list.
    Fault(usize, Measure),
    Other(Record),
}

/// Feeds all records that the filter takes to the analysis, the last one first.
pub(super) fn fold(
    trace: Trace,
    filter: &mut Filter<'_>,
    progress: &mut Progress,
    analysis: &mut Analysis,
) -> Result<()> {
    let (sender, batches) = sync_channel::<Batch>(QUEUE);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(&trace, filter, sender));
        let mut sites: Vec<(u64, Arc<Site>)> = Vec::new();
        for batch in batches {
            if batch.anew {
                sites.clear();
            }
            sites.extend(batch.sites);
            for step in batch.steps {
                progress.step();
                match step {
                    Step::Fault(place, measure) => {
                        if let Some((id, site)) = sites.get(place) {
                            analysis.fault(*id, site, &measure);
                        }
                    }
                    Step::Other(record) => analysis.other(&record),
                }
            }
        }
        match reader.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The thread that reads.
fn read(trace: &Trace, filter: &mut Filter<'_>, sender: SyncSender<Batch>) -> Result<()> {
    let mut hand = Hand {
        sender,
        places: HashMap::new(),
        batch: Batch::default(),
    };
    // Whose faults are over that are not wanted.
    let mut free = Later::default();
    trace.records_for_totals(Order::NewestFirst, |item| {
        let is_over = match &item {
            Item::Other(Record::Stuck(stuck)) => free.has_faulted(ThreadKey::of(&stuck.facts)),
            _ => false,
        };
        if (filter.takes(&item) && !is_over) || filter.is_sample_beyond(&item) {
            return hand.add(item);
        }
        if let Some(thread) = item.frees() {
            free.faulted(thread);
        }
        ControlFlow::Continue(())
    })?;
    // Whoever does not take it any more has panicked, which is told there.
    let _ = hand.over();
    Ok(())
}

/// Collects what is handed over.
struct Hand {
    sender: SyncSender<Batch>,
    /// Where sites are on the list, by id.
    places: HashMap<u64, usize>,
    batch: Batch,
}

impl Hand {
    fn add(&mut self, item: Item<'_>) -> ControlFlow<()> {
        let step = match item {
            Item::Fault {
                site_id,
                site,
                measure,
            } => Step::Fault(self.place(site_id, site)?, measure),
            Item::Other(record) => Step::Other(record),
        };
        self.batch.steps.push(step);
        if self.batch.steps.len() < BATCH {
            return ControlFlow::Continue(());
        }
        self.over()
    }

    fn place(&mut self, id: u64, site: &Arc<Site>) -> ControlFlow<(), usize> {
        if let Some(place) = self.places.get(&id) {
            return ControlFlow::Continue(*place);
        }
        if self.places.len() >= MAX_SITES {
            self.over()?;
            self.places.clear();
            self.batch.anew = true;
        }
        let place = self.places.len();
        self.places.insert(id, place);
        self.batch.sites.push((id, Arc::clone(site)));
        ControlFlow::Continue(place)
    }

    /// Hands over what there is.
    fn over(&mut self) -> ControlFlow<()> {
        let steps = Vec::with_capacity(BATCH);
        let batch = Batch {
            steps,
            ..Batch::default()
        };
        match self.sender.send(std::mem::replace(&mut self.batch, batch)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
