//! What is learnt of the target from outside the programs.

mod elf_files;
pub mod kernel;
mod labels;
pub mod launch;
mod map_reader;
mod maps;
pub mod namespaces;
mod perf_map;
mod space;
pub mod stuck;
mod symbols;
pub mod threads;

pub use labels::{LabelOptions, Labels};
pub use space::FileHint;
