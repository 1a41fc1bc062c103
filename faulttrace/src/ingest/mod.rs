//! From bytes in the ring to the model's records.
//!
//! Decoding trusts no length and no tag. Naming what was found (files, functions) is asked of
//! `process`; nothing here waits longer than its deadlines.

mod beside;
mod clock;
mod decode;
mod enrich;
mod flags;
mod go_labels;
mod go_starts;
mod goroutine;
mod history;
mod io;
mod kernel_stack;
mod sleep;

pub use beside::Beside;
pub use clock::Clock;
pub use decode::{Decoded, Malformed, decode};
pub use enrich::{Enricher, Stacks, name_of};
