//! What the fuzz targets share: a trace to begin with, all that is done with one, the parsers of what
//! targets write, and the way from the ring to the views.

mod consume;
pub mod parsers;
pub mod ring;
mod seed;

use std::path::PathBuf;

pub use consume::consume;
pub use seed::seed;

/// A file in memory, of this process.
pub fn scratch(name: &str) -> PathBuf {
    PathBuf::from(format!(
        "/dev/shm/faulttrace-fuzz-{}-{name}",
        std::process::id()
    ))
}
