//! What the fuzz targets share: a trace to begin with, and all that is done with one.

mod consume;
mod seed;

use std::path::PathBuf;

pub use consume::consume;
pub use seed::seed;

/// A file in memory, of this process.
pub fn scratch(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/faulttrace-fuzz-{}-{name}", std::process::id()))
}
