//! A process that must not be reported: it takes minor faults and it blocks, but never both at
//! once.

use std::os::fd::AsRawFd;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::mem::Mapping;
use crate::truth::Counters;
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};

/// Minor faults, then blocking in futex, nanosleep, read and epoll_wait, in one thread: a second
/// one would make faults wait for `mmap_lock`.
#[derive(Debug, clap::Args)]
pub struct QuietArgs {
    /// Rounds; each blocks four times for 2 ms.
    #[arg(long, default_value_t = 100)]
    pub rounds: usize,
}

const NAP: Duration = Duration::from_millis(2);
const BYTES: usize = 256 * 1024;

/// Runs the workload.
pub fn run(args: &QuietArgs) {
    // Once before it counts, so that the program's own code and libraries are in memory.
    round();
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    (0..args.rounds).for_each(|_| round());
    let mut done = before.done(Vec::new());
    let naps = (args.rounds * 4) as u64;
    done.figures
        .insert("blocked_ns".to_owned(), naps * NAP.as_nanos() as u64);
    done_then_exit(&done);
}

/// Before each way to block, minor faults of a new mapping: the last thing a tracer saw of this
/// thread is a fault.
fn round() {
    minor_faults();
    let never = Mutex::new(());
    let guard = never.lock().expect("not poisoned");
    let woken = Condvar::new()
        .wait_timeout(guard, NAP)
        .expect("not poisoned");
    drop(woken);
    minor_faults();
    thread::sleep(NAP);
    minor_faults();
    read_from_timer();
    minor_faults();
    wait_in_epoll();
}

fn minor_faults() {
    let mapping = Mapping::anonymous(BYTES).expect("anonymous memory");
    for page in 0..mapping.pages() {
        mapping.write(page, 1);
    }
}

fn read_from_timer() {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC).expect("a timer");
    timer
        .set(Expiration::OneShot(NAP.into()), TimerSetTimeFlags::empty())
        .expect("set the timer");
    // It is read(2) that waits.
    timer.wait().expect("the timer expires");
}

fn wait_in_epoll() {
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    // SAFETY: plain system call; the descriptor is closed below.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(epoll >= 0, "epoll_create1");
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 0,
    };
    // SAFETY: both descriptors are open, and the event outlives the call.
    let added = unsafe {
        libc::epoll_ctl(
            epoll,
            libc::EPOLL_CTL_ADD,
            reader.as_raw_fd(),
            &raw mut event,
        )
    };
    assert_eq!(added, 0, "epoll_ctl");
    let timeout = i32::try_from(NAP.as_millis()).expect("short");
    // SAFETY: room for the one event asked for.
    let ready = unsafe { libc::epoll_wait(epoll, &raw mut event, 1, timeout) };
    assert_eq!(ready, 0, "nothing is ever written");
    // SAFETY: opened above, closed once.
    unsafe { libc::close(epoll) };
}
