//! A part of a file that is cold whenever it is mapped again.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use crate::mem::{Mapping, PAGE};

/// One of several equal parts of a file, for one user at a time.
#[derive(Debug)]
pub struct Part {
    file: Arc<File>,
    first: usize,
    pages: usize,
}

impl Part {
    /// The part of this number, of so many.
    pub fn new(file: Arc<File>, index: usize, parts: usize) -> Part {
        let len = file.metadata().expect("stat the file").len();
        let pages = usize::try_from(len).expect("fits the address space") / PAGE / parts;
        assert!(pages > 0, "the file is too small for {parts} parts");
        Part {
            file,
            first: index * pages,
            pages,
        }
    }

    /// Drops the part from the page cache, where nobody has it mapped, and maps it.
    pub fn map_cold(&self) -> Mapping {
        let (offset, len) = (self.first * PAGE, self.pages * PAGE);
        let fd = self.file.as_raw_fd();
        let (offset, length) = (offset as libc::off_t, len as libc::off_t);
        // SAFETY: plain system call on an open descriptor.
        let done = unsafe { libc::posix_fadvise(fd, offset, length, libc::POSIX_FADV_DONTNEED) };
        assert_eq!(done, 0, "posix_fadvise");
        let mapping = Mapping::file_part(&self.file, self.first, self.pages).expect("map the file");
        mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
        mapping
    }

    /// Its length.
    pub fn pages(&self) -> usize {
        self.pages
    }
}
