//! What is learnt of the target from outside the programs.

pub mod launch;
pub mod namespaces;
pub mod stuck;
pub mod threads;
