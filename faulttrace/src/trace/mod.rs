//! Saved traces: the records of a session in a SQLite database, and back.
//!
//! The writer stores what the live views were given, the reader yields the same records again, so
//! that a view cannot tell which of both it shows. A trace that somebody else wrote is hostile
//! input: the reader checks what it opens, bounds what it remembers and never trusts a number.

mod error;
mod file;
mod reader;
mod rows;
pub mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{Error, Result};
pub use reader::{Item, Meta, Order, State, Trace};
pub use writer::{Options, Saved, Writer, Written};
