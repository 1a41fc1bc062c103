//! Threads that touch cold pages of a mapped file, each touch timed by the thread itself.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;

use crate::clock::{monotonic_ns, thread_cpu_ns, thread_queued_ns};
use crate::mem::{Mapping, PAGE};
use crate::random::Random;
use crate::truth::{Counters, Touch, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::{bind_to_cpu, name_thread, sleeps, tid};

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
    /// From one of these pages to the next.
    #[arg(long, default_value_t = 1)]
    pub stride: usize,
    /// The first page of the first thread.
    #[arg(long, default_value_t = 0)]
    pub first_page: usize,
    /// Leave readahead on, instead of MADV_RANDOM.
    #[arg(long)]
    pub sequential: bool,
    /// What to ask of the kernel for the mapping, instead of MADV_RANDOM.
    #[arg(long, value_enum, conflicts_with = "sequential")]
    pub advise: Option<Advise>,
    /// Touch the pages in an order that looks random and follows from this number.
    #[arg(long)]
    pub shuffle: Option<u64>,
    /// How often each thread touches its pages.
    #[arg(long, default_value_t = 1)]
    pub passes: usize,
    /// Map it privately and write: each page is read, and copied.
    #[arg(long, conflicts_with = "verify")]
    pub copy: bool,
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

/// What is asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Advise {
    /// Nothing: the kernel reads ahead as it sees fit.
    None,
    /// MADV_RANDOM.
    Random,
    /// MADV_SEQUENTIAL.
    Sequential,
    /// MADV_WILLNEED of the pages that will be touched, in pieces, after `go`.
    Willneed,
    /// MADV_POPULATE_READ of them, after `go`.
    Populate,
}

/// The kernel reads no more than a window of readahead for each call (128 KiB, unless set to less).
const WILLNEED_PAGES: usize = 32;

impl TouchArgs {
    /// When the mapping is made.
    fn advise_mapping(&self, mapping: &Mapping) {
        let advice = match self.advise {
            None if self.sequential => return,
            None | Some(Advise::Random) => libc::MADV_RANDOM,
            Some(Advise::Sequential) => libc::MADV_SEQUENTIAL,
            Some(Advise::None | Advise::Willneed | Advise::Populate) => return,
        };
        mapping.advise(advice).expect("madvise");
    }

    /// When the work begins, as a part of it.
    fn advise_pages(&self, mapping: &Mapping) {
        let (first, pages) = (self.first_page, self.threads * self.touches * self.stride);
        match self.advise {
            Some(Advise::Willneed) => {
                for at in (0..pages).step_by(WILLNEED_PAGES) {
                    mapping
                        .advise_pages(
                            first + at,
                            WILLNEED_PAGES.min(pages - at),
                            libc::MADV_WILLNEED,
                        )
                        .expect("MADV_WILLNEED");
                }
            }
            Some(Advise::Populate) => mapping
                .advise_pages(first, pages, libc::MADV_POPULATE_READ)
                .expect("MADV_POPULATE_READ"),
            _ => {}
        }
    }

    /// The pages that a thread touches in a pass, in order.
    fn pages(&self, index: usize) -> Vec<usize> {
        let first = self.first_page + index * self.touches * self.stride;
        let pages = (0..self.touches).map(|page| first + page * self.stride);
        let mut pages: Vec<usize> = pages.collect();
        if let Some(seed) = self.shuffle {
            let mut random = Random::new(seed.wrapping_add(index as u64));
            for at in (1..pages.len()).rev() {
                pages.swap(at, random.below(at + 1));
            }
        }
        pages
    }

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
    let map = match args.copy {
        true => Mapping::file_private,
        false => Mapping::file,
    };
    let mapping = map(&file).expect("map the file");
    // Closing it asks a FUSE server once more: not when the process is killed, but now.
    drop(file);
    let needed = args.first_page + args.threads * args.touches * args.stride;
    assert!(
        needed <= mapping.pages(),
        "the file has {} pages, not {needed}",
        mapping.pages()
    );
    args.advise_mapping(&mapping);
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
                let mut touches = Vec::with_capacity(args.touches * args.passes);
                let pages = args.pages(index);
                start.wait();
                let begin = Times::now();
                for _ in 0..args.passes {
                    touch_all(&args, &mapping, &pages, &mut touches);
                }
                worker(&args, index, &begin, touches)
            })
        })
        .collect();
    let tids = tids.iter().take(args.threads).collect();
    ready_then_go(&ready_to_touch(tids, &mapping));
    let before = Counters::now();
    args.advise_pages(&mapping);
    start.wait();
    let threads = workers
        .into_iter()
        .map(|worker| worker.join().expect("a toucher"))
        .collect();
    done_then_exit(&before.done(threads));
}

#[inline(never)]
fn touch_all(args: &TouchArgs, mapping: &Mapping, pages: &[usize], touches: &mut Vec<Touch>) {
    for &page in pages {
        touches.push(match args.copy {
            true => timed(page, || mapping.write(page, 1)),
            false => touch_one(mapping, page, args.verify),
        });
    }
}

/// Touches one page and times it.
#[inline(never)]
pub fn touch_one(mapping: &Mapping, page: usize, verify: bool) -> Touch {
    let mut stamp = 0;
    let touch = timed(page, || stamp = mapping.touch(page));
    assert!(
        !verify || stamp == touch.offset,
        "page {page} begins with {stamp}"
    );
    touch
}

/// Touches one page by an access of this kind; what that was, if the thread slept in it.
pub fn touch_asking(page: usize, access: impl FnOnce()) -> Option<Touch> {
    let before = sleeps();
    let touch = timed(page, access);
    (sleeps() > before).then_some(touch)
}

fn timed(page: usize, access: impl FnOnce()) -> Touch {
    let begin_ns = monotonic_ns();
    access();
    Touch {
        offset: (page * PAGE) as u64,
        begin_ns,
        end_ns: monotonic_ns(),
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
