//! What is done with saved traces: `report`, `advise`, `replay`, `diff`, `export`. Each opens a trace, hands
//! the records that are wanted to a fold, and writes what it makes of them.

mod diff;
mod export;
mod fold;
mod out;
mod progress;
mod replay;
mod report;
mod select;

pub use diff::diff;
pub use export::export;
pub use replay::replay;
pub use report::{advise, report};

use std::path::Path;

use crate::trace::{State, Trace};
use crate::view::escape::Escaped;

/// Opens a trace, and says on standard error if it was not ended in order.
fn open(path: &Path) -> anyhow::Result<Trace> {
    let trace = Trace::open(path)?;
    let name = Escaped::path(path);
    match &trace.meta().state {
        State::Complete => {}
        State::Recording => log::warn!(
            "{name}: it is still being recorded, or faulttrace was killed: up to its last second may be missing"
        ),
        State::Stopped(why) => log::warn!(
            "{name}: recording stopped early: {}",
            Escaped(why.as_bytes())
        ),
    }
    Ok(trace)
}
