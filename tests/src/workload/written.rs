//! Writes to pages of a mapped file that have to wait: for the page, which is just being written to a
//! disk that does not answer; for the journal, which is; or for the file system itself, which is frozen.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::frozen;
use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::touch::touch_asking;
use crate::workload::{name_thread, tid};

/// Write to pages of a mapped file while a file system is frozen; says which writes slept.
#[derive(Debug, clap::Args)]
pub struct WrittenArgs {
    /// The file, which must not have holes.
    pub file: PathBuf,
    /// A directory of the file system to freeze: the file's own, or that which its disk is in.
    pub freeze: PathBuf,
    /// What is under way to the disk meanwhile; nothing can be if its own file system is frozen.
    #[arg(long, value_enum)]
    pub writing: Option<Writing>,
    /// Pages.
    #[arg(long, default_value_t = 40)]
    pub pages: usize,
    /// Writes that must have slept until it is enough.
    #[arg(long, default_value_t = 40)]
    pub waits: usize,
    /// How often all pages may be written to for that.
    #[arg(long, default_value_t = 8)]
    pub rounds: usize,
    /// How long it stays frozen after that, ms.
    #[arg(long, default_value_t = 5)]
    pub frozen_ms: u64,
}

/// What is written to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Writing {
    /// The page.
    Page,
    /// The file's inode, by way of the journal.
    Journal,
}

/// For the disk, to have got what it is to write.
const UNDER_WAY: Duration = Duration::from_millis(2);

/// Runs the workload.
pub fn run(args: &WrittenArgs) {
    let open = |path| File::options().read(true).write(true).open(path);
    let file = open(&args.file).expect("open the file");
    let directory = File::open(&args.freeze).expect("open the directory");
    let memory = Mapping::file_shared(&file).expect("map the file");
    // Each page is written to before, so that there is something to write to the disk; to wait for the
    // journal alone takes another page than that.
    let apart = match args.writing {
        Some(Writing::Journal) => args.pages,
        _ => 0,
    };
    memory
        .populate_read(0, args.pages + apart)
        .expect("pages in memory");
    let (frozen, is_frozen) = mpsc::channel();
    let (thawed, is_thawed) = mpsc::channel();
    let mut slept = Vec::with_capacity(args.waits);
    thread::scope(|scope| {
        let delay = Duration::from_millis(args.frozen_ms);
        let (file, directory) = (&file, &directory);
        scope.spawn(move || thaw_each(directory, delay, &is_frozen, &thawed));
        ready_then_go(&ready_to_touch(vec![tid()], &memory));
        let before = Counters::now();
        // Where the disk got nothing to write in time, or was thawed too early, nothing sleeps.
        for page in (0..args.rounds).flat_map(|_| 0..args.pages) {
            if slept.len() >= args.waits {
                break;
            }
            memory.write(page, 1);
            frozen::freeze(directory).expect("freeze the file system");
            frozen.send(()).expect("the other thread lives");
            match args.writing {
                None => {}
                Some(Writing::Page) => start_writeback(file, page),
                Some(Writing::Journal) => {
                    scope.spawn(|| file.sync_all().expect("fsync"));
                    thread::sleep(UNDER_WAY);
                }
            }
            let page = page + apart;
            slept.extend(touch_asking(page, || memory.write(page, 2)));
            is_thawed.recv().expect("the other thread lives");
        }
        drop(frozen);
        done_then_exit(&before.done(vec![Worker::here(slept)]));
    });
}

fn thaw_each(directory: &File, delay: Duration, frozen: &Receiver<()>, thawed: &Sender<()>) {
    name_thread(b"thawer");
    while frozen.recv().is_ok() {
        thread::sleep(delay);
        frozen::thaw(directory).expect("thaw the file system");
        thawed.send(()).expect("the other thread lives");
    }
}

/// Has a page written to the disk, and does not wait for it.
fn start_writeback(file: &File, page: usize) {
    let offset = libc::off64_t::try_from(page * PAGE).expect("an offset");
    let length = libc::off64_t::try_from(PAGE).expect("a length");
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: plain system call on an open descriptor.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
    assert_eq!(done, 0, "sync_file_range");
}
