//! Threads that touch cold pages of a mapped file, each touch timed by the thread itself.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;

use crate::clock::{monotonic_ns, thread_cpu_ns, thread_queued_ns};
use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Touch, Worker};
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};
use crate::workload::{bind_to_cpu, name_thread, tid};

/// Touch cold pages of a file from several threads.
#[derive(Debug, Clone, clap::Args)]
pub struct TouchArgs {
    /// The file; evict it before `go`.
    pub file: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Pages that each thread touches, none touched by two.
    #[arg(long)]
    pub touches: usize,
    /// The first page of the first thread.
    #[arg(long, default_value_t = 0)]
    pub first_page: usize,
    /// Leave readahead on, instead of MADV_RANDOM.
    #[arg(long)]
    pub sequential: bool,
    /// Each page must begin with its own offset, as the slow file system's do.
    #[arg(long)]
    pub verify: bool,
    /// Thread names: this with `-N` after it.
    #[arg(long, default_value = "toucher")]
    pub name: String,
    /// Thread names in hexadecimal, for names that are no text; all threads have this name.
    #[arg(long)]
    pub name_hex: Option<String>,
    /// Bind all threads to this CPU.
    #[arg(long)]
    pub cpu: Option<usize>,
}

impl TouchArgs {
    fn thread_name(&self, index: usize) -> Vec<u8> {
        match &self.name_hex {
            Some(hex) => decode_hex(hex),
            None => format!("{}-{index}", self.name).into_bytes(),
        }
    }
}

fn decode_hex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits
        .map(|pair| byte(pair).expect("pairs of hexadecimal digits"))
        .collect()
}

/// Runs the workload.
pub fn run(args: TouchArgs) {
    let file = File::open(&args.file).expect("open the file");
    let mapping = Mapping::file(&file).expect("map the file");
    // Closing it asks a FUSE server once more: not when the process is killed, but now.
    drop(file);
    let needed = args.first_page + args.threads * args.touches;
    assert!(
        needed <= mapping.pages(),
        "the file has {} pages, not {needed}",
        mapping.pages()
    );
    if !args.sequential {
        mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    }
    let mapping = Arc::new(mapping);
    let args = Arc::new(args);
    let start = Arc::new(Barrier::new(args.threads + 1));
    let (sender, tids) = mpsc::channel();
    let workers: Vec<_> = (0..args.threads)
        .map(|index| {
            let (args, mapping) = (Arc::clone(&args), Arc::clone(&mapping));
            let (start, sender) = (Arc::clone(&start), sender.clone());
            thread::spawn(move || {
                name_thread(&args.thread_name(index));
                if let Some(cpu) = args.cpu {
                    bind_to_cpu(cpu);
                }
                sender.send(tid()).expect("main waits for the ids");
                // Room for the results now: no other fault of ours while it counts.
                let mut touches = Vec::with_capacity(args.touches);
                start.wait();
                let begin = Times::now();
                touch_all(&args, &mapping, index, &mut touches);
                worker(&args, index, &begin, touches)
            })
        })
        .collect();
    let tids = tids.iter().take(args.threads).collect();
    ready_then_go(&ready(tids));
    let before = Counters::now();
    start.wait();
    let threads = workers
        .into_iter()
        .map(|worker| worker.join().expect("a toucher"))
        .collect();
    done_then_exit(&before.done(threads));
}

#[inline(never)]
fn touch_all(args: &TouchArgs, mapping: &Mapping, index: usize, touches: &mut Vec<Touch>) {
    let first = args.first_page + index * args.touches;
    for page in first..first + args.touches {
        touches.push(touch_one(mapping, page, args.verify));
    }
}

/// Touches one page and times it.
#[inline(never)]
pub fn touch_one(mapping: &Mapping, page: usize, verify: bool) -> Touch {
    let begin_ns = monotonic_ns();
    let stamp = mapping.touch(page);
    let end_ns = monotonic_ns();
    let offset = (page * PAGE) as u64;
    assert!(
        !verify || stamp == offset,
        "page {page} begins with {stamp}"
    );
    Touch {
        offset,
        begin_ns,
        end_ns,
        syscall: String::new(),
    }
}

/// This thread's clocks.
struct Times {
    wall_ns: u64,
    cpu_ns: u64,
    queued_ns: u64,
}

impl Times {
    fn now() -> Times {
        Times {
            wall_ns: monotonic_ns(),
            cpu_ns: thread_cpu_ns(),
            queued_ns: thread_queued_ns(),
        }
    }
}

fn worker(args: &TouchArgs, index: usize, begin: &Times, touches: Vec<Touch>) -> Worker {
    let end = Times::now();
    let ran_ns = end.cpu_ns - begin.cpu_ns;
    Worker {
        name: String::from_utf8_lossy(&args.thread_name(index)).into_owned(),
        lost_ns: (end.wall_ns - begin.wall_ns).saturating_sub(ran_ns),
        queued_ns: end.queued_ns - begin.queued_ns,
        ..Worker::here(touches)
    }
}
