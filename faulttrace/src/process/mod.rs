//! process (stub)
