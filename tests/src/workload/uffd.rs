//! Memory whose faults a thread of the same process answers, late: userfaultfd.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::thread;
use std::time::Duration;

use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::touch::touch_one;
use crate::workload::{name_thread, tid};

/// Touch memory whose pages a handler thread provides after a delay.
#[derive(Debug, clap::Args)]
pub struct UffdArgs {
    /// Pages.
    #[arg(long, default_value_t = 50)]
    pub pages: usize,
    /// How long the handler waits before it provides one, ms.
    #[arg(long, default_value_t = 10)]
    pub delay_ms: u64,
}

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

const UFFD_API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_COPY: u64 = 0xc028_aa03;
const REGISTER_MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
/// Size of `struct uffd_msg`, and where the address is in it.
const MESSAGE_LEN: usize = 32;
const MESSAGE_ADDRESS: std::ops::Range<usize> = 16..24;

fn control<T>(uffd: &File, request: u64, argument: &mut T) {
    // SAFETY: the three requests take a pointer to the structs above, which have the kernel's
    // layout and outlive the call.
    let done = unsafe { libc::ioctl(uffd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    assert_eq!(
        done,
        0,
        "userfaultfd ioctl {request:#x}: {}",
        io::Error::last_os_error()
    );
}

fn open(memory: &Mapping) -> File {
    // SAFETY: plain system call that returns a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    assert!(fd >= 0, "userfaultfd: {}", io::Error::last_os_error());
    let fd = i32::try_from(fd).expect("a descriptor");
    // SAFETY: the descriptor is new and owned by nobody else.
    let uffd = unsafe { File::from_raw_fd(fd) };
    control(
        &uffd,
        UFFDIO_API,
        &mut Api {
            api: UFFD_API,
            features: 0,
            ioctls: 0,
        },
    );
    let start = memory.at(0) as u64;
    let len = memory.len() as u64;
    let mut register = Register {
        start,
        len,
        mode: REGISTER_MODE_MISSING,
        ioctls: 0,
    };
    control(&uffd, UFFDIO_REGISTER, &mut register);
    uffd
}

fn answer(mut uffd: &File, pages: usize, delay: Duration) {
    name_thread(b"uffd-handler");
    let source = Mapping::anonymous(PAGE).expect("a page to copy");
    source.write(0, 1);
    for _ in 0..pages {
        let mut message = [0_u8; MESSAGE_LEN];
        uffd.read_exact(&mut message).expect("a message");
        assert_eq!(
            message[0], EVENT_PAGEFAULT,
            "only page faults are asked for"
        );
        let bytes = message[MESSAGE_ADDRESS].try_into().expect("eight bytes");
        let address = u64::from_ne_bytes(bytes);
        thread::sleep(delay);
        let to = address & !(PAGE as u64 - 1);
        let from = source.at(0) as u64;
        control(
            uffd,
            UFFDIO_COPY,
            &mut Copy {
                to,
                from,
                len: PAGE as u64,
                mode: 0,
                copied: 0,
            },
        );
    }
}

/// Runs the workload.
pub fn run(args: &UffdArgs) {
    let memory = Mapping::anonymous(args.pages * PAGE).expect("anonymous memory");
    let uffd = open(&memory);
    let delay = Duration::from_millis(args.delay_ms);
    let mut touches = Vec::with_capacity(args.pages);
    thread::scope(|scope| {
        scope.spawn(|| answer(&uffd, args.pages, delay));
        ready_then_go(&ready_to_touch(vec![tid()], &memory));
        let before = Counters::now();
        for page in 0..args.pages {
            touches.push(touch_one(&memory, page, false));
        }
        let worker = Worker::here(touches);
        done_then_exit(&before.done(vec![worker]));
    });
}
