//! File systems that take no writes for a while: `FIFREEZE` and `FITHAW` (ioctl_fsfreeze(2)).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// Writes everything to the file system's disk and holds back all writes until [`thaw`].
pub fn freeze(directory: &File) -> io::Result<()> {
    control(directory, FIFREEZE)
}

/// Lets writes go on.
pub fn thaw(directory: &File) -> io::Result<()> {
    control(directory, FITHAW)
}

/// A file system that is frozen and thawed in turn until this is dropped: what is on it is slow to write.
pub struct Stutter {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stutter {
    /// Of the file system that the directory is in; frozen and thawed for so long each time.
    pub fn new(directory: &Path, each: Duration) -> Stutter {
        let directory = File::open(directory).expect("open the directory");
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                freeze(&directory).expect("freeze the file system");
                thread::sleep(each);
                thaw(&directory).expect("thaw the file system");
                thread::sleep(each);
            }
        });
        Stutter {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Stutter {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that failed has said so.
            let _failed = thread.join();
        }
    }
}

fn control(directory: &File, request: libc::c_ulong) -> io::Result<()> {
    // SAFETY: neither request looks at its argument.
    let done = unsafe { libc::ioctl(directory.as_raw_fd(), request, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
