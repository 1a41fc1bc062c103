//! A process whose `mmap_lock` is held for as long as a file system does not answer: one thread
//! faults and keeps the lock for reading, another waits for it to write, all others behind that.

use std::fs::File;
use std::path::PathBuf;
use std::thread;

use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Worker};
use crate::workload::protocol::{done_then_exit, ready, ready_then_go, wait_line};
use crate::workload::touch::touch_one;
use crate::workload::{name_thread, tid};

/// Touch a page that the slow file system stalls; once told `map`, map and unmap memory.
#[derive(Debug, clap::Args)]
pub struct StallArgs {
    /// The file; its first page stalls.
    pub file: PathBuf,
}

/// Runs the workload.
pub fn run(args: &StallArgs) {
    let file = File::open(&args.file).expect("open the file");
    let mapping = Mapping::file(&file).expect("map the file");
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    drop(file);
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel();
        let mapping = &mapping;
        let victim = scope.spawn(move || {
            name_thread(b"victim");
            tell.send(tid()).expect("main waits");
            gone.recv().expect("main says when");
            Worker::here(vec![touch_one(mapping, 0, false)])
        });
        let victim_tid = told.recv().expect("the victim lives");
        ready_then_go(&ready(vec![victim_tid, tid()]));
        let before = Counters::now();
        go.send(()).expect("the victim waits");
        wait_line("map");
        drop(Mapping::anonymous(PAGE).expect("memory"));
        let worker = victim.join().expect("the victim");
        done_then_exit(&before.done(vec![worker]));
    });
}
