//! Many short-lived threads, a fixed number alive at a time, that take majors only.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use crate::mem::Mapping;
use crate::truth::Counters;
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};

/// Touch every page of a file once, from threads that are created and exit throughout.
#[derive(Debug, clap::Args)]
pub struct ChurnArgs {
    /// The file; evict it before `go`.
    pub file: PathBuf,
    /// Threads alive at a time.
    #[arg(long, default_value_t = 16)]
    pub alive: usize,
    /// Pages each thread touches in its life.
    #[arg(long, default_value_t = 64)]
    pub pages: usize,
}

/// Runs the workload.
pub fn run(args: &ChurnArgs) {
    let file = File::open(&args.file).expect("open the file");
    let mapping = Arc::new(Mapping::file(&file).expect("map the file"));
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    let (sender, finished) = mpsc::channel();
    let mut handles = std::collections::HashMap::new();
    let mut created = 0_u64;
    for first in (0..mapping.pages()).step_by(args.pages) {
        if handles.len() == args.alive {
            join_one(&finished, &mut handles);
        }
        let (mapping, sender) = (Arc::clone(&mapping), sender.clone());
        let pages = first..(first + args.pages).min(mapping.pages());
        let handle = thread::spawn(move || {
            for page in pages {
                mapping.touch(page);
            }
            sender.send(first).expect("main waits");
        });
        handles.insert(first, handle);
        created += 1;
    }
    while !handles.is_empty() {
        join_one(&finished, &mut handles);
    }
    let mut done = before.done(Vec::new());
    done.figures.insert("threads_created".to_owned(), created);
    done.figures
        .insert("pages".to_owned(), mapping.pages() as u64);
    done_then_exit(&done);
}

fn join_one(
    finished: &mpsc::Receiver<usize>,
    handles: &mut std::collections::HashMap<usize, thread::JoinHandle<()>>,
) {
    let key = finished.recv().expect("threads are alive");
    let handle = handles.remove(&key).expect("each finishes once");
    handle.join().expect("a toucher");
}
