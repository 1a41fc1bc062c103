//! What the user sees: folds over the stream of records that render into a buffer.
//!
//! A view neither writes to a file or terminal nor reads a clock: the session hands it records
//! and the time, and writes out what it put into the buffer. It knows records and nothing of
//! where they came from.

pub mod escape;
