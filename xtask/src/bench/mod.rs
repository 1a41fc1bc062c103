//! `cargo xtask bench`: measurements, never tests: machines differ, and are busy.

mod micro;
mod rig;
mod trace;

pub(crate) use micro::micro;
pub(crate) use rig::{Part, rig};
pub(crate) use trace::trace;
