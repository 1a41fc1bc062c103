//! What is learnt of the target from outside the programs.
//!
//! Hidden modules are public for `fuzz/` and `benches/` alone, and promise nothing.

#[doc(hidden)]
pub mod build_id;
pub mod caller;
mod cgroups;
pub mod counters;
pub(crate) mod devices;
mod elf_files;
mod elf_names;
#[doc(hidden)]
pub mod go;
pub mod go_programs;
mod goroutines;
pub mod kernel;
mod known_stacks;
mod labels;
pub mod launch;
pub mod life;
mod map_reader;
#[doc(hidden)]
pub mod maps;
pub mod names_helper;
pub mod namespaces;
mod patience;
pub mod patient_reader;
#[doc(hidden)]
pub mod perf_map;
#[doc(hidden)]
pub mod space;
pub mod starting;
pub mod stuck;
mod symbols;
pub mod threads;
#[doc(hidden)]
pub mod unwind;
pub mod user_stack;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;

pub use cgroups::Cgroups;
pub use labels::{Captured, LabelOptions, Labels};
pub use maps::FileId;
pub use space::FileHint;

/// Longest file of the machine's own worth reading: in /proc/stat, a line for each CPU comes behind what is
/// needed.
const MAX_BYTES: u64 = 1 << 20;

/// Reads such a file; `None` if it cannot be read.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Bytes of a page of this machine.
pub fn page_bytes() -> u64 {
    static PAGE: LazyLock<u64> = LazyLock::new(|| {
        let found = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
        found
            .ok()
            .flatten()
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(4096)
    });
    *PAGE
}
