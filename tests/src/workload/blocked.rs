//! A thread that alternates between two kinds of sleep: in a system call, and in a fault.

use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::mem::Mapping;
use crate::truth::{Counters, Worker};
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};
use crate::workload::tid;
use crate::workload::touch::touch_one;

/// Touch a cold page, then sleep in nanosleep, and so on: only the touches are faults.
#[derive(Debug, clap::Args)]
pub struct AlternateArgs {
    /// The file; evict it before `go`.
    pub file: PathBuf,
    /// Pages to touch.
    #[arg(long)]
    pub touches: usize,
    /// Sleep between touches, ms.
    #[arg(long, default_value_t = 10)]
    pub sleep_ms: u64,
}

/// Runs the workload.
pub fn run(args: &AlternateArgs) {
    let file = File::open(&args.file).expect("open the file");
    let mapping = Mapping::file(&file).expect("map the file");
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    let mut touches = Vec::with_capacity(args.touches);
    ready_then_go(&ready(vec![tid()]));
    let before = Counters::now();
    for page in 0..args.touches {
        touches.push(touch_one(&mapping, page, false));
        thread::sleep(Duration::from_millis(args.sleep_ms));
    }
    let worker = Worker::here(touches);
    done_then_exit(&before.done(vec![worker]));
}
