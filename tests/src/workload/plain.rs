//! A program without protocol, for `faulttrace -- …`: it works at once, writes what it knows to a
//! file, and ends as it is told.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal};

use crate::mem::Mapping;
use crate::truth::{Counters, Done, Worker};
use crate::workload::touch::touch_one;

/// Touch pages at once, report to a file, exit.
#[derive(Debug, clap::Args)]
pub struct PlainArgs {
    /// The file to touch.
    pub file: PathBuf,
    /// Pages to touch.
    #[arg(long)]
    pub touches: usize,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    pub first_page: usize,
    /// Where to write what it knows, as JSON.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Exit code.
    #[arg(long, default_value_t = 0)]
    pub code: i32,
    /// Do not exit before SIGTERM, SIGUSR1 or SIGHUP arrives; the exit code is then 100 and its
    /// number.
    #[arg(long)]
    pub until_signal: bool,
}

/// Runs it; the exit code.
pub fn run(args: &PlainArgs) -> i32 {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().expect("block signals");
    let done = touch_pages(&args.file, args.first_page, args.touches);
    if let Some(report) = &args.report {
        let json = serde_json::to_vec(&done).expect("the workload's own types become JSON");
        fs::write(report, json).expect("write the report");
    }
    if args.until_signal {
        return 100 + signals.wait().expect("a signal") as i32;
    }
    args.code
}

/// Touches some pages from this thread, without readahead.
pub fn touch_pages(file: &Path, first: usize, touches: usize) -> Done {
    let before = Counters::now();
    let file = File::open(file).expect("open the file");
    let mapping = Mapping::file(&file).expect("map the file");
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    let touched: Vec<_> = (first..first + touches)
        .map(|page| touch_one(&mapping, page, false))
        .collect();
    let worker = Worker::here(touched);
    before.done(vec![worker])
}
