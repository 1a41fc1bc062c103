//! Memory mappings whose pages a workload touches on purpose.
//!
//! The only module (besides the userfaultfd workload and the system calls of `kernel_mode`) that
//! needs raw memory, so that the workloads themselves read as what they do.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsRawFd;
use std::ptr;

/// The page size that all offsets of the tests assume, bytes.
pub const PAGE: usize = 4096;
/// A huge page of x86_64, and of arm64 with pages of 4 KiB, bytes.
pub const HUGE_PAGE: usize = 2 << 20;

/// Keeps in memory all that is mapped now, so that of what the process maps, only what comes later can
/// be taken away (mlockall(2)).
pub fn keep_what_is_mapped() -> io::Result<()> {
    // SAFETY: takes no pointers.
    match unsafe { libc::mlockall(libc::MCL_CURRENT) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One `mmap`ed range, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: *mut u8,
    len: usize,
}

// SAFETY: the range belongs to this value alone, all access is volatile and by page, and every
// workload that writes gives each thread pages of its own.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the whole file or block device, shared and read-only.
    pub fn file(mut file: &File) -> io::Result<Mapping> {
        // Of a device, the metadata do not tell it.
        let len = file.seek(SeekFrom::End(0))?;
        let len = usize::try_from(len).expect("fits the address space");
        Self::map(len, libc::PROT_READ, libc::MAP_SHARED, Some(file), 0)
    }

    /// Maps some pages of the file, shared and read-only. Of huge pages, it reserves none.
    pub fn file_part(file: &File, first: usize, pages: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        Self::map(
            pages * PAGE,
            libc::PROT_READ,
            flags,
            Some(file),
            first * PAGE,
        )
    }

    /// Maps the whole file, private and writable: writes go to copies.
    pub fn file_private(file: &File) -> io::Result<Mapping> {
        let len = usize::try_from(file.metadata()?.len()).expect("fits the address space");
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        Self::map(len, prot, libc::MAP_PRIVATE, Some(file), 0)
    }

    /// Private anonymous memory without huge pages, so that each page is a fault of its own.
    pub fn anonymous(len: usize) -> io::Result<Mapping> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapping = Self::map(len, prot, flags, None, 0)?;
        mapping.advise(libc::MADV_NOHUGEPAGE)?;
        Ok(mapping)
    }

    /// Private anonymous memory with huge pages wherever the kernel has them.
    pub fn huge(len: usize) -> io::Result<Mapping> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapping = Self::map(len, prot, flags, None, 0)?;
        mapping.advise(libc::MADV_HUGEPAGE)?;
        Ok(mapping)
    }

    /// Shared memory in huge pages of hugetlbfs, which must have been reserved.
    pub fn hugetlb(len: usize) -> io::Result<Mapping> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        Self::map(len, prot, flags, None, 0)
    }

    /// Maps the whole file, shared and writable.
    pub fn file_shared(file: &File) -> io::Result<Mapping> {
        let len = usize::try_from(file.metadata()?.len()).expect("fits the address space");
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        Self::map(len, prot, libc::MAP_SHARED, Some(file), 0)
    }

    fn map(
        len: usize,
        prot: i32,
        flags: i32,
        file: Option<&File>,
        offset: usize,
    ) -> io::Result<Mapping> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let fd = file.map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            base: base.cast(),
            len,
        })
    }

    /// The first page at which a huge one can begin.
    pub fn first_huge_page(&self) -> usize {
        let base = self.base as usize;
        (base.next_multiple_of(HUGE_PAGE) - base) / PAGE
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: the kernel maps nothing of length 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages mapped.
    pub fn pages(&self) -> usize {
        self.len / PAGE
    }

    /// The address of a byte, for system calls.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(
            offset < self.len,
            "offset {offset} is beyond the mapping of {} bytes",
            self.len
        );
        // SAFETY: the offset is inside the mapping.
        unsafe { self.base.add(offset) }
    }

    /// Reads the first eight bytes of a page: at most one page fault.
    #[inline(never)]
    pub fn touch(&self, page: usize) -> u64 {
        let place = self.at(page * PAGE).cast::<u64>();
        // SAFETY: mapped readable, inside, and page-aligned; volatile because the mapping can
        // change under us and because the load is the point.
        unsafe { place.read_volatile() }
    }

    /// Writes the first eight bytes of a page: at most one page fault. The mapping is writable.
    #[inline(never)]
    pub fn write(&self, page: usize, value: u64) {
        let place = self.at(page * PAGE).cast::<u64>();
        // SAFETY: inside and page-aligned; callers write only to writable mappings, each thread
        // to pages of its own.
        unsafe { place.write_volatile(value) }
    }

    /// `madvise` of the whole range.
    pub fn advise(&self, advice: i32) -> io::Result<()> {
        self.advise_pages(0, self.len.div_ceil(PAGE), advice)
    }

    /// `madvise` of some pages.
    pub fn advise_pages(&self, first: usize, pages: usize, advice: i32) -> io::Result<()> {
        let start = self.at(first * PAGE);
        let len = (pages * PAGE).min(self.len - first * PAGE);
        // SAFETY: the range is ours; the advices used drop or populate pages, and no reference
        // into the mapping exists.
        let done = unsafe { libc::madvise(start.cast(), len, advice) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Makes pages present without changing them: `MADV_POPULATE_READ`, or before kernel 5.14
    /// (commit 4ca9b3859dac) by reading each.
    pub fn populate_read(&self, first: usize, pages: usize) -> io::Result<()> {
        match self.advise_pages(first, pages, libc::MADV_POPULATE_READ) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                for page in first..first + pages {
                    self.touch(page);
                }
                Ok(())
            }
            done => done,
        }
    }

    /// `mprotect` of the whole range.
    pub fn protect(&self, prot: i32) -> io::Result<()> {
        // SAFETY: the range is ours and callers only touch it as `prot` allows.
        let done = unsafe { libc::mprotect(self.base.cast(), self.len, prot) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// How many of the pages are in memory (for a file: in the page cache).
    pub fn resident(&self) -> io::Result<usize> {
        let mut pages = vec![0_u8; self.len.div_ceil(PAGE)];
        // SAFETY: the vector has one byte for each page of the range.
        let done = unsafe { libc::mincore(self.base.cast(), self.len, pages.as_mut_ptr()) };
        if done == 0 {
            Ok(pages.iter().filter(|page| **page & 1 == 1).count())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and is unmapped once.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}
