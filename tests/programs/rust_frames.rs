//! A Rust program that faults in a generic method of a nested module: names that need demangling.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::AsRawFd;

unsafe extern "C" {
    fn mmap(addr: *mut u8, len: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    fn madvise(addr: *mut u8, len: usize, advice: i32) -> i32;
}

mod store {
    pub struct Table<K> {
        pub base: *const u8,
        pub key: K,
    }

    impl<K: Copy + Into<usize>> Table<K> {
        #[inline(never)]
        pub fn read_record(&self) -> u8 {
            // SAFETY: the key is an offset in the mapping.
            unsafe { self.base.add(self.key.into()).read_volatile() }
        }
    }

    #[inline(never)]
    pub fn lookup_key(base: *const u8, key: usize) -> u8 {
        std::hint::black_box(Table { base, key }.read_record())
    }
}

fn main() {
    let path = std::env::args().nth(1).expect("a file");
    let file = File::open(path).expect("open");
    let len = file.metadata().expect("metadata").len() as usize;
    // SAFETY: a new shared read-only mapping, and advice that changes no content.
    let base = unsafe {
        let base = mmap(std::ptr::null_mut(), len, 1, 1, file.as_raw_fd(), 0);
        assert_eq!(madvise(base, len, 1), 0);
        base
    };
    let pid = std::process::id();
    println!("ready {{\"pid\":{pid},\"tids\":[{pid}],\"places\":{{}}}}");
    let mut lines = io::stdin().lock().lines();
    lines.next();
    for offset in (0..len).step_by(4096) {
        store::lookup_key(base, offset);
    }
    println!("done {{}}");
    while lines.next().is_some() {}
}
