//! Minor faults as fast as they come, and CPUs that are never free.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::monotonic_ns;
use crate::mem::Mapping;
use crate::truth::{Counters, Done};
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};
use crate::workload::{bind_to_cpu, name_thread};

/// Map, touch and unmap anonymous memory; says ns per fault.
#[derive(Debug, clap::Args)]
pub struct StormArgs {
    /// Pages in each mapping.
    #[arg(long, default_value_t = 4096)]
    pub pages: usize,
    /// Mappings.
    #[arg(long, default_value_t = 50)]
    pub rounds: usize,
    /// Threads that only spin, so that the storm is preempted.
    #[arg(long, default_value_t = 0)]
    pub spinners: usize,
}

/// Runs the minor-fault storm, in the first thread. No thread begins or ends meanwhile: that would
/// change the address space, and the storm's faults would wait for `mmap_lock`.
pub fn storm(args: &StormArgs) {
    for _ in 0..args.spinners {
        thread::spawn(spin);
    }
    storm_round(args.pages);
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    let fault_ns: u64 = (0..args.rounds).map(|_| storm_round(args.pages)).sum();
    let mut done: Done = before.done(Vec::new());
    let faults = (args.rounds * args.pages) as u64;
    done.figures.insert("faults".to_owned(), faults);
    done.figures
        .insert("ns_per_fault".to_owned(), fault_ns / faults);
    done_then_exit(&done);
}

/// Time of the touches alone, ns.
fn storm_round(pages: usize) -> u64 {
    let mapping = Mapping::anonymous(pages * crate::mem::PAGE).expect("anonymous memory");
    let begin = monotonic_ns();
    for page in 0..pages {
        mapping.write(page, 1);
    }
    monotonic_ns() - begin
}

/// Until the process ends.
fn spin() {
    name_thread(b"spinner");
    loop {
        std::hint::spin_loop();
    }
}

/// Take a CPU away from everybody else, again and again, until the input ends.
#[derive(Debug, clap::Args)]
pub struct HogArgs {
    /// Which CPU.
    #[arg(long)]
    pub cpu: usize,
    /// How long it is taken, ms.
    #[arg(long, default_value_t = 25)]
    pub busy_ms: u64,
    /// How long it is left between, ms.
    #[arg(long, default_value_t = 5)]
    pub idle_ms: u64,
}

/// Runs the hog: a real-time thread, which threads of ordinary priority cannot interrupt.
pub fn hog(args: &HogArgs) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            bind_to_cpu(args.cpu);
            make_real_time();
            while !stop.load(Ordering::Relaxed) {
                let end = Instant::now() + Duration::from_millis(args.busy_ms);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                thread::sleep(Duration::from_millis(args.idle_ms));
            }
        });
        ready_then_go(&ready(Vec::new()));
        done_then_exit(&Counters::now().done(Vec::new()));
        stop.store(true, Ordering::Relaxed);
    });
}

fn make_real_time() {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call; 0 is the calling thread.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    assert_eq!(done, 0, "SCHED_FIFO: {}", std::io::Error::last_os_error());
}
