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
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Pages in each mapping.
    #[arg(long, default_value_t = 4096)]
    pub pages: usize,
    /// Mappings of each thread.
    #[arg(long, default_value_t = 50)]
    pub rounds: usize,
    /// Threads that only spin, so that the others are preempted.
    #[arg(long, default_value_t = 0)]
    pub spinners: usize,
}

/// Runs the minor-fault storm.
pub fn storm(args: &StormArgs) {
    storm_round(args.pages);
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    let stop = AtomicBool::new(false);
    let fault_ns: u64 = thread::scope(|scope| {
        for _ in 0..args.spinners {
            scope.spawn(|| spin_until(&stop));
        }
        let storms: Vec<_> = (0..args.threads)
            .map(|_| {
                scope.spawn(|| {
                    name_thread(b"storm");
                    (0..args.rounds)
                        .map(|_| storm_round(args.pages))
                        .sum::<u64>()
                })
            })
            .collect();
        let total = storms
            .into_iter()
            .map(|storm| storm.join().expect("a storm"))
            .sum();
        stop.store(true, Ordering::Relaxed);
        total
    });
    let mut done: Done = before.done(Vec::new());
    let faults = (args.threads * args.rounds * args.pages) as u64;
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

fn spin_until(stop: &AtomicBool) {
    name_thread(b"spinner");
    while !stop.load(Ordering::Relaxed) {
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
