//! Memory that grows beyond the limit of its memory cgroup.

use crate::mem::{Mapping, PAGE, keep_what_is_mapped};
use crate::truth::{Counters, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::tid;
use crate::workload::touch::touch_asking;

/// Write to fresh anonymous memory, each page once, and again after it was given back; says which
/// writes slept.
#[derive(Debug, clap::Args)]
pub struct GrowArgs {
    /// Pages.
    #[arg(long)]
    pub pages: usize,
    /// Writes that must have slept until it is enough.
    #[arg(long, default_value_t = 40)]
    pub waits: usize,
    /// How often all pages may be written to for that.
    #[arg(long, default_value_t = 20)]
    pub rounds: usize,
}

/// Runs the workload.
pub fn run(args: &GrowArgs) {
    let mut slept = Vec::with_capacity(args.pages + args.waits);
    // Else a write may sleep for the program's own code or data, swapped out for the pages before.
    keep_what_is_mapped().expect("mlockall");
    let memory = Mapping::anonymous(args.pages * PAGE).expect("anonymous memory");
    ready_then_go(&ready_to_touch(vec![tid()], &memory));
    let before = Counters::now();
    for _ in 0..args.rounds {
        for page in 0..args.pages {
            // No two pages alike, or of one byte only: neither zswap nor zero-page detection helps.
            let value = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(page as u64 + 1);
            slept.extend(touch_asking(page, || memory.write(page, value)));
        }
        memory.advise(libc::MADV_DONTNEED).expect("MADV_DONTNEED");
        if slept.len() >= args.waits {
            break;
        }
    }
    done_then_exit(&before.done(vec![Worker::here(slept)]));
}
