//! A flame graph as SVG: the folded stacks, drawn by inferno.

use std::io::Write;

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{Options, from_lines};

use super::about::About;
use super::bounded::Limits;
use super::folded::Stacks;
use super::{Error, Export};
use crate::model::Record;
use crate::model::summary::Summary;

/// inferno adds the times up in 64 bits; a trace that somebody made up may exceed them.
const MAX_TOTAL: u64 = u64::MAX >> 1;

/// The format.
#[derive(Debug)]
pub(super) struct Flamegraph {
    stacks: Stacks,
    about: About,
}

impl Flamegraph {
    pub(super) fn new() -> Self {
        Flamegraph {
            stacks: Stacks::new(Limits::default()),
            about: About::default(),
        }
    }
}

impl Export for Flamegraph {
    fn record(&mut self, record: &Record, _out: &mut dyn Write) -> Result<(), Error> {
        self.about.see(record);
        if let Record::Fault(fault) = record {
            self.stacks.add(fault);
        }
        Ok(())
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
        let mut left = MAX_TOTAL;
        let lines: Vec<String> = self
            .stacks
            .lines()
            .map(|(stack, blocked_ns)| {
                let blocked_ns = blocked_ns.min(left);
                left -= blocked_ns;
                format!("{stack} {blocked_ns}")
            })
            .collect();
        if lines.is_empty() {
            return Err(match summary.not_selected() {
                0 => Error::NothingBlocked,
                others => Error::NothingSelected(others),
            });
        }
        let mut options = Options::default();
        options.title = "Time blocked in page faults".to_owned();
        options.subtitle = Some(self.about.heading(summary));
        // Blue, as is usual for time off the CPU; the same colours for the same trace.
        options.colors = Palette::Basic(BasicPalette::Io);
        options.deterministic = true;
        // Whole nanoseconds are hard to read, and inferno shows whole numbers.
        options.count_name = "µs blocked".to_owned();
        options.factor = 1e-3;
        from_lines(&mut options, lines.iter().map(String::as_str), out)?;
        Ok(())
    }
}
