//! Anonymous memory that was swapped out and is touched again.

use std::fs;

use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::tid;
use crate::workload::touch::touch_one;

/// Touch anonymous memory that is in swap.
#[derive(Debug, clap::Args)]
pub struct SwapArgs {
    /// Pages.
    #[arg(long, default_value_t = 1024)]
    pub pages: usize,
}

/// Runs the workload.
pub fn run(args: &SwapArgs) {
    let mapping = Mapping::anonymous(args.pages * PAGE).expect("anonymous memory");
    // No two pages alike, or of one byte only: neither zswap nor zero-page detection helps.
    for page in 0..args.pages {
        mapping.write(
            page,
            0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(page as u64 + 1),
        );
    }
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    mapping.advise(libc::MADV_PAGEOUT).expect("MADV_PAGEOUT");
    let swapped = swapped_kb();
    let mut touches = Vec::with_capacity(args.pages);
    ready_then_go(&ready_to_touch(vec![tid()], &mapping));
    let before = Counters::now();
    for page in 0..args.pages {
        touches.push(touch_one(&mapping, page, false));
    }
    let worker = Worker::here(touches);
    let mut done = before.done(vec![worker]);
    done.figures
        .insert("swapped_pages".to_owned(), swapped * 1024 / PAGE as u64);
    done_then_exit(&done);
}

fn swapped_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("VmSwap in /proc/self/status")
}
