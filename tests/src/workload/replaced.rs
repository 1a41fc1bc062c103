//! A process that executes another program, which closes a file that it has open.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::workload::protocol::{ready, ready_then_go};

/// Executes `true` with a file open.
#[derive(Debug, clap::Args)]
pub struct ReplacedArgs {
    /// The file.
    pub file: PathBuf,
}

/// Runs the workload.
pub fn run(args: &ReplacedArgs) {
    // Closed when a program is executed, like all that the standard library opens.
    let _open = File::open(&args.file).expect("open the file");
    ready_then_go(&ready(Vec::new()));
    let error = Command::new("true").exec();
    panic!("execute true: {error}");
}
