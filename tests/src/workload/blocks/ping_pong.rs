//! Two threads on one CPU that wake each other in turn and then sleep: a round is two context switches.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::{Log, block};
use crate::workload::{bind_to_cpu, name_thread};

/// Rounds of a block.
pub(super) const ROUNDS: u64 = 256;

/// Values of the futex: whose turn it is.
const PING: u32 = 0;
const PONG: u32 = 1;
const OVER: u32 = 2;

fn partner(cpu: Option<usize>, work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        name_thread(b"partner");
        if let Some(cpu) = cpu {
            bind_to_cpu(cpu);
        }
        work();
    })
}

/// A byte there, a byte back.
pub(super) fn pipe(cpu: Option<usize>, stop: &AtomicBool, log: &mut Log) {
    let (mut pong_reads, mut ping_writes) = io::pipe().expect("a pipe");
    let (mut ping_reads, mut pong_writes) = io::pipe().expect("a pipe");
    let partner = partner(cpu, move || {
        let mut byte = [0];
        // Until the other end is closed.
        while pong_reads.read(&mut byte).expect("read from a pipe") > 0 {
            pong_writes.write_all(&byte).expect("write to a pipe");
        }
    });
    while !stop.load(Ordering::Relaxed) {
        block(log, || {
            let mut byte = [0];
            for _ in 0..ROUNDS {
                ping_writes.write_all(&byte).expect("write to a pipe");
                ping_reads.read_exact(&mut byte).expect("read from a pipe");
            }
        });
    }
    drop(ping_writes);
    partner.join().expect("the partner");
}

/// One word says whose turn it is.
pub(super) fn futex(cpu: Option<usize>, stop: &AtomicBool, log: &mut Log) {
    let turn = Arc::new(AtomicU32::new(PING));
    let word = Arc::clone(&turn);
    let partner = partner(cpu, move || {
        loop {
            match wait_while(&word, PING) {
                OVER => return,
                _ => hand_over(&word, PING),
            }
        }
    });
    while !stop.load(Ordering::Relaxed) {
        block(log, || {
            for _ in 0..ROUNDS {
                hand_over(&turn, PONG);
                wait_while(&turn, PONG);
            }
        });
    }
    hand_over(&turn, OVER);
    partner.join().expect("the partner");
}

/// Sleeps as long as the word has this value; the new one.
fn wait_while(word: &AtomicU32, value: u32) -> u32 {
    loop {
        let now = word.load(Ordering::Acquire);
        if now != value {
            return now;
        }
        // Woken, changed before it slept, interrupted: the loop looks again.
        // SAFETY: the word outlives the call; without a time-out the kernel reads nothing else.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                value,
                std::ptr::null::<libc::timespec>(),
            )
        };
    }
}

fn hand_over(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    // SAFETY: the word outlives the call; waking reads nothing.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
    assert!(woken >= 0, "futex: {}", io::Error::last_os_error());
}
