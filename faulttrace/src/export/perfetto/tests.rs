//! The trace is decoded again and read as Perfetto reads it.

mod counters;
mod go;
mod read;
mod sampled;
mod slices;
