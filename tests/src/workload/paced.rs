//! Major faults at a given rate for as long as it is told to: each a read of the disk.

use std::fs::File;
use std::io::{self, BufRead as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::mem::Mapping;
use crate::truth::Counters;
use crate::workload::cold::Part;
use crate::workload::name_thread;
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};

/// How often each thread looks whether it is behind.
const TICK: Duration = Duration::from_millis(10);

/// Touch cold pages at a rate until a line arrives.
#[derive(Debug, clap::Args)]
pub struct PacedArgs {
    /// The file.
    pub file: PathBuf,
    /// Touches a second, of all threads.
    #[arg(long)]
    pub rate: u32,
    /// Threads.
    #[arg(long, default_value_t = 4)]
    pub threads: usize,
}

/// Runs the workload.
pub fn run(args: &PacedArgs) {
    let file = Arc::new(File::open(&args.file).expect("open the file"));
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    let stop = Arc::new(AtomicBool::new(false));
    let each = f64::from(args.rate) / args.threads as f64;
    let workers: Vec<_> = (0..args.threads)
        .map(|index| {
            let part = Part::new(Arc::clone(&file), index, args.threads);
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                name_thread(format!("paced-{index}").as_bytes());
                touch_at_rate(&part, each, &stop)
            })
        })
        .collect();
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("read from the harness");
    stop.store(true, Ordering::Relaxed);
    let touched = workers
        .into_iter()
        .map(|worker| worker.join().expect("a toucher"))
        .sum();
    let mut done = before.done(Vec::new());
    done.figures.insert("touched".to_owned(), touched);
    done_then_exit(&done);
}

/// Touches `rate` pages a second; how many it were. What it could not do in time it does not make
/// up for beyond a second's worth.
fn touch_at_rate(part: &Part, rate: f64, stop: &AtomicBool) -> u64 {
    let (begin, mut touched) = (Instant::now(), 0_u64);
    // Touches that were given up because it was too far behind.
    let mut skipped = 0.0;
    while !stop.load(Ordering::Relaxed) {
        let mapping: Mapping = part.map_cold();
        for page in 0..mapping.pages() {
            loop {
                let due = begin.elapsed().as_secs_f64() * rate - skipped;
                let ahead = touched as f64 - due;
                if -ahead > rate {
                    skipped += -ahead - rate;
                }
                if ahead < 0.0 {
                    break;
                }
                if stop.load(Ordering::Relaxed) {
                    return touched;
                }
                thread::sleep(TICK);
            }
            mapping.touch(page);
            touched += 1;
        }
    }
    touched
}
